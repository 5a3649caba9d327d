"""Swin transformer: attention within windows that move, over pictures.

    x = LN(patches);  stages of blocks;  4 tokens -> 1 between stages;  LN
    block(x): x + Attention(LN x) in windows of w x w, then x + MLP(LN x)

Every second block cuts the windows w // 2 further down and right, by rolling
the map: the windows at its border then hold parts that are no neighbours, and a
mask keeps these apart. Logits get a learnt bias by the offset of key and query.

A map that windows do not tile is padded below and to the right under the same
mask: padding is a key for nobody, and is cut off again. (Public codes shrink
the window of a small map, so that the bias table has another shape for another
size of picture, or let tokens attend to the padding.) Along an axis that one
window covers, nothing is rolled. Where no axis is padded, as with the published
224 pixels, all of them agree.

Reference: Liu et al. 2021, https://arxiv.org/abs/2103.14030. Initial kernels
are Xavier's, which scale with the width as N(0, 0.02) of the original does not,
so that small towers start as large ones do.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.models import layers, picture
from itemclip_jax.models.hlip import HlipOutput
from itemclip_jax.ops.attention import wide
from itemclip_jax.parallel.sharding import constrain

_EPSILON = 1e-5


def cut(x, size: int):
  """A map [B, H, W, C] -> its windows [B, n, size * size, C], row by row."""
  B, H, W, C = x.shape
  x = x.reshape(B, H // size, size, W // size, size, C)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, -1, size * size, C)


def join(windows, height: int, width: int):
  """The inverse of `cut`, for a map of that height and width."""
  B, _, T, C = windows.shape
  size = math.isqrt(T)
  x = windows.reshape(B, height // size, width // size, size, size, C)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, height, width, C)


def relative_index(size: int) -> np.ndarray:
  """Row of the bias table for every query and key of a window: [T, T] int.

  The offset query - key, rows first: (0, 0) of the table's
  (2 size - 1) x (2 size - 1) is the key at the far lower right.
  """
  row, column = np.divmod(np.arange(size * size), size)
  offset = lambda at: at[:, None] - at[None] + size - 1
  return offset(row) * (2 * size - 1) + offset(column)


def neighbours(
    grid: tuple[int, int],   # height and width of the map before padding
    size: int,               # tokens along a window
    shift: tuple[int, int],  # rolled up and left by so many tokens
) -> np.ndarray:             # [n, T, T] bool
  """Whether a query may see a key: same part of the map, and no padding."""
  real, wrapped = [], []
  for length, step in zip(grid, shift):
    at = np.arange(-(-length // size) * size)
    real.append(np.roll(at, -step) < length)
    wrapped.append(at >= len(at) - step)
  part = 2 * wrapped[0][:, None] + wrapped[1]
  part, real = (cut(x[None, ..., None], size)[0, ..., 0]
                for x in (part, real[0][:, None] & real[1]))
  return (part[:, :, None] == part[:, None]) & real[:, None]


class WindowAttention(nn.Module):
  """Multi-head self-attention within the windows of a map.

  Attributes:
    num_heads: A; must divide the width.
    window: tokens along a window.
    shift: tokens by which the windows are moved, 0 or half a window.
    dtype: type of the matmuls, None for the input's.
  """
  num_heads: int
  window: int
  shift: int = 0
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [B, h, w, C]
    h, w = x.shape[1:3]
    size = self.window
    shift = tuple(self.shift if n > size else 0 for n in (h, w))
    x = jnp.pad(x, ((0, 0), (0, -h % size), (0, -w % size), (0, 0)))
    H, W = x.shape[1:3]
    x = cut(jnp.roll(x, (-shift[0], -shift[1]), (1, 2)), size)
    x = self._attend(x, neighbours((h, w), size, shift))
    return jnp.roll(join(x, H, W), shift, (1, 2))[:, :h, :w]

  def _attend(self, x, mask):
    """Windows [B, n, T, C] and who sees whom [n, T, T] -> [B, n, T, C]."""
    heads = (self.num_heads, x.shape[-1] // self.num_heads)
    query, key, value = (
        nn.DenseGeneral(heads, dtype=self.dtype, name=name,
                        kernel_init=nn.initializers.xavier_uniform())(x)
        for name in ("query", "key", "value"))
    logits = wide(jnp.einsum("bnqaf,bnkaf->bnaqk", query * heads[1] ** -0.5,
                             key))
    table = self.param("relative_bias", nn.initializers.normal(0.02),
                       ((2 * self.window - 1) ** 2, self.num_heads))
    bias = table[relative_index(self.window)]               # [T, T, A]
    logits = logits + jnp.moveaxis(bias, -1, 0).astype(logits.dtype)
    logits = jnp.where(mask[:, None], logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits).astype(value.dtype)
    pooled = jnp.einsum("bnaqk,bnkaf->bnqaf", weights, value)
    return nn.DenseGeneral(x.shape[-1], (-2, -1), dtype=self.dtype, name="out",
                           kernel_init=nn.initializers.xavier_uniform())(pooled)


class SwinBlock(nn.Module):
  """Pre-norm block with stochastic depth per picture.

  Attributes:
    num_heads, window, shift: of the attention.
    hidden: width of the MLP.
    drop_path: probability with which a picture skips a branch in training.
    dtype: type of the matmuls, None for the input's.
  """
  num_heads: int
  window: int
  shift: int
  hidden: int
  drop_path: float = 0.0
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    # One draw a picture, scaled so that the expectation stays.
    skip = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3),
                      deterministic=not train)
    norm = functools.partial(layers.layer_norm, _EPSILON, self.dtype)
    attention = WindowAttention(self.num_heads, self.window, self.shift,
                                self.dtype, name="attention")
    x = x + skip(attention(norm(name="norm1")(x)))
    mlp = layers.Mlp(self.hidden, self.dtype, name="mlp")
    return x + skip(mlp(norm(name="norm2")(x)))


class Merge(nn.Module):
  """Four tokens become one of twice the width."""
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # -> [B, h / 2, w / 2, 2 C]
    B, h, w, C = x.shape
    x = x.reshape(B, h // 2, 2, w // 2, 2, C)
    # Left column from above, then the right one, as in the original.
    x = x.transpose(0, 1, 3, 4, 2, 5).reshape(B, h // 2, w // 2, 4 * C)
    x = layers.layer_norm(_EPSILON, self.dtype, "norm")(x)
    return nn.Dense(2 * C, use_bias=False, dtype=self.dtype, name="reduction",
                    kernel_init=nn.initializers.xavier_uniform())(x)


class Swin(nn.Module):
  """Vision tower over pictures; the defaults are Swin-T.

  Attributes:
    stages: blocks of each stage; all but the first start by merging tokens.
    width: of the first stage; doubles with every stage.
    num_heads: of the first stage; doubles with every stage.
    patch: pixels along a token of the first stage.
    window: tokens along a window.
    mlp_ratio: of every block.
    drop_path: of the last block; grows linearly from 0.
    remat: recompute each block in the backward pass.
    dtype: type of the matmuls, None for the input's.
  """
  stages: tuple[int, ...] = (2, 2, 6, 2)
  width: int = 96
  num_heads: int = 3
  patch: int = 4
  window: int = 7
  mlp_ratio: float = 4.0
  drop_path: float = 0.0
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
      train: bool = False,
  ) -> HlipOutput:
    del series_names, series_order
    stride = self.patch << (len(self.stages) - 1)
    x = self._embed(picture.channels_last(volume, series_mask, stride))
    block = nn.remat(SwinBlock, static_argnums=(2,)) if self.remat else (
        SwinBlock)
    rates = iter(np.linspace(0, self.drop_path, sum(self.stages)).tolist())
    for i, blocks in enumerate(self.stages):
      if i:
        x = Merge(self.dtype, name=f"stage{i}_merge")(x)
      x = constrain(x, ("batch", None, None, "embed"))
      hidden = int(self.mlp_ratio * x.shape[-1])
      for j in range(blocks):
        x = block(self.num_heads << i, self.window, j % 2 * (self.window // 2),
                  hidden, next(rates), self.dtype,
                  name=f"stage{i}_block{j}")(x, train)
    x = layers.layer_norm(_EPSILON, self.dtype, "norm")(x)
    return picture.output(x, series_mask)

  def _embed(self, x):
    """Pixels [B, H, W, 3] -> normalised tokens [B, h, w, C]."""
    B, H, W, _ = x.shape
    p = self.patch
    x = x.reshape(B, H // p, p, W // p, p, 3).transpose(0, 1, 3, 5, 2, 4)
    x = nn.Dense(self.width, dtype=self.dtype, name="patch",
                 kernel_init=layers.torch_linear,
                 bias_init=layers.torch_bias(3 * p * p))(
                     x.reshape(B, H // p, W // p, 3 * p * p))
    return layers.layer_norm(_EPSILON, self.dtype, "patch_norm")(x)
