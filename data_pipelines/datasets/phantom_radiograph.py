"""Synthetic frontal chest radiographs with triplets, masks and expert gaze.

Each subject is the analytic thorax of the chest CT (`phantom/chest_anatomy.py`)
standing upright, with 0-4 findings in three grades
(`phantom/radiograph_findings.py`), projected to a grey picture
(`phantom/radiograph_picture.py`), and a report whose items have triplets
(`phantom/radiograph_report.py`). For a share of the training subjects there is
a map of where a simulated reader looked (`phantom/radiograph_gaze.py`). What is
written is a raw archive, one folder a subject:

    <raw>/<split>/<split>_7/image.png     8-bit grey, right side on the left
                           /mask.png      k + 1 where item k's finding is seen
                           /heatmap.png   255 where the reader looked longest
                           /entry.json    items, triplets, labels

A subject depends on (seed, split, number) and the size of the picture only;
whether it has a heatmap depends on `expert_share` too.
"""

import dataclasses
import functools
import io
import json
import pathlib
import zlib
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import pictures
from data_pipelines.embedded import Embedded
from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from data_pipelines.phantom import radiograph_findings
from data_pipelines.phantom import radiograph_gaze
from data_pipelines.phantom import radiograph_picture
from data_pipelines.phantom import radiograph_report
from data_pipelines.phantom import raw as raw_lib

VERSION = 1                            # of what a subject looks like
EXTRAS = ("triplets", "heatmap")

NORMAL_RATE = 0.1
NUM_FINDINGS = ((1, 2, 3, 4), (0.35, 0.35, 0.2, 0.1))
SIDES = (32, 512)                      # fewest and most pixels of an edge

_PIXEL_BYTES = 4                       # raw, shards, shuffler: measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Embedded):
  """Options of the build."""
  source: str = ""             # where the raw archive goes; "" = <out>/raw
  num_train: int = 2000
  num_valid: int = 128
  num_test: int = 500
  side: int = 96               # pixels of an edge: small enough for two cores
  expert_share: float = 0.25   # of the training subjects have a heatmap

  def __post_init__(self):
    super().__post_init__()
    if not SIDES[0] <= self.side <= SIDES[1]:
      raise PrepareError(f"--side={self.side} is out of range; give {SIDES[0]} "
                         f"to {SIDES[1]} pixels.")
    if not 0 <= self.expert_share <= 1:
      raise PrepareError(f"--expert_share={self.expert_share} is no share; "
                         "give 0 to 1.")

  def bytes_needed(self) -> int:
    return _PIXEL_BYTES * self.side**2 * sum(self.sizes.values())

  def fetch(self, out: pathlib.Path, workers: Workers) -> pathlib.Path:
    """Writes the subjects that are not there yet."""
    raw = pathlib.Path(self.source or out / "raw")
    raw_lib.claim(raw, {
        "dataset": "phantom_radiograph", "version": VERSION, "seed": self.seed,
        "side": self.side, "expert_share": self.expert_share})
    for split in self.sizes:
      for _ in workers.map(
          write_subject, self._jobs(raw, split), title=f"{split}: raw subjects"
      ):
        pass
    return raw

  def contract(self):
    recipe = dataclasses.asdict(self) | {"version": VERSION}
    return dataclasses.replace(pictures.contract(self), recipe=recipe)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return radiograph_report.findings()

  def builder(self, raw, out, workers: Workers, log) -> pictures.Pictures:
    columns = tuple(radiograph_report.findings())
    splits = {
        split: [pictures.Job(
            split, job.folder.name, job.folder.relative_to(raw).as_posix(),
            functools.partial(_load, job.folder), columns, EXTRAS)
                for job in self._jobs(raw, split)]
        for split, size in self.sizes.items() if size}
    return pictures.builder(splits, out, workers, log, EXTRAS)

  def _jobs(self, raw: pathlib.Path, split: str) -> list["Job"]:
    share = self.expert_share if split == "train" else 0.0
    return [Job(raw, self.seed, split, number, self.side, share)
            for number in range(self.sizes[split])]


@dataclasses.dataclass(frozen=True)
class Job:
  """One subject to write."""
  raw: pathlib.Path
  seed: int
  split: str
  number: int
  side: int
  expert_share: float

  @property
  def folder(self) -> pathlib.Path:
    return self.raw / self.split / f"{self.split}_{self.number}"


def write_subject(job: Job) -> dict[str, Any]:
  """Writes a subject unless it is there; returns what is known of it."""
  return raw_lib.write_once(
      job.folder, functools.partial(_synthesise, job))


def _synthesise(job: Job, folder: pathlib.Path) -> dict[str, Any]:
  key = [job.seed, zlib.crc32(job.split.encode()), job.number]
  rng = np.random.default_rng(key)
  number = 0 if rng.random() < NORMAL_RATE else rng.choice(
      NUM_FINDINGS[0], p=NUM_FINDINGS[1])
  found = radiograph_findings.draw_findings(rng, number)
  subject = radiograph_findings.subject_of(rng, found)
  items = radiograph_report.write(rng, found)
  grid = radiograph_picture.grid(job.side)
  hu, extents = radiograph_findings.paint(subject, found, grid)
  shadows = [radiograph_picture.shadow(extent) for extent in extents]
  mask = np.zeros((job.side, job.side), np.uint8)
  item_of = {item.about: k for k, item in enumerate(items)}
  for k, shadow in enumerate(shadows):
    mask[shadow] = item_of[k] + 1
  _save(folder / "image.png", radiograph_picture.expose(rng, hu, grid))
  _save(folder / "mask.png", mask)
  eye = np.random.default_rng([*key, 1])  # the share changes no picture
  if eye.random() < job.expert_share:
    looked = radiograph_gaze.look(eye, subject, grid, shadows)
    _save(folder / "heatmap.png", radiograph_gaze.density(looked, grid))
  return {
      "items": [item.text for item in items],
      "triplets": [item.triplet for item in items],
      "item_findings": [
          None if item.about is None else
          radiograph_report.place_findings(found[item.about])[-1]
          for item in items],
      "grades": [radiograph_report.grade_finding(f) for f in found],
      "labels": radiograph_report.labels(found),
      "normal": not found,
  }


def _save(path: pathlib.Path, pixels: np.ndarray):
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(encoded, "PNG")
  path.write_bytes(encoded.getvalue())


def _load(folder: pathlib.Path) -> pictures.Picture:
  entry = json.loads(pictures.read_file(folder / "entry.json"))
  heatmap = folder / "heatmap.png"
  return pictures.Picture(
      encoded=pictures.read_file(folder / "image.png"),
      items=entry["items"], labels=entry["labels"],
      item_findings=entry["item_findings"],
      mask=pictures.read_file(folder / "mask.png"), normal=entry["normal"],
      triplets=[tuple(t) for t in entry["triplets"]],
      heatmap=pictures.read_file(heatmap) if heatmap.exists() else b"")
