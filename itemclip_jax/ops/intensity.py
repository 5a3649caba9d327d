"""Stored voxels -> standardised floats, on the device.

    x = (clip((raw - low) / (high - low), 0, 1) - mean) / std

The host ships one or two bytes a voxel. For volumes 0.449 and 0.226 are the
channel means of the ImageNet statistics, as in the published loaders; pictures
have CLIP's statistics of each channel (Radford et al. 2021,
https://arxiv.org/abs/2103.00020).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MEAN, STD = 0.449, 0.226


class Window(NamedTuple):
  """The arguments of `standardise` besides the voxels and the type.

  low, high: stored numbers that become 0 and 1; mean, std: of what lies
  between, one number or one a slice of the depth (the channels of a picture).
  """
  low: float
  high: float
  mean: float | tuple[float, ...] = MEAN
  std: float | tuple[float, ...] = STD


RGB = Window(0.0, 255.0, (0.48145466, 0.4578275, 0.40821073),
             (0.26862954, 0.26130258, 0.27577711))


def standardise(
    volume: jax.Array,   # [..., D, H, W] uint8 or int16
    low: float,
    high: float,
    mean: float | tuple[float, ...] = MEAN,
    std: float | tuple[float, ...] = STD,
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:          # [..., D, H, W]
  """Maps [low, high] to [0, 1], clips, and standardises; see `Window`."""
  x = (volume.astype(jnp.float32) - low) / (high - low)
  x = (jnp.clip(x, 0.0, 1.0) - _along_depth(mean)) / _along_depth(std)
  return x.astype(dtype)


def _along_depth(value):
  """A number as it is, several as [D, 1, 1]."""
  if isinstance(value, tuple):
    return np.asarray(value, np.float32)[:, None, None]
  return value
