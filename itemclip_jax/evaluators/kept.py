"""Encoded studies on disk: the files that one process writes.

    tokens-0.bin     [sum of S N, E] tokens of the real series, one study behind
                     the other, in the type of the matmuls
    image-0.bin      [m, E] float32 global vectors
    studies-0.jsonl  a line a study: its tokens, series, labels and items
    done-0.json      how far the files reach behind every whole batch

What lies behind the last whole batch is cut off when a run goes on.
"""

import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np

from itemclip_jax.data.loader import ITEM_SEPARATOR
from itemclip_jax.evaluators.embed import Features


class Kept:
  """The files of one process."""

  def __init__(self, folder: pathlib.Path, process: int):
    self._folder = folder
    self._path = {name: folder / f"{name}-{process}.{ending}"
                  for name, ending in (("tokens", "bin"), ("image", "bin"),
                                       ("studies", "jsonl"))}
    self._done = folder / f"done-{process}.json"

  def begin(self) -> int:
    """Makes the files; returns the number of batches that are whole."""
    self._folder.mkdir(parents=True, exist_ok=True)
    for path in self._path.values():
      path.touch()
    sizes = self._read_done()["sizes"]
    whole = all(path.stat().st_size >= sizes[-1][name]
                for name, path in self._path.items())
    return len(sizes) - 1 if whole else 0

  def cut(self, batches: int):
    """Forgets what lies behind the first `batches` batches."""
    done = self._read_done()
    done["sizes"] = done["sizes"][:batches + 1]
    for name, path in self._path.items():
      os.truncate(path, done["sizes"][-1][name])
    self._write_done(done)

  def add(self, out: Features, local: dict[str, np.ndarray]):
    """Appends the real rows of a batch."""
    real = local["example_mask"]
    tokens = [t[m] for t, m in zip(out.tokens[real], out.mask[real])]
    lines = [json.dumps({
        "tokens": len(t), "series": int(s.sum()), "labels": x.tolist(),
        "items": str(items).split(ITEM_SEPARATOR) if items else []})
             for t, s, x, items in zip(
                 tokens, local["series_mask"][real], local["labels"][real],
                 local["items"][real])]
    parts = {"tokens": b"".join(t.tobytes() for t in tokens),
             "image": out.image[real].astype(np.float32).tobytes(),
             "studies": "".join(line + "\n" for line in lines).encode()}
    for name, content in parts.items():
      with self._path[name].open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    done = self._read_done()
    self._write_done({
        "dtype": str(out.tokens.dtype), "width": out.tokens.shape[2],
        "sizes": done["sizes"] + [{name: path.stat().st_size
                                   for name, path in self._path.items()}]})

  def _read_done(self) -> dict:
    if self._done.exists():
      return json.loads(self._done.read_text())
    return {"sizes": [dict.fromkeys(self._path, 0)]}

  def _write_done(self, done: dict):
    partial = self._done.with_suffix(".partial")
    partial.write_text(json.dumps(done))
    partial.replace(self._done)

  def size(self) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in self._path.values())

  def read(self) -> tuple[np.ndarray, list[dict]]:
    """Global vectors [m, E] and the lines of this process's m rows."""
    lines = [json.loads(line)
             for line in self._path["studies"].read_text().splitlines()]
    done = self._read_done()
    self._dtype, self._width = jnp.dtype(done["dtype"]), done["width"]
    counts = [line["tokens"] for line in lines]
    self._offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    self._bytes = np.memmap(self._path["tokens"], np.uint8, "r")
    image = np.fromfile(self._path["image"], np.float32)
    return image.reshape(len(lines), self._width), lines

  def tokens(self, place: int) -> np.ndarray:
    """[S N, E] of row number `place`."""
    row = self._width * self._dtype.itemsize
    first, last = self._offsets[place] * row, self._offsets[place + 1] * row
    return self._bytes[first:last].view(self._dtype).reshape(-1, self._width)
