"""Hounsfield units and resampling to one spacing.

The original computes Hounsfield units in the type of the file. With integers
and a slope that is none, this loses the image: then ours must be the formula.
"""

import numpy as np

from itemclip_jax.data import volume
from tests.parity import torch_names
from tests.parity.compare import assert_close

FAMILY = "preprocess_ct_resample"


def _cases(data):
  stored = torch_names.under(data, "in")
  assert stored
  return [(k.removesuffix(".stored_zyx"), v) for k, v in stored.items()]


def _resample(data, name: str, voxels: np.ndarray) -> np.ndarray:
  x, y = data[f"cfg.{name}.xy_spacing"]
  affine = np.diag([data[f"cfg.{name}.z_spacing"], y, x, 1.0])
  out = volume.resample(
      volume.Volume(voxels, affine), tuple(data["cfg.target_spacing_zyx"]))
  field = np.multiply(voxels.shape, [affine[i, i] for i in range(3)])
  np.testing.assert_allclose(out.spacing_mm * out.shape, field)
  return out.voxels


def _factors(data, name: str) -> tuple[float, float]:
  return float(data[f"cfg.{name}.slope"]), float(data[f"cfg.{name}.intercept"])


def _is_lost(data, name: str, stored: np.ndarray) -> bool:
  """Whether the original rounds the factors away."""
  return stored.dtype.kind in "iu" and any(
      f != int(f) for f in _factors(data, name))


def test_hounsfield_units_agree_or_keep_the_fraction(data):
  for name, stored in _cases(data):
    slope, intercept = _factors(data, name)
    ours = volume.hounsfield(stored, slope=slope, intercept=intercept)
    theirs = data[f"out.{name}.hu_before_resample"]
    if _is_lost(data, name, stored):
      theirs = np.float32(slope * stored.astype(np.float64) + intercept)
    assert_close(ours, theirs, f"{name}.hu")


def test_resampling_agrees(data):
  for name, stored in _cases(data):
    slope, intercept = _factors(data, name)
    theirs = data[f"out.{name}.resampled_zyx"]
    if _is_lost(data, name, stored):
      before = data[f"out.{name}.hu_before_resample"]
      assert_close(_resample(data, name, before), theirs, f"{name}.lost")
      # Interpolation is linear: what the original should have given.
      theirs = slope * _resample(data, name, stored) + np.float32(intercept)
    ours = volume.hounsfield(stored, slope=slope, intercept=intercept)
    assert_close(_resample(data, name, ours), theirs, f"{name}.resampled")
