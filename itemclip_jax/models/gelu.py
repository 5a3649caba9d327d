"""GELU in its exact form, and what is as good in half precision."""

import jax
import jax.numpy as jnp


def gelu(x: jax.Array) -> jax.Array:
  """The exact form; jax.nn.gelu defaults to tanh's, up to 5e-4 away."""
  if x.dtype.itemsize > 2:
    return jax.nn.gelu(x, approximate=False)
  return _half_gelu(x)


@jax.custom_jvp
def _half_gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) of half-precision numbers, in float32.

  Phi(x) = (1 + tanh(x p(x^2))) / 2, where p is our least maximum fit of
  artanh(2 Phi - 1) over |x| < 4: results are within 4e-4 of themselves, a tenth
  of what half precision rounds away. One tanh serves the value and its slope.
  """
  below = _normal(x)[0]
  return (x.astype(jnp.float32) * below).astype(x.dtype)


@_half_gelu.defjvp
def _half_gelu_jvp(primals, tangents):
  (x,), (t,) = primals, tangents
  wide = x.astype(jnp.float32)
  below, slope = _normal(x)
  return (wide * below).astype(x.dtype), (below + slope).astype(x.dtype) * t


# p, lowest power first.
_FIT = (7.97430963e-01, 3.69764275e-02, -2.91468172e-04, -1.12579777e-05,
        4.07749189e-07)


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Phi(x), and x times its derivative, of the fit."""
  x = jnp.clip(x.astype(jnp.float32), -8, 8)  # beyond it Phi is 0 or 1
  square = x * x
  value = slope = 0.0
  for power, factor in reversed(list(enumerate(_FIT))):
    value = value * square + factor
    slope = slope * square + (2 * power + 1) * factor
  side = jnp.tanh(x * value)
  return 0.5 + 0.5 * side, 0.5 * x * slope * (1 - side * side)
