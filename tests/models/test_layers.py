"""Parts that the towers share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from itemclip_jax.models import layers
from itemclip_jax.models.dense import Dense
from itemclip_jax.models.gelu import gelu

# Half precision rounds by 2^-8 of a number, the fit of GELU is off by 4e-4.
HALF = 2**-8 + 4e-4


def _exact(x):
  """GELU and its slope in float64."""
  below = scipy.special.ndtr(x)
  return x * below, below + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("dtype, relative", [("float32", 1e-5),
                                             ("bfloat16", HALF)])
def test_gelu_is_the_exact_form(dtype, relative):
  x = jnp.linspace(-4, 4, 4001).astype(dtype)
  value, slope = jax.vmap(jax.value_and_grad(gelu))(x)
  exact, of_slope = _exact(np.asarray(x, np.float64))
  np.testing.assert_allclose(np.asarray(value, np.float64), exact,
                             rtol=relative, atol=1e-6)
  # A sum of two terms, of which the larger is rounded.
  np.testing.assert_allclose(np.asarray(slope, np.float64), of_slope,
                             rtol=relative, atol=relative)


def test_half_gelu_far_out():
  x = jnp.asarray([-3e38, -1e4, -60, -8, 0, 8, 60, 1e4, 3e38], jnp.bfloat16)
  value, slope = jax.vmap(jax.value_and_grad(gelu))(x)
  np.testing.assert_array_equal(value, np.where(x > 0, x, 0))
  np.testing.assert_array_equal(slope, np.where(x == 0, 0.5, x > 0))


def test_filler_makes_whole_tiles_in_half_precision():
  assert [layers.filler(n, jnp.bfloat16) for n in (1, 8, 197)] == [7, 0, 3]
  assert layers.filler(197, None) == layers.filler(197, jnp.float32) == 0


@pytest.mark.parametrize("shape, inputs", [((6, 4), 1), ((6, 2, 2), 1),
                                           ((2, 3, 4), 2)])
def test_dense_is_flax_dense_with_its_gradients(shape, inputs):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 5, 6)), jnp.float32)
  mine = Dense(shape, inputs, dtype=jnp.bfloat16)
  params = {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=shape[inputs:]), jnp.float32)}
  toward = jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.bfloat16)

  def flax(params, x):
    x = x.astype(jnp.bfloat16) @ params["kernel"].reshape(6, 4).astype(
        jnp.bfloat16)
    return x + params["bias"].reshape(-1).astype(jnp.bfloat16)

  ours, back = jax.vjp(lambda *a: mine.apply({"params": a[0]}, a[1]), params, x)
  theirs, their_back = jax.vjp(flax, params, x)
  np.testing.assert_array_equal(ours, theirs)
  (ours, of_x), (theirs, their_x) = back(toward), their_back(toward)
  np.testing.assert_array_equal(of_x, their_x)
  np.testing.assert_array_equal(ours["kernel"], theirs["kernel"])
  # The sum of ten numbers: ours in float32, the other in half precision.
  np.testing.assert_allclose(
      ours["bias"].reshape(-1), toward.astype(jnp.float32).sum((0, 1)),
      rtol=1e-6, atol=1e-6)
