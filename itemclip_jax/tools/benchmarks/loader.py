"""Volumes a second, from the disk to a batch in the memory of the host.

    ours          ArrayRecord shards as `prepare` writes them -> `train_loader`
    published     one float32 array file a volume -> clipped to the window,
                  scaled to 0..1, padded and cropped, standardised, stacked
    plain_read    the bytes of our shards, read in pieces and thrown away

all with as many threads, each in a process of its own, in several rounds of
which the quickest counts. `per_core` is volumes by seconds of a core (user and
system), `volumes_per_s` by seconds of the clock. The volumes are synthetic CT:
soft shapes in air, and the noise of a scanner.

The first pass is not among them, it stands apart: files are opened, memory is
asked for, and ours compares every record with its checksum (`data.shard`).
Afterwards files lie in the page cache, so that the software is measured and not
the disk. With --cold each pass reads from the disk, and seconds of the clock
are what counts.

Ours ships whole numbers: window, scale, standardisation and the cast are the
device's (`ops.intensity`), where they cost nothing beside a step. Crop and flip
stay on the host: a crop is where the copy to the batch begins, which must be
made anyhow, so it makes less to copy and to ship.

Source of the published way: the chest loader of HLIP, Zhao et al. 2025,
https://arxiv.org/abs/2505.21862.
"""

from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import dataclasses
import itertools
import math
import os
import pathlib
import tempfile
import time

from absl import flags
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import loader, memory, record, tokens
from itemclip_jax.data.example import MakeExample
from itemclip_jax.tools.benchmarks import ct_set, fresh

_PIECE = 8 << 20       # bytes of one plain read
_WAYS = ("ours", "published", "plain_read")
# The C library as it comes: ours sets by itself what it wants of it.
_PLAIN = {"GLIBC_TUNABLES": ""}
_MEAN, _DEVIATION = 0.449, 0.226
_LOW, _WIDTH = -1150, 1500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """What is measured; the flags of the same names."""
  volumes: int = 32
  shape: tuple[int, int, int] = (112, 336, 336)
  stored: tuple[int, int, int] = (112, 336, 336)
  threads: int = 1
  batch: int = 8
  prefetch: int = 4
  passes: int = 2
  compression: str = "none"
  cold: bool = False


def define_flags():
  told = {
      "volumes": "Of the set, a multiple of --batch.",
      "threads": "That read, and at most as many cores.",
      "batch": "Volumes of a batch.",
      "prefetch": "Examples that our loader holds ahead (data.prefetch).",
      "passes": "Through the set that are timed, after one that is not."}
  for name, text in told.items():
    flags.DEFINE_integer(name, getattr(Sizes, name), text, lower_bound=1)
  flags.DEFINE_list("shape", list(Sizes.shape), "D,H,W of a volume in a batch.")
  flags.DEFINE_list("stored", None, "D,H,W on the disk, cropped in either way; "
                    "as --shape unless given.")
  flags.DEFINE_enum("compression", Sizes.compression, ["none", "zstd"],
                    "As in data_pipelines.prepare.")
  flags.DEFINE_bool("cold", False, "Drop the files from the page cache before "
                    "every pass.")
  flags.DEFINE_string("folder", None, "Where the files are written and deleted;"
                      " 5 bytes a voxel, the system's temporary folder unless "
                      "given.")
  flags.DEFINE_integer("rounds", 3, "Processes of each way, in turn.",
                       lower_bound=1)


def measure() -> dict:
  given = flags.FLAGS.flag_values_dict()
  shape = tuple(map(int, given["shape"]))
  sizes = Sizes(**{f.name: given[f.name] for f in dataclasses.fields(Sizes)} | {
      "shape": shape, "stored": tuple(map(int, given["stored"] or shape))})
  return compare(sizes, given["folder"], given["rounds"])


def compare(sizes: Sizes, folder: str | None = None, rounds: int = 1) -> dict:
  """All ways on the same volumes; see `measure`."""
  with tempfile.TemporaryDirectory(dir=folder) as folder:
    told = {"folder": folder, "sizes": dataclasses.asdict(sizes)}
    fresh.run(f"{__name__}:write", told)
    # In turn, so that what else the machine does meets all of them.
    runs = [{way: fresh.run(f"{__name__}:{way}", told, environment=_PLAIN)
             for way in _WAYS} for _ in range(rounds)]
  rate = "volumes_per_s" if sizes.cold else "per_core"
  best = {way: max((run[way] for run in runs), key=lambda r: r[rate])
          for way in _WAYS}
  return best | {
      "speedup_per_core": best["ours"]["per_core"]
                          / best["published"]["per_core"],
      "share_of_plain_read": best["ours"][rate] / best["plain_read"][rate],
      "from": "disk" if sizes.cold else "page cache",
      "sizes": dataclasses.asdict(sizes), "machine": fresh.machine()}


def write(folder: str, sizes: dict) -> dict:
  """Both sets: shards by `prepare`, and an array file a volume."""
  sizes, folder = Sizes(**sizes), pathlib.Path(folder)
  (folder / "arrays").mkdir()
  voxels = ct_set.scan(tuple(sizes.stored))
  for number in range(sizes.volumes):
    np.save(folder / "arrays" / f"{number}.npy",
            ct_set.moved(voxels, number).astype(np.float32))
  ct_set.build(folder / "set", count=sizes.volumes, shape=tuple(sizes.stored),
               compression=sizes.compression)
  tokens.train_vocabulary(ct_set.TEXTS, folder / "tokenizer.json", 512)
  for path in folder.rglob("*.*"):  # else it is written while we measure
    if path.is_file():
      with open(path, "rb") as file:
        os.fsync(file.fileno())
  return {}


def ours(folder: str, sizes: dict) -> dict:
  """Batches of `train_loader`."""
  memory.keep_freed(math.prod(sizes["shape"]))   # as `main` does
  sizes, folder = Sizes(**sizes), pathlib.Path(folder)
  split, make_example = _opened(folder, sizes)
  a_pass = sizes.volumes // sizes.batch
  # More than are taken: the last pass, too, reads ahead.
  steps = (sizes.passes + 1) * a_pass + -(-sizes.prefetch // sizes.batch) + 1
  batches = loader.train_loader(split, make_example, steps=steps)
  return _measured(lambda: itertools.islice(batches, a_pass), sizes,
                   _shards(folder))


def published(folder: str, sizes: dict) -> dict:
  """Batches of float32, finished on the host."""
  sizes = Sizes(**sizes)
  files = [pathlib.Path(folder, "arrays", f"{number}.npy")
           for number in range(sizes.volumes)]
  rng = np.random.default_rng(0)

  def load(path: pathlib.Path) -> np.ndarray:
    x = np.load(path)
    x = np.clip((x - _LOW) / _WIDTH, 0, 1)
    x = fitted(x, sizes.shape, rng)
    return (x - _MEAN) / _DEVIATION

  def batches() -> Iterator[dict]:
    for first in range(0, sizes.volumes, sizes.batch):
      loaded = pool.map(load, files[first:first + sizes.batch])
      yield {"volume": np.stack(list(loaded))[:, None]}

  with concurrent.futures.ThreadPoolExecutor(sizes.threads) as pool:
    return _measured(batches, sizes, files)


def fitted(x: np.ndarray, shape: tuple[int, int, int],
           rng: np.random.Generator) -> np.ndarray:
  """Zeros around what is too small, any window of what is too large."""
  slack = np.subtract(x.shape, shape)
  if (slack < 0).any():
    ahead = rng.integers(0, np.maximum(-slack, 0), endpoint=True)
    x = np.pad(x, np.stack([ahead, np.maximum(-slack, 0) - ahead], 1))
  start = rng.integers(0, np.maximum(slack, 0), endpoint=True)
  return x[tuple(slice(s, s + n) for s, n in zip(start, shape))]


def plain_read(folder: str, sizes: dict) -> dict:
  """The same bytes as ours, in pieces, into memory as large as a batch."""
  sizes, files = Sizes(**sizes), _shards(pathlib.Path(folder))
  room = max(sizes.batch * 2 * math.prod(sizes.stored) // _PIECE, 1)
  batch = memoryview(bytearray(room * _PIECE))
  pieces = [(path, at) for path in files
            for at in range(0, path.stat().st_size, _PIECE)]

  def read(number: int):
    (path, at), slot = pieces[number], number % room
    with open(path, "rb", buffering=0) as file:
      file.seek(at)
      file.readinto(batch[slot * _PIECE:(slot + 1) * _PIECE])

  with concurrent.futures.ThreadPoolExecutor(sizes.threads) as pool:
    return _measured(lambda: pool.map(read, range(len(pieces))), sizes, files)


def _opened(folder: pathlib.Path, sizes: Sizes):
  """The set and what makes examples of it."""
  config = schema.defaults()
  config.vision.update(volume_shape=tuple(sizes.shape),
                       patch=tuple(sizes.shape))
  config.data.update(
      root=str(folder / "set"), max_series=1, prefetch=sizes.prefetch,
      num_threads=sizes.threads)
  config.train.global_batch = sizes.batch
  config = schema.from_config_dict(config)
  split = record.open_split(config.data.root, "train", ground_truth=False)
  tokenizer = tokens.Tokenizer(
      folder / "tokenizer.json", max_tokens=config.text.max_tokens,
      vocab_size=config.text.vocab_size)
  return split, MakeExample(config, tokenizer, air=split.contract.air)


def _shards(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted((folder / "set").rglob("*.array_record*"))


def _measured(one_pass: Callable[[], Iterable], sizes: Sizes,
              files: list[pathlib.Path]) -> dict:
  """Cost of passes; the first, which opens files and fills caches, is free."""
  peak, seconds, core_seconds, batch = fresh.Peak(), [], [], None
  for _ in range(sizes.passes + 1):
    if sizes.cold:
      _drop(files)
    clock, core = time.perf_counter(), time.process_time()
    for batch in one_pass():
      pass
    seconds.append(time.perf_counter() - clock)
    core_seconds.append(time.process_time() - core)
  rate = sizes.volumes * sizes.passes / sum(seconds[1:])
  size = sum(path.stat().st_size for path in files) // sizes.volumes
  return {"volumes_per_s": rate,
          "per_core": sizes.volumes * sizes.passes / sum(core_seconds[1:]),
          "first_pass_per_core": sizes.volumes / core_seconds[0],
          "bytes_per_s": size * rate, "bytes_per_volume": size,
          "batch_bytes": batch["volume"].nbytes if batch else 0,
          "peak_bytes": peak.above()}


def _drop(files: list[pathlib.Path]):
  """Takes files that are on the disk out of the page cache."""
  for path in files:
    with open(path, "rb") as file:
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
