"""A chest-CT set of a few random volumes in Hounsfield units, as a builder."""

import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from itemclip_jax.data import record

SHAPE = (16, 48, 48)
NUM_STUDIES = 16


class TinyCt(tfds.core.GeneratorBasedBuilder):
  """Single-series studies, int16."""
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return self.dataset_info_from_configs(features=record.features(np.int16))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    rng = np.random.default_rng(0)
    for i in range(NUM_STUDIES):
      yield i, {
          "study_id": f"study{i}", "patient_id": f"patient{i}",
          "volume": rng.integers(-1024, 1000, (1, *SHAPE)).astype(np.int16),
          "series_names": ["CHEST"],
          "affine": np.eye(4, dtype=np.float32)[None], "orientation": ["IPL"], "source": ["volume.nii.gz"],
          "source_spacing_mm": np.array([[3, 1, 1]], np.float32),
          "items": [f"Nodule number {i}.", "No effusion."], "normal": False,
          "labels": np.zeros(1, np.int8),
          "lesion_mask": np.zeros(0, np.uint8),
          "item_visible": np.zeros(0, np.uint8),
          "item_finding": np.zeros(0, np.int32)}


def build(root: pathlib.Path):
  """Writes the set, its contract and its index below `root`."""
  TinyCt(data_dir=str(root), file_format="array_record").download_and_prepare()
  contract = record.Contract(
      modality="CT", dtype="int16", intensity="Hounsfield units",
      window=(-400.0, 1500.0), orientation={"axial": "IPL"}, resize=SHAPE,
      shape=SHAPE, spacing_mm=(3.0, 1.0, 1.0), dataset="tiny_ct",
      records="tiny_ct/1.0.0", recipe={})
  (root / "contract.json").write_text(json.dumps(contract.to_dict()))
  (root / "findings.json").write_text("{}")
  n = NUM_STUDIES
  np.savez(root / "index.npz", **{
      "train/study_id": np.array([f"study{i}" for i in range(n)]),
      "train/patient_id": np.array([f"patient{i}" for i in range(n)]),
      "train/num_series": np.ones(n, int), "train/num_items": np.full(n, 2),
      "train/normal": np.zeros(n, bool)})
