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

from itemclip_jax.models.dropout import DropPath
from itemclip_jax.ops.attention import attend


def gelu(x: jax.Array) -> jax.Array:
  """The exact form; jax.nn.gelu defaults to tanh's, up to 5e-4 away."""
  if x.dtype.itemsize > 2:
    return jax.nn.gelu(x, approximate=False)
  return _half_gelu(x)


@jax.custom_jvp
def _half_gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) of half-precision numbers, in float32.

  Phi by an approximation with error 1e-7, a thousandth of what half precision
  can tell; it takes a quarter of the operations of JAX's erfc, which would be a
  third of the time of an MLP, and shares its exponential with the derivative.

  Reference: Abramowitz and Stegun 1964, 7.1.26.
  """
  wide = x.astype(jnp.float32)
  return (wide * _normal(wide)[0]).astype(x.dtype)


@_half_gelu.defjvp
def _half_gelu_jvp(primals, tangents):
  (x,), (t,) = primals, tangents
  wide = x.astype(jnp.float32)
  below, density = _normal(wide)
  slope = (below + wide * density).astype(x.dtype)
  return (wide * below).astype(x.dtype), slope * t


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Distribution and density of the standard normal."""
  bell = jnp.exp(-0.5 * x * x)
  t = 1 / (1 + 0.3275911 * 2 ** -0.5 * jnp.abs(x))
  tail = 0.0
  for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736,
                 0.254829592):
    tail = (tail + factor) * t
  upper = 0.5 * tail * bell                       # of |x|
  return jnp.where(x < 0, upper, 1 - upper), bell * (2 * math.pi) ** -0.5

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


class HeadDense(nn.Module):
  """A dense layer from or to attention heads on flat arrays.

  Parameters and values are those of `nn.DenseGeneral`; arrays are [..., C] or
  [..., A F] and never [..., A, F], whose two small axes waste most of a tile of
  a TPU's memory.

  Attributes:
    shape: of the kernel, (C, A, F) to heads, or (A, F, C) from them.
    inputs: leading axes of the kernel that are summed over, 1 or 2.
  """
  shape: tuple[int, int, int]
  inputs: int
  use_bias: bool = True
  dtype: jax.typing.DTypeLike | None = None
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    rows = math.prod(self.shape[:self.inputs])
    flat = (rows, math.prod(self.shape) // rows)
    kernel = self.param("kernel", lambda key: self.kernel_init(
        key, flat, jnp.float32).reshape(self.shape))
    bias = self.param("bias", nn.initializers.zeros,
                      self.shape[self.inputs:]) if self.use_bias else None
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias,
                                              dtype=self.dtype)
    x = x @ kernel.reshape(flat)
    return x if bias is None else x + bias.reshape(-1)


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
    *groups, C = x.shape
    A, F = self.num_heads, C // self.num_heads

    def heads(name):
      flat = HeadDense((C, A, F), 1, self.use_bias, self.dtype,
                       self.inits.project, name=name)(x)
      return checkpoint_name(flat, name).reshape(*groups, A, F)

    pooled = attend(heads("query"), heads("key"), heads("value"), mask,
                    causal=self.causal)
    return HeadDense((A, F, C), 2, dtype=self.dtype, name="out",
                     kernel_init=self.inits.out)(pooled.reshape(*groups, C))


class Mlp(nn.Module):
  """Dense, GELU, Dense."""
  hidden: int
  dtype: jax.typing.DTypeLike | None = None
  inits: Inits = Inits()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., C] -> [..., C]
    fc1 = nn.Dense(self.hidden, dtype=self.dtype, name="fc1",
                   kernel_init=self.inits.fc1, bias_init=self.inits.bias1)
    fc2 = nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2",
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
    skip = lambda x: DropPath(self.drop_path)(x, train)
    norm = functools.partial(layer_norm, self.epsilon, self.dtype)
    attention = SelfAttention(self.num_heads, self.dtype, causal=self.causal,
                              inits=self.inits, name="attention")
    x = x + skip(attention(norm(name="norm1")(x), mask))
    mlp = Mlp(self.hidden, self.dtype, self.inits, name="mlp")
    return x + skip(mlp(norm(name="norm2")(x)))


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
