"""Small sets of any studies, good or bad, as `prepare` leaves them."""

import io
import json
import pathlib

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from itemclip_jax.data import record

SHAPE = (4, 8, 8)                      # of every series
IPR = np.array([[0, 0, 1, 0], [0, -1, 0, 0], [-5, 0, 0, 0], [0, 0, 0, 1]],
               np.float32)             # (d, h, w) -> RAS mm
FINDINGS = {"cyst": {"prompts": ["cyst"], "label": "cyst"},
            "mass": {"prompts": ["mass"], "label": "mass"}}


CT = {"modality": "CT", "dtype": "int16", "window": (-400, 1500),
      "spacing_mm": (5, 1, 1)}
RGB = {"modality": "RGB", "dtype": "uint8", "orientation": {}, "resize": None,
       "shape": None, "intensity": "sRGB"}


class Fake(tfds.core.GeneratorBasedBuilder):
  """Writes the studies that it is given."""
  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, splits, features, **kwargs):
    self._splits, self._stored = splits, features
    super().__init__(**kwargs)

  def _info(self):
    return self.dataset_info_from_configs(features=self._stored)

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(studies)
            for split, studies in self._splits.items()}

  def _generate_examples(self, studies):
    yield from enumerate(studies)


def study(name: str, *, dtype=np.uint8, **changes) -> dict:
  """A plausible study of one series; its voxels depend on its name."""
  rng = np.random.default_rng(list(name.encode()))
  if dtype == np.int16:
    voxels = rng.integers(-1100, 300, (1, *SHAPE)).astype(dtype)
  else:
    voxels = rng.integers(0, 256, (1, *SHAPE)).astype(dtype)
  none = np.zeros(0, np.uint8)
  return {
      "study_id": name, "patient_id": f"patient of {name}", "volume": voxels,
      "series_names": ["AX_T1"], "affine": IPR[None], "orientation": ["IPR"],
      "source_spacing_mm": np.array([[5, 1, 1]], np.float32),
      "source": [f"{name}.nii.gz"], "items": [f"One of {name}.", "Two."],
      "normal": False, "labels": np.array([1, 1], np.int8),
      "lesion_mask": none, "item_visible": none,
      "item_finding": none.astype(np.int32)} | changes


def picture(name: str, **changes) -> dict:
  pixels = np.random.default_rng(list(name.encode())).integers(
      0, 256, (20, 30, 3)).astype(np.uint8)
  none = np.zeros(0, np.uint8)
  return {
      "study_id": name, "patient_id": name, "image": encoded(pixels),
      "series_names": [""], "source": [""], "items": ["A street."],
      "normal": False, "labels": np.array([1, 1], np.int8),
      "lesion_mask": none, "item_finding": none.astype(np.int32)} | changes


def encoded(pixels: np.ndarray) -> np.ndarray:
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "png")
  return np.frombuffer(buffer.getvalue(), np.uint8)


def build(root, *, contract=None, features=None, num_shards=1,
          **splits) -> pathlib.Path:
  """Writes a set; `contract` holds what differs from a small MRI set."""
  contract = {"modality": "MRI", "dtype": "uint8", "intensity": "grey",
              "orientation": {"axial": "IPR"}, "resize": SHAPE,
              "shape": SHAPE} | (contract or {})
  made = record.Contract(**contract, dataset="fake", recipe={},
                         records="fake/1.0.0")
  root.mkdir()
  Fake(splits=splits, features=features or record.features(),
       data_dir=str(root), file_format="array_record").download_and_prepare(
           download_config=tfds.download.DownloadConfig(num_shards=num_shards))
  (root / "contract.json").write_text(json.dumps(made.to_dict()))
  (root / "findings.json").write_text(json.dumps(FINDINGS))
  (root / "ingest.jsonl").write_text("")
  index = {}
  for split in splits:
    source = record.Source(root / made.records, split)
    rows = [source[i] for i in range(len(source))]
    index |= {f"{split}/study_id": [r["study_id"] for r in rows],
              f"{split}/patient_id": [r["patient_id"] for r in rows],
              f"{split}/num_series": [len(r["series_names"]) for r in rows],
              f"{split}/num_items": [len(r["items"]) for r in rows],
              f"{split}/normal": [bool(r["normal"]) for r in rows]}
  np.savez(root / "index.npz", **index)
  return root
