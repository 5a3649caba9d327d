"""RSICD: aerial pictures of 30 classes with five sentences each.

    <source>/{train,valid,test}.csv    columns filename, captions, image
        captions   the text of a Python list of one string, five sentences
        image      the text of a Python dict {'bytes': b'...', 'path': ...}
    <source>/large_label.json          optional: list of class numbers of the
                                       first rows of test.csv
    --items=FILE                       optional: { "<row>": ["item", ...] },
                                       captions of train.csv without repeats

The cells are read as literals, never run as code. The items of a row are those
of --items, else its sentences.

Lu et al. 2017, https://arxiv.org/abs/1712.07835; items, prompts and labels: Lyu
et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import ast
import csv
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from data_pipelines import pictures
from data_pipelines.errors import PrepareError

COLUMNS = ("filename", "captions", "image")
CLASSES = (  # by number in large_label.json
    "airport", "bareland", "baseball field", "beach", "bridge", "center",
    "church", "commercial", "dense residential area", "desert", "farmland",
    "forest", "industrial area", "meadow", "medium residential area",
    "mountain", "park", "parking", "playground", "pond", "port",
    "railway station", "resort", "river", "stadium", "school",
    "sparse residential area", "square", "storage tanks", "viaduct")
PROMPTS = ("there is {name}", "the {name}")
_HOLDS = "train.csv, valid.csv and test.csv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""                 # the archive's root
  items: str = ""                  # JSON file of items, see above
  labels: str = ""                 # "" = <source>/large_label.json, if there

  def bytes_needed(self) -> int:
    # A byte of a picture takes three characters of a cell, on average.
    return pictures.total_bytes(_files(self.fetch(None, None)).values()) // 3

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return pictures.root(self, _HOLDS)

  def contract(self):
    return pictures.contract(self)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw  # the same for all copies
    return {name: {"prompts": [p.format(name=name) for p in PROMPTS],
                   "label": name} for name in CLASSES}

  def builder(self, raw, out, workers, log) -> pictures.Pictures:
    items = pictures.read_json(pathlib.Path(self.items), dict,
                               "give another --items") if self.items else {}
    classes = self._classes(raw)
    splits = {}
    for split, path in _files(raw).items():
      make = functools.partial(
          _jobs, split, path, items if split == "train" else {},
          classes if split == "test" else [])
      splits[split] = pictures.Jobs(sum(1 for _ in _rows(path)), make)
    return pictures.builder(splits, out, workers, log)

  def _classes(self, raw: pathlib.Path) -> list[int]:
    path = pathlib.Path(self.labels or raw / "large_label.json")
    if not self.labels and not path.exists():
      return []
    numbers = pictures.read_json(path, list, "give another --labels")
    if all(n in range(len(CLASSES)) for n in numbers):
      return numbers
    raise PrepareError(f"{path} holds class numbers that are not from 0 to "
                       f"{len(CLASSES) - 1}; give another --labels.")


def _files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """split -> CSV file; none at all is an error."""
  found = {s: root / f"{s}.csv" for s in ("train", "valid", "test")}
  found = {s: p for s, p in found.items() if p.exists()}
  if not found:
    raise PrepareError(f"{root} holds none of {_HOLDS}; give the folder of the "
                       "CSV files as --source.")
  return found


def _rows(path: pathlib.Path) -> Iterator[dict[str, str]]:
  """Rows of a CSV file, one in memory at a time."""
  csv.field_size_limit(sys.maxsize)  # a cell holds a whole picture
  with open(path, newline="", encoding="utf-8", errors="replace") as file:
    reader = csv.DictReader(file)
    if missing := sorted(set(COLUMNS) - set(reader.fieldnames or ())):
      raise PrepareError(f"{path} lacks the column {', '.join(missing)}; want "
                         f"{', '.join(COLUMNS)}.")
    yield from reader


def _jobs(split, path, items, classes) -> Iterator[pictures.Job]:
  for number, row in enumerate(_rows(path)):
    known = classes[number] if number < len(classes) else None
    yield pictures.Job(
        split, row["filename"] or f"{split}-{number:05d}",
        f"{path.name}:{number}",
        functools.partial(_load, row["captions"], row["image"],
                          items.get(str(number)), known), CLASSES)


def _load(captions, cell, items, known) -> pictures.Picture:
  """Cells of a row, its items if listed, the number of its class if known."""
  said = _literal(captions, "captions")
  if not isinstance(said, list) or not all(isinstance(s, str) for s in said):
    raise pictures.PictureError("captions is no list of texts")
  encoded = _literal(cell, "image")
  encoded = encoded.get("bytes") if isinstance(encoded, dict) else None
  if not isinstance(encoded, bytes):
    raise pictures.PictureError("image holds no bytes")
  if items is None:
    items = said[0].split(".") if said else []
  elif isinstance(items, list):
    items = [str(item).lower() for item in items]
  labels = {} if known is None else {
      name: int(number == known) for number, name in enumerate(CLASSES)}
  return pictures.Picture(encoded=encoded, items=items, labels=labels)


def _literal(cell: str | None, column: str):
  try:
    return ast.literal_eval(cell or "")
  except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
    raise pictures.PictureError(f"{column} is no Python literal") from error
