"""What the towers share: norm, MLP, transformer block, position tables.

The block is pre-norm (ViT): x + Attention(LN x), then x + MLP(LN x), with exact
GELU and a bias on every projection, as in timm's vision transformer.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from itemclip_jax.models.dense import Dense, product_of_all, ROWS
from itemclip_jax.models.dropout import DropPath
from itemclip_jax.models.gelu import gelu
from itemclip_jax.ops.attention import attend, attend_packed, takes_packed

# U(-1 / sqrt(n), 1 / sqrt(n)) for n inputs: variance 1 / (3 n).
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def layer_norm(epsilon: float, dtype=None, name: str | None = None):
  """LayerNorm over the last axis.

  The variance takes a second pass, as torch computes it; in half precision,
  whose own rounding is larger than what that saves, one pass finds both.
  """
  half = dtype is not None and jnp.dtype(dtype).itemsize <= 2
  return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=half,
                      name=name)


def torch_bias(fan_in: int):
  """Initialiser U(-1 / sqrt(n), 1 / sqrt(n)) of the biases of a dense layer."""
  limit = fan_in ** -0.5
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
      key, shape, dtype, -limit, limit)


class Inits(NamedTuple):
  """Initialisers of a block: four kernels, and the biases of its MLP."""
  project: Callable = nn.initializers.xavier_uniform()  # query, key, value
  out: Callable = nn.initializers.xavier_uniform()
  fc1: Callable = nn.initializers.xavier_uniform()
  fc2: Callable = nn.initializers.xavier_uniform()
  bias1: Callable = nn.initializers.zeros
  bias2: Callable = nn.initializers.zeros


class SelfAttention(nn.Module):
  """Multi-head self-attention within each group.

  Attributes:
    num_heads: A; must divide the width.
    dtype: type of the matmuls, None for the input's.
    use_bias: bias on the query, key and value projections.
    causal: a token sees itself and those before it.
    inits: of the kernels.
  """
  num_heads: int
  dtype: jax.typing.DTypeLike | None = None
  use_bias: bool = True
  causal: bool = False
  inits: Inits = Inits()

  @nn.compact
  def __call__(
      self,
      x: jax.Array,                   # [G, T, C]
      mask: jax.Array | None = None,  # [G, T] bool, False = padding
  ) -> jax.Array:                     # [G, T, C]
    G, T, C = x.shape
    A, F = self.num_heads, C // self.num_heads
    project = [Dense((C, A, F), 1, self.use_bias, self.dtype,
                     self.inits.project, name=name)
               for name in ("query", "key", "value")]
    if takes_packed(G, T, A, F, self.dtype or x.dtype, self.causal):
      qkv = product_of_all(x.reshape(-1, C), project)
      pooled = attend_packed(checkpoint_name(qkv, "qkv").reshape(G, T, -1),
                             mask, A, self.causal)
    else:
      q, k, v = (checkpoint_name(dense(x), "qkv").reshape(G, T, A, F)
                 for dense in project)
      pooled = attend(q, k, v, mask, causal=self.causal).reshape(G, T, C)
    return Dense((A, F, C), 2, dtype=self.dtype, name="out",
                 kernel_init=self.inits.out)(pooled)


class Mlp(nn.Module):
  """Dense, GELU, Dense."""
  hidden: int
  dtype: jax.typing.DTypeLike | None = None
  inits: Inits = Inits()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., C] -> [..., C]
    C = x.shape[-1]
    fc1 = Dense((C, self.hidden), dtype=self.dtype, name="fc1",
                kernel_init=self.inits.fc1, bias_init=self.inits.bias1)
    fc2 = Dense((self.hidden, C), dtype=self.dtype, name="fc2",
                kernel_init=self.inits.fc2, bias_init=self.inits.bias2)
    return fc2(gelu(checkpoint_name(fc1(x), "hidden")))


class Block(nn.Module):
  """Pre-norm transformer block with stochastic depth per group.

  Attributes:
    num_heads: A.
    hidden: width of the MLP.
    drop_path: probability with which a group skips a branch in training; may be
      a traced scalar.
    epsilon: of both norms.
    dtype: type of the matmuls, None for the input's.
    causal: a token sees itself and those before it.
    inits: of kernels and MLP biases.
  """
  num_heads: int
  hidden: int
  drop_path: float | jax.Array = 0.0
  epsilon: float = 1e-6
  dtype: jax.typing.DTypeLike | None = None
  causal: bool = False
  inits: Inits = Inits()

  @nn.compact
  def __call__(
      self,
      x: jax.Array,                   # [G, T, C]
      mask: jax.Array | None = None,  # [G, T] bool, False = padding
      train: bool = False,
  ) -> jax.Array:                     # [G, T, C]
    # Only attention and lots know groups: compilers do best by plain matrices.
    flat = lambda x: x.reshape(-1, x.shape[-1])
    grouped = lambda flat: flat.reshape(x.shape)
    skip = lambda branch: flat(DropPath(self.drop_path)(branch, train))
    norm = functools.partial(layer_norm, self.epsilon, self.dtype)
    attention = SelfAttention(self.num_heads, self.dtype, causal=self.causal,
                              inits=self.inits, name="attention")
    mlp = Mlp(self.hidden, self.dtype, self.inits, name="mlp")
    y = flat(x)
    y = y + skip(attention(grouped(norm(name="norm1")(y)), mask))
    y = y + skip(grouped(mlp(norm(name="norm2")(y))))
    return grouped(y)


def filler(rows: int, dtype) -> int:
  """Rows that make `rows` whole tiles of a TPU in half precision, else 0.

  A group of whole tiles is rows of one plain matrix; others are copied to it.
  """
  half = dtype is not None and jnp.dtype(dtype).itemsize <= 2
  return -rows % ROWS if half else 0


def smooth_patch_init(patch: tuple[int, int, int]):
  """Initialiser of a patch kernel [pd * ph * pw, C] from smooth filters only.

  Random mixtures of the lowest cosines, up to 3 x 4 x 4, scaled so that a
  smooth patch of unit variance gives outputs of unit variance. A white random
  kernel maps a bright spot to unrelated vectors depending on where in the patch
  it lies; pretrained kernels are smooth, and so is this one.
  """
  bases = []
  for size, limit in zip(patch, (3, 4, 4)):
    n, k = np.ogrid[:size, :min(size, limit)]
    cosines = np.cos(np.pi * (n + 0.5) * k / size)
    bases.append(cosines / np.linalg.norm(cosines, axis=0))
  basis = np.einsum("ai,bj,ck->abcijk", *bases).reshape(math.prod(patch), -1)

  def init(key, shape, dtype=jnp.float32):
    mixture = jax.random.normal(key, (basis.shape[1], shape[1]), dtype)
    return jnp.asarray(basis, dtype) @ mixture / math.sqrt(shape[0])

  return init


def sincos_1d(positions: np.ndarray, width: int) -> np.ndarray:
  """Fixed position code, sines then cosines: [n] -> [n, width] float64.

  Frequencies 10000^(-2 i / width), i = 0 .. width / 2 - 1.
  """
  omega = 10000.0 ** (-np.arange(width // 2) / (width / 2))
  angle = np.asarray(positions, np.float64)[:, None] * omega
  return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def sincos_3d(grid: tuple[int, int, int], width: int) -> np.ndarray:
  """One third of the channels per axis, in the order w, h, d: [d, h, w, width].

  Raises:
    ValueError: the width is not a multiple of 6.
  """
  if width % 6:
    raise ValueError(f"A 3-D position table needs a width that is a multiple "
                     f"of 6, got {width}.")
  d, h, w = np.meshgrid(*map(np.arange, grid), indexing="ij")
  parts = [sincos_1d(axis.ravel(), width // 3) for axis in (w, h, d)]
  return np.concatenate(parts, axis=1).reshape(*grid, width)


def resample_grid(table: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
  """Trilinear resize of a [d, h, w, C] table, without antialiasing."""
  shape = (*grid, table.shape[-1])
  if shape == table.shape:
    return table
  return jax.image.resize(table, shape, "linear", antialias=False)


def series_positions(
    table: jax.Array,             # [P, C] code of each place in the order
    num_series: int,
    order: jax.Array | None,      # [S] int, rows to take; None: 0 .. S - 1
) -> jax.Array:                   # [S, C]
  """Codes of the series of a study; more series than rows are interpolated."""
  if order is not None:
    return table[order]
  if num_series <= len(table):
    return table[:num_series]
  return jax.image.resize(table, (num_series, table.shape[1]), "linear",
                          antialias=False)


def interleaved_sincos(rows: int, width: int) -> np.ndarray:
  """[rows, width] code sin0, cos0, sin1, cos1, ... of the series names."""
  code = sincos_1d(np.arange(rows), width)
  return np.stack([code[:, :width // 2], code[:, width // 2:]],
                  axis=-1).reshape(rows, width).astype(np.float32)


def exact_zero_where(mask: jax.Array, x: jax.Array) -> jax.Array:
  """Sets `x` to 0 where `mask` is False, with no gradient either."""
  return jnp.where(mask, x, jnp.zeros((), x.dtype))
