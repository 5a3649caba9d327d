"""Synthetic whole-study brain MRI with ground truth, for everyone.

Each subject is the MNI template in another shape (`phantom/anatomy.py`) with
0-5 lesions (`phantom/lesions.py`) and a report (`phantom/report.py`); a study
holds 3-5 named series. What is written is a raw archive, a NIfTI file per
series and a JSON file per split, which then takes the road of every archive
(`datasets/studies.py`). A subject depends on (seed, split, number) only.

With --report=free_text the items are not the generator's: it dictates a whole
report around them (`phantom/free_text.py`), which is itemised by rules, as the
reports of a hospital would be. The reports stand in <split>.reports.jsonl, the
input of data_pipelines.itemize.
"""

import dataclasses
import pathlib
import zlib
from typing import Any

import numpy as np

from data_pipelines.datasets import studies
from data_pipelines.embedded import Embedded
from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from data_pipelines.phantom import anatomy
from data_pipelines.phantom import dictated
from data_pipelines.phantom import lesions
from data_pipelines.phantom import raw as raw_lib
from data_pipelines.phantom import report
from itemclip_jax.data import record

VERSION = 1                            # of what a subject looks like
SHAPE = (24, 48, 48)                   # D, H, W of every stored series
# Raw grids by the first part of the series name: voxels and mm along R, A, S.
# Resampling them to SHAPE moves no voxel, only turns axes.
GRIDS = {"AX": ((48, 48, 24), (3.75, 3.75, 6.25)),
         "COR": ((48, 24, 48), (3.75, 7.5, 3.75))}
LABEL_GRID = ((48, 48, 42), (4.0, 4.0, 4.0))     # of the lesion map

NORMAL_RATE = 0.1
NUM_SERIES = ((3, 4, 5), (0.25, 0.5, 0.25))         # values, probabilities
NUM_LESIONS = ((1, 2, 3, 4, 5), (0.2, 0.3, 0.25, 0.15, 0.1))

# How scanners' converters store the axes; drawn per series, undone on reading.
FILE_AXES = {"AX": ("LAS", "RAS", "LPS"), "COR": ("LSA", "RSA", "LSP")}
COUNTS_PER_UNIT = 400.0                # raw int16 numbers of brightness 1

REPORTS = ("items", "free_text")

# Of one study, measured: its raw files, and its record before compression, of
# which the conformed copy and the shuffler's lie side by side.
_RAW_BYTES, _RECORD_BYTES = 160_000, 2 * 450_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Embedded):
  """Options of the build."""
  source: str = ""         # where the raw archive goes; "" = <out>/raw
  num_train: int = 1600
  num_valid: int = 64
  num_test: int = 520
  report: str = "items"    # or "free_text", see above

  def __post_init__(self):
    super().__post_init__()
    if self.report not in REPORTS:
      raise PrepareError(
          f"--report={self.report} is none of {', '.join(REPORTS)}.")

  def bytes_needed(self) -> int:
    return (_RAW_BYTES + _RECORD_BYTES) * sum(self.sizes.values())

  def fetch(self, out: pathlib.Path, workers: Workers) -> pathlib.Path:
    """Writes the subjects that are not there yet, then the reports."""
    raw = pathlib.Path(self.source or out / "raw")
    raw_lib.claim(raw, {"dataset": "phantom_brain", "version": VERSION,
                        "seed": self.seed})
    for split, size in self.sizes.items():
      (raw / f"{split}.json").unlink(missing_ok=True)
      if not size:
        continue
      jobs = [Job(raw, self.seed, split, n) for n in range(size)]
      entries = {job.study: entry for entry, job in zip(workers.map(
          write_subject, jobs, title=f"{split}: raw subjects"), jobs)}
      if self.report == "free_text":
        entries = dictated.itemised(
            raw / f"{split}.reports.jsonl",
            [self.seed, zlib.crc32(split.encode())], entries)
      write_json(raw / f"{split}.json", entries)
    return raw

  def contract(self) -> record.Contract:
    same = self._as_studies("").contract()
    recipe = dataclasses.asdict(self) | {"version": VERSION}
    if self.report == "items":
      del recipe["report"]  # sets built before there was a choice are the same
    return dataclasses.replace(same, dataset="phantom_brain", recipe=recipe)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return report.findings()

  def builder(self, raw, out, workers: Workers, log: studies.Log):
    write_json(raw / "findings.json", report.findings(), indent=1)
    return self._as_studies(raw).builder(raw, out, workers, log)

  def _as_studies(self, raw) -> studies.Dataset:
    return studies.Dataset(source=str(raw), resize=SHAPE, shape=SHAPE,
                           intensity="median", keep_ids=True)


@dataclasses.dataclass(frozen=True)
class Job:
  """One subject to write."""
  raw: pathlib.Path
  seed: int
  split: str
  number: int

  @property
  def study(self) -> str:
    return f"{self.split}-{self.number:05d}"


def write_subject(job: Job) -> dict[str, Any]:
  """Writes a subject unless it is there; returns its entry of the JSON file."""
  return raw_lib.write_once(
      job.raw / job.split / job.study, lambda folder: _synthesise(job, folder))


def _synthesise(job: Job, folder: pathlib.Path) -> dict[str, Any]:
  rng = np.random.default_rng(
      [job.seed, zlib.crc32(job.split.encode()), job.number])
  subject = anatomy.draw_subject(rng)
  names = tuple(anatomy.CONTRAST)
  keep = np.sort(rng.permutation(len(names))[:rng.choice(
      NUM_SERIES[0], p=NUM_SERIES[1])])
  series = tuple(names[i] for i in keep)
  number = 0 if rng.random() < NORMAL_RATE else rng.choice(
      NUM_LESIONS[0], p=NUM_LESIONS[1])
  found = lesions.draw_lesions(rng, subject, series, number)
  items, item_of_lesion = report.write(rng, found)
  _write_series(rng, subject, found, series, folder)
  if found:
    _write_label_map(subject, found, item_of_lesion, folder)
  return {
      "series": {name: {} for name in series},
      "report": items,
      "subid": f"patient-{job.study}",
      "labels": report.labels(found),
      "lesions": [
          {"item": item,
           "finding": report.finding_names(lesion.kind, lesion.place)[-1],
           "series": [s for s in series if s in lesion.kind.shows]}
          for lesion, item in zip(found, item_of_lesion)],
  }


def _write_series(rng, subject, found, series, folder: pathlib.Path):
  """Every series of one plane shares the grid and what lies on it."""
  for plane, (shape, spacing_mm) in GRIDS.items():
    members = [s for s in series if s.startswith(plane)]
    if not members:
      continue
    grid = anatomy.Grid(shape, spacing_mm, subject.centre_mm)
    inside, tissue = subject.tissue(grid)
    bias = np.exp(anatomy.smooth_field(subject.bias, grid.lines())[0][inside])
    shapes = [(lesion.kind.shows, *lesion.weights(grid)) for lesion in found]
    for name in members:
      image = np.zeros(grid.shape, np.float32)
      image[inside] = anatomy.contrast(name, tissue)
      for shows, box, weight, _ in shapes:
        if name in shows:
          image[box] += weight * (shows[name] - image[box])
      brain = image[inside] * bias
      brain += anatomy.NOISE * rng.standard_normal(brain.shape, np.float32)
      counts = np.zeros(grid.shape, np.int16)
      counts[inside] = np.abs(brain) * COUNTS_PER_UNIT
      axes = FILE_AXES[plane][rng.integers(len(FILE_AXES[plane]))]
      raw_lib.save_nifti(folder / name / "img.nii.gz", counts, grid, axes)


def _write_label_map(subject, found, item_of_lesion, folder: pathlib.Path):
  grid = anatomy.Grid(*LABEL_GRID, subject.centre_mm)
  labels = np.zeros(grid.shape, np.uint8)
  for lesion, item in zip(found, item_of_lesion):
    box, _, extent = lesion.weights(grid)
    inside, _ = subject.brain([l[b] for l, b in zip(grid.lines(), box)])
    labels[box][extent & inside] = item + 1
  raw_lib.save_nifti(folder / "lesions.nii.gz", labels, grid, "RAS")
