"""Scenes of real handwritten digits with itemised captions and ground truth.

A scene is a picture of 64 x 64 pixels: one to four digits of several colours,
sizes and places on a textured ground (`scenes/picture.py`); its captions say so
in many ways (`scenes/captions.py`). What is written is an archive in the layout
of COCO, which then takes that road (`datasets/coco_captions.py`). The splits
hold digits of different writers. A scene depends on (seed, split, number) only.
"""

import dataclasses
import io
import pathlib
import zlib
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import pictures
from data_pipelines.datasets import coco_captions
from data_pipelines.embedded import Embedded
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from data_pipelines.scenes import captions
from data_pipelines.scenes import picture

VERSION = 1                            # of what a scene looks like
_BYTES = 3 * 10_000                    # of a scene: raw, shards, shuffler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Embedded):
  """Options of the build."""
  num_train: int = 4000
  num_valid: int = 128
  num_test: int = 500

  def bytes_needed(self) -> int:
    return _BYTES * sum(self.sizes.values())

  def fetch(self, out: pathlib.Path, workers: Workers) -> pathlib.Path:
    """Writes the scenes and what is said of them."""
    raw = out / "raw"
    for folder in ("annotations", "masks"):
      (raw / folder).mkdir(parents=True, exist_ok=True)
    write_json(raw / "findings.json", captions.findings(), indent=1)
    for split, size in self.sizes.items():
      if not size:
        continue
      for folder in (raw / split, raw / "masks" / split):
        folder.mkdir(exist_ok=True)
      jobs = [Job(raw, self.seed, split, n) for n in range(size)]
      written = list(workers.map(
          write_scene, jobs, title=f"{split}: raw scenes"))
      write_json(raw / "annotations" / f"captions_{split}.json", {
          "info": {"description": f"digit_scenes {VERSION}, seed {self.seed}"},
          "images": [entry for entry, _ in written],
          "annotations": [a for _, said in written for a in said]})
    return raw

  def contract(self):
    recipe = dataclasses.asdict(self) | {"version": VERSION}
    return dataclasses.replace(pictures.contract(self), recipe=recipe)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return captions.findings()

  def builder(self, raw, out, workers: Workers, log) -> pictures.Pictures:
    as_coco = coco_captions.Dataset(source=str(raw))
    return as_coco.builder(raw, out, workers, log)


@dataclasses.dataclass(frozen=True)
class Job:
  """One scene to write."""
  raw: pathlib.Path
  seed: int
  split: str
  number: int


def write_scene(job: Job) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """Writes picture and mask; returns its image entry and its annotations."""
  rng = np.random.default_rng(
      [job.seed, zlib.crc32(job.split.encode()), job.number])
  scene = picture.draw_scene(rng, job.split)
  pixels, owner = picture.paint(rng, scene)
  items = captions.write(rng, scene)
  item_of_digit = {item.digit: k + 1 for k, item in enumerate(items)}
  numbers = np.array([0] + [item_of_digit[k]
                            for k in range(len(scene.digits))], np.uint8)
  name = f"{job.split}-{job.number:05d}.png"
  mask = f"masks/{job.split}/{name}"
  _save(job.raw / job.split / name, pixels)
  _save(job.raw / mask, numbers[owner])
  image = {"id": job.number, "file_name": name, "height": picture.SIDE,
           "width": picture.SIDE, "mask": mask,
           "findings": captions.present(scene)}
  about = [None if item.digit is None
           else captions.place_finding(scene.digits[item.digit])
           for item in items]
  return image, [
      {"id": job.number * 10 + k, "image_id": job.number, "caption": item.text,
       "finding": finding}
      for k, (item, finding) in enumerate(zip(items, about))]


def _save(path: pathlib.Path, pixels: np.ndarray):
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(encoded, "PNG")
  path.write_bytes(encoded.getvalue())
