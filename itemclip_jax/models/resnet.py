"""ResNet of bottleneck blocks, over pictures stored as volumes.

    block(x) = relu(P(x) + N(W3 relu(N(W2 relu(N(W1 x))))))

W1, W3: 1 x 1, W2: 3 x 3, which has the stride ("v1.5", as in torchvision); P is
the identity or, where the shape changes, a normalised 1 x 1. Padding is half
the kernel on both sides, as torch pads: XLA's own "SAME" pads a stride of 2 on
one side only and moves the whole map by a pixel.

The norm N is by name, and neither is batch normalisation in training, whose
result for one picture depends on the others of its batch: on padded examples,
on the number of devices, on whether the images of a contrastive loss come in
one part or two.

  group         GroupNorm of 32 groups, of at least two channels each: from
                scratch. https://arxiv.org/abs/1803.08494
  frozen_batch  BatchNorm with the statistics of the weights it starts from as
                constants: for pretrained weights, which it reproduces. Scale
                and bias are trained, as in the public code; the statistics get
                no gradient, and have no decay, so they stay those of the file.

Reference: He et al. 2015, https://arxiv.org/abs/1512.03385; initial values are
torchvision's: He's normal, fan out.
"""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models import picture
from itemclip_jax.models.hlip import HlipOutput
from itemclip_jax.ops.attention import wide

EXPANSION = 4  # a block's output is so many times as wide as its 3 x 3
Norm = Literal["group", "frozen_batch"]
_EPSILON = 1e-5
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class FrozenBatchNorm(nn.Module):
  """x -> scale (x - mean) / sqrt(var + epsilon) + bias; mean, var constant."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., C] -> [..., C]
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    scale, bias, mean, var = (
        self.param(name, init, x.shape[-1:]) for name, init in (
            ("scale", ones), ("bias", zeros), ("mean", zeros), ("var", ones)))
    mean, var = jax.lax.stop_gradient((mean, var))
    gain = scale * jax.lax.rsqrt(var + _EPSILON)
    return (wide(x) * gain + (bias - mean * gain)).astype(x.dtype)


def _norm(kind: Norm, channels: int, dtype, name: str):
  if kind == "frozen_batch":
    return FrozenBatchNorm(name=name)
  return nn.GroupNorm(math.gcd(32, channels // 2), epsilon=_EPSILON,
                      dtype=dtype, use_fast_variance=False, name=name)


def _convolution(channels: int, size: int, stride: int, dtype, name: str):
  half = (size // 2, size // 2)
  return nn.Conv(channels, (size, size), (stride, stride), (half, half),
                 use_bias=False, dtype=dtype, kernel_init=_HE, name=name)


class Bottleneck(nn.Module):
  """Narrow, look around, widen.

  Attributes:
    width: channels of the 3 x 3; the output has `EXPANSION` times as many.
    stride: of the 3 x 3.
    norm: see the head of this file.
    dtype: type of the convolutions, None for the input's.
  """
  width: int
  stride: int = 1
  norm: Norm = "group"
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [B, h, w, C]
    def step(x, channels, size, stride, conv, norm):
      x = _convolution(channels, size, stride, self.dtype, conv)(x)
      return _norm(self.norm, channels, self.dtype, norm)(x)

    wider = self.width * EXPANSION
    y = nn.relu(step(x, self.width, 1, 1, "conv1", "norm1"))
    y = nn.relu(step(y, self.width, 3, self.stride, "conv2", "norm2"))
    y = step(y, wider, 1, 1, "conv3", "norm3")
    if x.shape != y.shape:
      x = step(x, wider, 1, self.stride, "down_conv", "down_norm")
    return nn.relu(x + y)


class Resnet(nn.Module):
  """Vision tower over pictures; the defaults are ResNet-50.

  Attributes:
    stages: blocks of each stage; all but the first halve the map.
    width: of the stem and of the first stage's 3 x 3; doubles with every stage.
      Even, so that a group of the norm has two channels.
    norm: see the head of this file.
    remat: recompute each block in the backward pass.
    dtype: type of the convolutions, None for the input's.
  """
  stages: tuple[int, ...] = (3, 4, 6, 3)
  width: int = 64
  norm: Norm = "group"
  remat: bool = False
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      volume: jax.Array,        # [B, 1, 3, H, W] standardised
      series_mask: jax.Array,   # [B, 1] bool, False = no picture
      series_names=None,        # as HLIP's; one series needs no name
      series_order=None,
      *,
      train: bool = False,      # nothing is random, and no statistic is kept
  ) -> HlipOutput:
    del series_names, series_order, train
    x = picture.channels_last(volume, series_mask, 2 << len(self.stages))
    x = _convolution(self.width, 7, 2, self.dtype, "conv1")(x)
    x = nn.relu(_norm(self.norm, self.width, self.dtype, "norm1")(x))
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    block = nn.remat(Bottleneck) if self.remat else Bottleneck
    for i, blocks in enumerate(self.stages):
      for j in range(blocks):
        x = block(self.width << i, 2 if i and not j else 1, self.norm,
                  self.dtype, name=f"stage{i}_block{j}")(x)
    return picture.output(x, series_mask)
