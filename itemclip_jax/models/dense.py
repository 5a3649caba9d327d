"""Dense layers on plain matrices, as compilers for TPUs do best by them."""

from collections.abc import Callable
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.ops.attention_backends import packed

ROWS = 8        # of a tile of a TPU, and of the least matrix it multiplies


@jax.custom_vjp
def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """[N, C] + [C]; the bias has the gradient of a product with ones.

  The matrix unit of a TPU sums rows in a third of the time that units for
  vectors take.
  """
  return x + bias.astype(x.dtype)


def _add_bias_fwd(x, bias):
  return _add_bias(x, bias), jnp.zeros((), bias.dtype)


def _add_bias_bwd(like, toward):
  # Hidden from the compiler, which would make a sum of a product with ones.
  ones = jax.lax.optimization_barrier(
      jnp.ones((ROWS, len(toward)), toward.dtype))
  total = jnp.matmul(ones, toward, preferred_element_type=jnp.float32)[0]
  return toward, total.astype(like.dtype)


_add_bias.defvjp(_add_bias_fwd, _add_bias_bwd)


class Dense(nn.Module):
  """A dense layer, also from or to attention heads, on flat arrays.

  Parameters and values are those of `nn.Dense` or `nn.DenseGeneral`; arrays are
  [..., C] or [..., A F] and never [..., A, F], whose two small axes waste most
  of a tile of a TPU's memory. The product is one of two plain matrices.

  Attributes:
    shape: of the kernel: (C, D), to heads (C, A, F), from heads (A, F, C).
    inputs: leading axes of the kernel that are summed over, 1 or 2.
  """
  shape: tuple[int, ...]
  inputs: int = 1
  use_bias: bool = True
  dtype: jax.typing.DTypeLike | None = None
  kernel_init: Callable = nn.initializers.lecun_normal()
  bias_init: Callable = nn.initializers.zeros

  @nn.compact
  def weights(self) -> tuple[jax.Array, jax.Array | None]:
    """Kernel and bias as a plain matrix and vector."""
    rows = math.prod(self.shape[:self.inputs])
    flat = (rows, math.prod(self.shape) // rows)
    kernel = self.param("kernel", lambda key: self.kernel_init(
        key, flat, jnp.float32).reshape(self.shape)).reshape(flat)
    if not self.use_bias:
      return kernel, None
    bias = self.param("bias", self.bias_init, self.shape[self.inputs:])
    return kernel, bias.reshape(-1)

  def __call__(self, x: jax.Array) -> jax.Array:
    x, lead = x.reshape(-1, math.prod(self.shape[:self.inputs])), x.shape[:-1]
    kernel, bias = self.weights()
    # What widens is followed by an activation, and the sum of its gradient
    # rides along with the gradient of that.
    widens = kernel.shape[1] > kernel.shape[0]
    x = _dense(x, kernel, bias, self.dtype, as_product=not widens)
    return x.reshape(*lead, -1)


def _dense(x, kernel, bias, dtype, *, as_product: bool):
  """[N, C] -> [N, D]; as_product: the bias has its gradient by a product."""
  x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=dtype)
  # Else its gradient is computed in the parameter's shape, by copies.
  x = x @ jax.lax.optimization_barrier(kernel)
  if bias is None:
    return x
  if as_product and x.dtype.itemsize <= 2:
    return _add_bias(x, bias)
  return x + bias.astype(x.dtype)


def product_of_all(x: jax.Array, layers: list[Dense]) -> jax.Array:
  """[N, C] -> [N, 3 C], as `attend_packed` takes it."""
  kernels, biases = zip(*(dense.weights() for dense in layers))
  bias = None if biases[0] is None else packed(biases)
  dtype = layers[0].dtype
  kernels = nn.dtypes.promote_dtype(*kernels, dtype=dtype)
  return _dense(x, packed(kernels), bias, dtype, as_product=True)
