"""CT volumes -> records; what the CT data sets share.

A data set names its studies (jobs) and the function that makes a record of one
in a worker process; this file runs them and keeps the log.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from data_pipelines.result import Result
from data_pipelines.volumes import ct
from data_pipelines.volumes.ct_study import Job
from itemclip_jax.data import record
from itemclip_jax.data import volume

VERSION = "1.0.0"
RECORDS = f"scans/{VERSION}"           # folder of the shards
Log = Callable[[dict[str, str]], Any]  # takes one line of ingest.jsonl

# Of one stored volume, roughly: 120 x 350 x 350 voxels of two bytes.
_CHEST_BYTES = 30_000_000


class Scans(tfds.core.GeneratorBasedBuilder):
  """Writes the records of jobs; what is left out or mended goes to `log`."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, splits: dict[str, Sequence[Job]],
               make_record: Callable[[Job], Result], dtype, workers: Workers,
               log: Log, extras: Sequence[str] = (), **kwargs):
    self._splits, self._make_record, self._dtype = splits, make_record, dtype
    self._workers, self._log, self._extras = workers, log, extras
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, features=record.features(self._dtype, self._extras),
        description=__doc__)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split, jobs)
            for split, jobs in self._splits.items() if jobs}

  def _generate_examples(
      self, split: str, jobs: Sequence[Job]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    kept, reasons = 0, set()
    for result in self._workers.records(
        self._make_record, jobs, title=f"{split}: volumes to records"):
      for line in result.log:
        self._log(line)
        reasons |= {line["reason"]} if "reason" in line else set()
      if result.record is not None:
        kept += 1
        yield result.study, result.record
    if not kept:
      raise PrepareError(f"None of the {len(jobs)} studies of split {split!r} "
                         f"can be used: {'; '.join(sorted(reasons)[:5])}.")


def builder(splits, make_record, out, workers, log, *, dtype,
            organs: Sequence[str] = ()) -> Scans:
  """The TFDS builder of these splits, not yet run.

  With `organs`, records have masks and texts of these, see record.features;
  their names are written beside the set.

  Raises:
    PrepareError: there is no study, or a patient is in two splits.
  """
  if not any(splits.values()):
    raise PrepareError("The archive holds no volume of this data set; give its "
                       "root as --source.")
  seen = {}
  for split, jobs in splits.items():
    for job in jobs:
      if seen.setdefault(job.patient, split) != split:
        raise PrepareError(
            f"Patient {job.patient!r} is in split {seen[job.patient]!r} and in "
            f"{split!r}; a patient may be in one only, so mend the archive.")
  if organs:
    write_json(pathlib.Path(out) / "organs.json", list(organs))
  return Scans(splits=splits, make_record=make_record, dtype=dtype,
               workers=workers, log=log, data_dir=str(out),
               extras=("organs",) if organs else (),
               file_format="array_record")


def chest_contract(dataset) -> record.Contract:
  """Whole volumes at one spacing, cropped and windowed by the loader."""
  return record.Contract(
      modality="CT", dtype="int16", intensity="Hounsfield units",
      window=volume.CHEST_WINDOW, orientation=ct.ORIENTATION, resize=None,
      shape=None, spacing_mm=ct.SPACING_MM, dataset=_name(dataset),
      records=RECORDS, recipe=dataclasses.asdict(dataset))


def chest_bytes(num_volumes: int) -> int:
  """Shards and the shuffler's copy of them, uncompressed."""
  return 2 * _CHEST_BYTES * num_volumes


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions:
  """Options of the head CT sets."""
  source: str = ""
  resize: tuple[int, int, int] = (48, 256, 256)    # D, H, W before the crop
  shape: tuple[int, int, int] = (48, 224, 224)     # D, H, W as stored
  brain_window: tuple[float, float] = (40.0, 80.0)  # level, width
  blood_window: tuple[float, float] = (80.0, 200.0)
  bone_window: tuple[float, float] = (600.0, 2800.0)
  max_tilt: float = 30.0      # degrees; heads are often scanned tilted, and the
                              # affine stays exact

  def __post_init__(self):
    if any(r < s for r, s in zip(self.resize, self.shape)):
      raise PrepareError(f"--resize={self.resize} must be at least --shape="
                         f"{self.shape} along every axis.")
    for name, (_, width) in self.windows().items():
      if width <= 0:
        raise PrepareError(f"--{name.lower()}_window has the width {width}; "
                           "want level and width, such as 40,80.")

  def windows(self) -> dict[str, tuple[float, float]]:
    return {"Bone": self.bone_window, "Brain": self.brain_window,
            "Blood": self.blood_window}

  def contract(self) -> record.Contract:
    told = ", ".join(f"{name.lower()} {level:g}/{width:g}"
                     for name, (level, width) in self.windows().items())
    return record.Contract(
        modality="CT", dtype="uint8",
        intensity=f"windows of level/width {told} HU -> 0..255",
        orientation=ct.ORIENTATION, resize=self.resize, shape=self.shape,
        dataset=_name(self), records=RECORDS,
        recipe=dataclasses.asdict(self))

  def head_bytes(self, num_series: int) -> int:
    """Shards and the shuffler's copy of them, uncompressed."""
    return 2 * 3 * int(np.prod(self.shape)) * num_series


def root(dataset, holds: str) -> pathlib.Path:
  """The raw archive named by --source."""
  path = pathlib.Path(dataset.source)
  if not dataset.source or not path.is_dir():
    raise PrepareError(f"--source={dataset.source!r} is no folder; give the "
                       f"one that holds {holds}.")
  return path


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
  """Rows as {column: value}; columns and values are stripped."""
  with open(path, newline="", encoding="utf-8-sig") as file:
    return [{(k or "").strip(): (v or "").strip() for k, v in row.items()
             if isinstance(v, str)} for row in csv.DictReader(file)]


def label(value: str | None) -> int:
  """0 or 1, -1 = unknown; tables write 1, 1.0, True or nothing.

  Raises:
    PrepareError: it is something else.
  """
  known = {"": -1, "0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1,
           "nan": -1, "-1": -1, "-1.0": -1}
  text = (value or "").lower()
  if text not in known:
    raise PrepareError(f"A label is {value!r}, want 0 or 1; mend the table.")
  return known[text]


def _name(dataset) -> str:
  return type(dataset).__module__.rpartition(".")[2]
