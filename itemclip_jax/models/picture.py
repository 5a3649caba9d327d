"""A picture stored as a volume: into a feature map, and out of one.

A picture is a study of one series whose depth is its three colour channels. The
towers that keep a map of features [B, h, w, C] start and end here; the ViT,
which has tokens from the first layer on, does the same in its own terms.
"""

import jax
import jax.numpy as jnp

from itemclip_jax.errors import UserError
from itemclip_jax.models import layers
from itemclip_jax.models.hlip import HlipOutput


def channels_last(
    volume: jax.Array,       # [B, 1, 3, H, W] standardised
    series_mask: jax.Array,  # [B, 1] bool, False = no picture
    stride: int,             # pixels of a token of the last feature map
) -> jax.Array:              # [B, H, W, 3]
  """The pixels, colours last; zeros where there is no picture.

  Raises:
    UserError: a study of several series, or a size that tokens do not tile.
  """
  _, S, _, H, W = volume.shape
  if S != 1:
    raise UserError(f"The tower reads one picture a study, got {S} series; set "
                    "data.max_series=1.")
  if H % stride or W % stride:
    raise UserError(f"A picture of {H} x {W} pixels is no whole number of "
                    f"tokens of {stride} x {stride}; choose another "
                    "vision.volume_shape.")
  # Weight 0 would let a NaN or an overflow of a missing picture through.
  volume = layers.exact_zero_where(series_mask[..., None, None, None], volume)
  return jnp.moveaxis(volume[:, 0], 1, -1)


def output(
    x: jax.Array,            # [B, h, w, C] last feature map
    series_mask: jax.Array,  # [B, 1] bool
) -> HlipOutput:
  """Global average as the image's vector, the map's places as its tokens."""
  tokens = x.reshape(len(x), -1, x.shape[-1])
  mask = jnp.broadcast_to(series_mask, tokens.shape[:2])
  return HlipOutput(
      cls=tokens.mean(1), token_mask=mask,
      tokens=layers.exact_zero_where(mask[..., None], tokens))
