"""What the preprocessing tests share."""

import numpy as np

from itemclip_jax.data.volume import Volume
from itemclip_jax.ops import intensity


def on_unit_grid(voxels: np.ndarray) -> Volume:
  """The files hold no positions."""
  return Volume(voxels, np.eye(4))


def assert_standardised_alike(data):
  """The device's constants are the file's."""
  assert np.float32(intensity.MEAN) == data["cfg.mean"]
  assert np.float32(intensity.STD) == data["cfg.std"]
