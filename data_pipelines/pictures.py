"""Pictures with captions -> records; what the 2-D data sets share.

A data set says where its pictures are (`Job`: how to load one) and this file
checks them, in worker processes: decoded to the last byte, with one caption at
least. The record holds the bytes as they came. What cannot be used goes to the
log with its reason and costs nothing else.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from itemclip_jax.data import image
from itemclip_jax.data import record

VERSION = "1.0.0"
RECORDS = f"pictures/{VERSION}"        # folder of the shards
Log = Callable[[dict[str, str]], Any]  # takes one line of ingest.jsonl


class PictureError(ValueError):
  """Why one picture cannot be used; goes to ingest.jsonl."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """One picture as an archive holds it.

  Attributes:
    encoded: bytes of a JPEG or PNG.
    items: what is said of it.
    labels: finding -> 0 or 1; those left out are unknown.
    item_findings: the finding that each item speaks of, or None; () = unknown.
    mask: PNG with k + 1 on the pixels that items[k] speaks of; b"" = unknown.
    normal: whether nothing is wrong with what it shows.
    triplets: severity, location and category of each item, "" = not told.
    heatmap: PNG of where an expert looked; b"" = nobody did.
  """
  encoded: bytes
  items: Sequence[str]
  labels: dict[str, int] = dataclasses.field(default_factory=dict)
  item_findings: Sequence[str | None] = ()
  mask: bytes = b""
  normal: bool = False
  triplets: Sequence[tuple[str, str, str]] = ()
  heatmap: bytes = b""


@dataclasses.dataclass(frozen=True)
class Job:
  """One picture to read.

  Attributes:
    split: that it belongs to.
    study: its name, unique in all splits.
    source: where it is, for people.
    load: reads it in a worker process; raises `PictureError`.
    columns: label columns, in order.
    extras: optional features of its set, "triplets" or "heatmap".
  """
  split: str
  study: str
  source: str
  load: Callable[[], Picture]
  columns: tuple[str, ...] = ()
  extras: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Jobs:
  """Jobs of a split, made while they are read, so that memory is bounded."""
  count: int
  make: Callable[[], Iterator[Job]]

  def __len__(self) -> int:
    return self.count

  def __iter__(self) -> Iterator[Job]:
    return self.make()


@dataclasses.dataclass(frozen=True)
class Result:
  """record is None where the picture was rejected, for `reason`."""
  split: str
  study: str
  record: dict[str, Any] | None
  reason: str = ""


def read_file(path: pathlib.Path) -> bytes:
  """Returns the bytes of a file; a missing one is a `PictureError`."""
  try:
    return path.read_bytes()
  except FileNotFoundError as error:
    raise PictureError(f"the file {path.name} is missing") from error
  except OSError as error:
    raise PictureError(f"{path.name} cannot be read ({error.strerror})"
                       ) from error


def refused(split: str, study: str, reason: str) -> Job:
  """A job for what is known to be unusable before it is read."""
  return Job(split, study, "", functools.partial(_refuse, reason))


def _refuse(reason: str):
  raise PictureError(reason)


def make_record(job: Job) -> Result:
  """Reads and checks one picture; never raises for bad data."""
  try:
    picture = job.load()
    items = _checked_items(picture.items)
    size = image.decode(picture.encoded).size
    truth = _ground_truth(picture, items, size, job.columns)
    for extra in job.extras:
      truth |= _EXTRAS[extra](picture, items, size)
  except ValueError as error:  # also a `PictureError`
    return Result(job.split, job.study, None, str(error))
  labels = [picture.labels.get(c, -1) for c in job.columns]
  return Result(job.split, job.study, truth | {
      "study_id": job.study, "patient_id": job.study, "normal": picture.normal,
      "image": np.frombuffer(picture.encoded, np.uint8),
      "series_names": [""], "source": [job.source], "items": items,
      "labels": np.array(labels, np.int8)})


def _checked_items(items: Sequence[str]) -> list[str]:
  """Stripped, without those that are empty."""
  if isinstance(items, str) or not all(isinstance(i, str) for i in items):
    raise PictureError("its captions are not a list of texts")
  kept = [item.strip() for item in items if item.strip()]
  if not kept:
    raise PictureError("it has no caption")
  return kept


def _ground_truth(
    picture: Picture, items: list[str], size: tuple[int, int],
    columns: tuple[str, ...]) -> dict[str, np.ndarray]:
  """Mask and findings of the items; empty where they are unknown."""
  if not picture.mask:
    return {"lesion_mask": np.zeros(0, np.uint8),
            "item_finding": np.zeros(0, np.int32)}
  mask = image.decode_mask(picture.mask)
  if mask.shape != size[::-1] or mask.max() > len(items):
    raise PictureError(
        f"the mask has {mask.shape[::-1]} pixels up to {mask.max()}, want "
        f"{size} and numbers of the {len(items)} captions")
  column = {None: -1} | {c: i for i, c in enumerate(columns)}
  if len(picture.item_findings) != len(items) or not (
      set(picture.item_findings) <= column.keys()):
    raise PictureError(f"its captions speak of {picture.item_findings}; want "
                       f"for each of {len(items)} a finding or none")
  return {"lesion_mask": np.frombuffer(picture.mask, np.uint8),
          "item_finding": np.array(
              [column[f] for f in picture.item_findings], np.int32)}


def _triplets(picture: Picture, items: list[str], size) -> dict[str, list[str]]:
  del size
  if len(picture.triplets) != len(items):
    raise PictureError(f"it has {len(picture.triplets)} triplets, want one for "
                       f"each of {len(items)} captions")
  severity, location, category = (list(x) for x in zip(*picture.triplets))
  return {"severity": severity, "location": location, "category": category}


def _heatmap(picture: Picture, items, size) -> dict[str, np.ndarray]:
  del items
  if picture.heatmap:
    shape = image.decode_mask(picture.heatmap).shape
    if shape != size[::-1]:
      raise PictureError(f"the heatmap has {shape[::-1]} pixels, want {size}")
  return {"heatmap": np.frombuffer(picture.heatmap, np.uint8)}


_EXTRAS = {"triplets": _triplets, "heatmap": _heatmap}


class Pictures(tfds.core.GeneratorBasedBuilder):
  """Writes the records of jobs; rejected pictures go to `log`."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, splits: dict[str, Iterable[Job]], workers: Workers,
               log: Log, extras: tuple[str, ...] = (), **kwargs):
    self._splits, self._workers, self._log = splits, workers, log
    self._extras = extras
    self._split_of = {}  # study -> split
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, features=record.picture_features(self._extras),
        description=__doc__)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split, jobs)
            for split, jobs in self._splits.items()}

  def _generate_examples(
      self, split: str, jobs: Iterable[Job]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    kept, reasons = 0, set()
    for result in self._workers.map(
        make_record, jobs, title=f"{split}: pictures to records"):
      reason = result.reason
      if not reason and result.study in self._split_of:
        reason = ("another picture of this name is in split "
                  f"{self._split_of[result.study]}")
      if reason:
        self._log({"split": split, "study": result.study, "reason": reason})
        reasons.add(reason)
        continue
      self._split_of[result.study] = split
      kept += 1
      yield result.study, result.record
    if not kept:
      some = "; ".join(sorted(reasons)[:5]) or "it names none"
      raise PrepareError(f"No picture of split {split!r} can be used: {some}.")


def builder(
    splits: dict[str, Iterable[Job]], out, workers: Workers, log: Log,
    extras: tuple[str, ...] = ()
) -> Pictures:
  """The TFDS builder of these splits, not yet run; jobs have these `extras`."""
  return Pictures(splits=splits, workers=workers, log=log, extras=extras,
                  data_dir=str(out), file_format="array_record")


def contract(dataset) -> record.Contract:
  """What all pictures are: stored as they came, cropped by the loader."""
  return record.Contract(
      modality="RGB", dtype="uint8", intensity="0..255 of red, green, blue",
      orientation={}, resize=None, shape=None,
      dataset=type(dataset).__module__.rpartition(".")[2], records=RECORDS,
      recipe=dataclasses.asdict(dataset))


def read_json(path: pathlib.Path, kind: type, repair: str):
  """What a JSON file of an archive holds, a `kind`.

  Raises:
    PrepareError: it holds something else or is damaged; ends with `repair`.
  """
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise PrepareError(f"{path} cannot be read ({error}); {repair}.") from error
  if not isinstance(found, kind):
    raise PrepareError(f"{path} holds a JSON {type(found).__name__}, want a "
                       f"{kind.__name__}; {repair}.")
  return found


def root(dataset, holds: str) -> pathlib.Path:
  """The raw archive named by --source."""
  if not dataset.source:
    raise PrepareError("--source is missing; give the folder that holds "
                       f"{holds}.")
  path = pathlib.Path(dataset.source)
  if not path.is_dir():
    raise PrepareError(f"--source={path} is no folder; give the one that holds "
                       f"{holds}.")
  return path


def total_bytes(paths: Iterable[pathlib.Path]) -> int:
  """Of all files, below folders too: shards and the shuffler's copy."""
  files = (f for p in paths for f in (p.rglob("*") if p.is_dir() else [p]))
  return 2 * sum(f.stat().st_size for f in files if f.is_file())
