"""Stored voxels -> standardised floats, on the device.

    x = (clip((raw - low) / (high - low), 0, 1) - 0.449) / 0.226

The host ships one or two bytes a voxel; 0.449 and 0.226 are the channel means
of the ImageNet statistics, as in the published loaders.
"""

import jax
import jax.numpy as jnp

MEAN, STD = 0.449, 0.226


def standardise(
    volume: jax.Array,   # [...] uint8 or int16
    low: float,
    high: float,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:          # [...]
  """Maps [low, high] to [0, 1], clips, and standardises."""
  x = (volume.astype(jnp.float32) - low) / (high - low)
  return ((jnp.clip(x, 0.0, 1.0) - MEAN) / STD).astype(dtype)
