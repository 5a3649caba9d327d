"""A built phantom and a writer of small raw archives, for these tests."""

import json
import pathlib

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import prepare

SIZES = {"num_train": 6, "num_valid": 1, "num_test": 1}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> pathlib.Path:
  """A small phantom_brain set, built in this process."""
  out = tmp_path_factory.mktemp("phantom")
  prepare.build(datasets.make("phantom_brain", **SIZES), out, num_workers=1)
  return out


class Archive:
  """Writes series and reports in the public layout."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.entries = {}

  def add(self, study: str, voxels=None, affine=None, *, report=("x.",),
          split="train", name="AX_T1", **entry):
    if voxels is None:
      voxels = np.random.default_rng(0).uniform(size=(8, 8, 4))
    folder = self.root / split / study / name
    folder.mkdir(parents=True)
    affine = np.diag([1.0, 1.0, 5.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine),
             folder / "img.nii.gz")
    self.entries.setdefault(split, {})[study] = {
        "series": {name: {}}, "report": list(report)} | entry

  def build(self, out: pathlib.Path, **options):
    for split, entries in self.entries.items():
      (self.root / f"{split}.json").write_text(json.dumps(entries))
    shape = {"shape": (4, 8, 8), "resize": (4, 8, 8), "keep_ids": True}
    dataset = datasets.make(
        "studies", source=str(self.root), **(shape | options))
    prepare.build(dataset, out, num_workers=1)
    return out


@pytest.fixture
def archive(tmp_path) -> Archive:
  return Archive(tmp_path / "archive")
