"""Synthetic chest CT in Hounsfield units with ground truth, for everyone.

Each subject is an analytic thorax of its own size and shape
(`phantom/chest_anatomy.py`) with 0-5 findings (`phantom/chest_findings.py`) and
a report (`phantom/chest_report.py`). What is written is a raw archive in the
layout of CT-RATE, one scan a subject:

    <raw>/<split>/<split>_7/<split>_7_a/<split>_7_a_1.nii.gz   or, for some,
    <raw>/<split>/<split>_7/<split>_7_a/<split>_7_a_1/*.dcm
    <raw>/<split>_metadata.csv    rescaling and position of every scan
    <raw>/<split>_labels.csv      0 or 1 for the findings of CT-RATE
    <raw>/itemized.json           scan -> {"recons": [...], "report": [...]}

Beside a scan lie `organs.nii.gz` (values: chest_anatomy.LABEL) and
`lesions.nii.gz` (k + 1 where item k of the report is); `entry.json` in the
patient's folder tells all findings with their places. A subject depends on
(seed, split, number) only. Records also hold organs, grouped, and what is said
of each (`phantom/chest_organs.py`); with `normal_texts="varied"` normal ones
are described in many words (`phantom/chest_normal.py`).
"""

import csv
import dataclasses
import pathlib
import zlib
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.datasets import ct_rate
from data_pipelines.embedded import Embedded
from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.organs import masks
from data_pipelines.organs import records as organ_records
from data_pipelines.organs.texts import Texts
from data_pipelines.parallel import Workers
from data_pipelines.phantom import chest_anatomy
from data_pipelines.phantom import chest_files
from data_pipelines.phantom import chest_findings
from data_pipelines.phantom import chest_organs
from data_pipelines.phantom import chest_report
from data_pipelines.phantom import raw as raw_lib
from data_pipelines.phantom.anatomy import Grid
from data_pipelines.result import Result
from data_pipelines.volumes import chest_study
from data_pipelines.volumes import ct
from data_pipelines.volumes import ct_study
from data_pipelines.volumes import dicom
from data_pipelines.volumes import nifti
from itemclip_jax.data import record
from itemclip_jax.data import volume as volume_lib

VERSION = 1                            # of what a subject looks like
# Voxels and mm along R, A, S. The stored spacing is twice as wide, so that
# resampling, which does not low-pass, takes the mean of eight voxels.
GRID = Grid((128, 128, 64), (2.5, 2.5, 4.5), np.zeros(3))
SPACING_MM = (9.0, 5.0, 5.0)           # D, H, W as stored: 32 x 64 x 64 voxels

NORMAL_RATE = 0.1
NUM_FINDINGS = ((1, 2, 3, 4, 5), (0.2, 0.3, 0.25, 0.15, 0.1))

# Of one scan, measured: its raw files, and its record before compression, of
# which the conformed copy and the shuffler's lie side by side.
_RAW_BYTES, _RECORD_BYTES = 1_000_000, 2 * 580_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Embedded):
  """Options of the build."""
  source: str = ""         # where the raw archive goes; "" = <out>/raw
  num_train: int = 1200
  num_valid: int = 64
  num_test: int = 400
  spacing: tuple[float, float, float] = SPACING_MM   # D, H, W, mm
  normal_texts: str = "default"   # of chest_organs.NORMAL_TEXTS

  def __post_init__(self):
    super().__post_init__()
    if self.normal_texts not in chest_organs.NORMAL_TEXTS:
      raise PrepareError(f"--normal_texts={self.normal_texts} is none of "
                         f"{', '.join(chest_organs.NORMAL_TEXTS)}; choose one.")
    if min(self.shape) < 1:
      raise PrepareError(f"--spacing={self.spacing} leaves {self.shape} voxels "
                         "of a chest; ask for a finer one.")

  @property
  def shape(self) -> tuple[int, int, int]:  # D, H, W as stored
    return tuple(int(n * s / t) for n, s, t in zip(
        GRID.shape[::-1], GRID.spacing_mm[::-1], self.spacing))

  def bytes_needed(self) -> int:
    return (_RAW_BYTES + _RECORD_BYTES) * sum(self.sizes.values())

  def fetch(self, out: pathlib.Path, workers: Workers) -> pathlib.Path:
    """Writes the subjects that are not there yet, then the tables."""
    raw = pathlib.Path(self.source or out / "raw")
    raw_lib.claim(raw, {"dataset": "phantom_chest", "version": VERSION,
                        "seed": self.seed})
    entries = {}
    for split, size in self.sizes.items():
      jobs = [Job(raw, self.seed, split, n) for n in range(size)]
      entries[split] = list(workers.map(
          write_subject, jobs, title=f"{split}: raw subjects"))
      _write_table(raw / f"{split}_metadata.csv",
                   [e["metadata"] for e in entries[split]])
      _write_table(raw / f"{split}_labels.csv", [
          {"VolumeName": e["metadata"]["VolumeName"]} | {
              name: e["labels"].get(name.lower(), 0)
              for name in ct_rate.FINDINGS} for e in entries[split]])
    write_json(raw / "itemized.json", {
        e["scan"]: {"recons": [e["metadata"]["VolumeName"]],
                    "report": e["report"]}
        for split in entries.values() for e in split})
    return raw

  def contract(self) -> record.Contract:
    recipe = dataclasses.asdict(self) | {"version": VERSION}
    if self.normal_texts == "default":
      del recipe["normal_texts"]  # as sets built before there was a choice
    return record.Contract(
        modality="CT", dtype="int16", intensity="Hounsfield units",
        window=volume_lib.CHEST_WINDOW, orientation=ct.ORIENTATION,
        resize=None, shape=self.shape, spacing_mm=self.spacing,
        dataset="phantom_chest", records=scans.RECORDS, recipe=recipe)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return chest_report.findings()

  def builder(self, raw, out, workers: Workers, log: scans.Log):
    splits = {
        split: [self._read_job(raw, Job(raw, self.seed, split, n))
                for n in range(size)] for split, size in self.sizes.items()}
    return scans.builder(
        splits, make_record, out, workers, log, dtype=np.int16,
        organs=chest_organs.GROUPING.names)

  def _read_job(self, raw: pathlib.Path, job: "Job") -> "ReadJob":
    entry, columns = write_subject(job), list(chest_report.findings())
    file = pathlib.Path(job.split, job.patient, job.scan,
                        entry["metadata"]["VolumeName"])
    return ReadJob(
        root=raw, split=job.split, study=job.scan, patient=job.patient,
        items=tuple(entry["report"]),
        labels=tuple(entry["labels"][c] for c in columns),
        file=file.as_posix(), metadata=entry["metadata"], spacing=self.spacing,
        truth=tuple((found["item"], columns.index(found["finding"]))
                    for found in entry["findings"]),
        organs=chest_organs.describe(
            entry["report"], entry["findings"],
            normal_texts=self.normal_texts, key=job.key))


@dataclasses.dataclass(frozen=True)
class Job:
  """One subject to write."""
  raw: pathlib.Path
  seed: int
  split: str
  number: int

  @property
  def key(self) -> tuple[int, int, int]:
    """What the subject is drawn from."""
    return self.seed, zlib.crc32(self.split.encode()), self.number

  @property
  def patient(self) -> str:
    return f"{self.split}_{self.number}"

  @property
  def scan(self) -> str:
    return f"{self.patient}_a"


def write_subject(job: Job) -> dict[str, Any]:
  """Writes a subject unless it is there; returns what is known of it."""
  return raw_lib.write_once(
      job.raw / job.split / job.patient,
      lambda folder: _synthesise(job, folder / job.scan))


def _synthesise(job: Job, folder: pathlib.Path) -> dict[str, Any]:
  rng = np.random.default_rng(job.key)
  number = 0 if rng.random() < NORMAL_RATE else rng.choice(
      NUM_FINDINGS[0], p=NUM_FINDINGS[1])
  found = chest_findings.draw_findings(rng, number)
  subject = chest_findings.subject_of(rng, found)
  items, item_of_finding = chest_report.write(rng, found)
  chest, extents = chest_findings.paint(subject, found, GRID)
  noise = chest_anatomy.NOISE_HU * rng.standard_normal(GRID.shape, np.float32)
  # Air around the patient stays smooth: half of the volume packs to nothing.
  hu = chest.hu + noise * (chest.labels > 0)
  metadata = chest_files.write_scan(
      rng, folder, f"{job.scan}_1", np.rint(hu).astype(np.int16), GRID)
  lesions = np.zeros(GRID.shape, np.uint8)
  for extent, item in zip(extents, item_of_finding):
    lesions[extent] = item + 1
  for name, labels in (("organs", chest.labels), ("lesions", lesions)):
    raw_lib.save_nifti(folder / f"{name}.nii.gz", labels, GRID,
                       chest_files.AXES)
  return {
      "scan": job.scan, "metadata": metadata, "report": items,
      "labels": chest_report.labels(found),
      "findings": [
          {"item": item,
           "finding": chest_report.finding_names(f.kind, f.place)[-1]}
          for f, item in zip(found, item_of_finding)],
  }


def _write_table(path: pathlib.Path, rows: list[dict[str, Any]]):
  with open(path, "w", newline="") as file:
    table = csv.DictWriter(file, rows[0] if rows else ["VolumeName"],
                           lineterminator="\n")
    table.writeheader()
    table.writerows(rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadJob(ct_study.Job):
  """One subject to read back from its files.

  Attributes:
    file: below `root`; a folder is DICOM.
    metadata: its row of the table.
    spacing: D, H, W in mm as stored.
    truth: (item, column of its finding) of every finding.
    organs: what is said of each.
  """
  file: str
  metadata: dict[str, Any]
  spacing: tuple[float, float, float]
  truth: tuple[tuple[int, int], ...]
  organs: Texts


def make_record(job: ReadJob) -> Result:
  """Reads, checks and resamples one scan; never raises for bad data."""
  path = job.root / job.file
  try:
    source = ct.to_canonical(_read(path, job.metadata))
    stored = ct.to_int16(volume_lib.resample(source, job.spacing))
    series = ct_study.Stored(
        chest_study.SERIES_NAME, stored, source.spacing_mm, path)
    made = ct_study.make_record(job, [series], ct.ORIENTATION["axial"])
    lesions = nifti.read_labels(path.parent / "lesions.nii.gz")
    organs = masks.on_grid(
        masks.read(path.parent / "organs.nii.gz", chest_organs.GROUPING,
                   "phantom_chest"), stored.shape, stored.affine)
  except (nifti.SeriesError, ValueError) as error:
    return Result(job.study, None, (ct_study.line(job, reason=str(error)),))
  finding = np.full(len(job.items), -1, np.int32)
  for item, column in job.truth:
    finding[item] = column
  mask = volume_lib.sample_labels(
      lesions, shape=stored.shape, affine=stored.affine)
  return Result(job.study, made | {
      "lesion_mask": mask.ravel(), "item_finding": finding,
      "item_visible": (finding >= 0).astype(np.uint8),
  } | organ_records.features(organs, job.organs), ())


def _read(path: pathlib.Path, metadata: dict[str, Any]) -> volume_lib.Volume:
  """Hounsfield units in the axis order of the files."""
  if path.is_dir():
    headers, _ = dicom.find_headers(path)
    return dicom.read_series(headers).volume
  stored, _ = ct.read_nifti(path)
  slope, intercept = ct.factors(
      stored.voxels, slope=metadata["RescaleSlope"],
      intercept=metadata["RescaleIntercept"])
  return volume_lib.Volume(volume_lib.hounsfield(
      stored.voxels, slope=slope, intercept=intercept), stored.affine)
