"""Contracts of models, and small raw series for them."""

import dataclasses
import pathlib

import numpy as np

from data_pipelines import datasets
from tests.data_pipelines import ct_files

MR = {"Modality": "MR", "intercept": 0}    # for ct_files.write_series


def _contract(name: str, **changes):
  return dataclasses.replace(datasets.make(name).contract(), **changes)


MRI = _contract("studies", resize=(4, 8, 8), shape=(4, 8, 8))
CHEST = _contract("ct_rate", spacing_mm=(2.0, 1.0, 1.0))
HEAD = _contract("cq500", resize=(8, 20, 20), shape=(8, 16, 16))
PICTURE = _contract("coco_captions")


def brain(seed=0) -> np.ndarray:
  """[z, y, x] of an MRI series."""
  return np.random.default_rng(seed).integers(0, 900, (5, 8, 10))


def write_mri(path: pathlib.Path, seed=0) -> pathlib.Path:
  ct_files.write_nifti(path, brain(seed).astype(np.int16))
  return path
