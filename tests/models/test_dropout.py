"""What is left out in training, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import dropout
from itemclip_jax.ops import hashing


@pytest.mark.parametrize("rate", [0.25, jnp.float32(0.25)])
def test_drop_path_keeps_the_expectation(rate):
  x = jnp.ones((4000, 2))
  y = dropout.DropPath(rate).apply(
      {}, x, True, rngs={"dropout": jax.random.key(0)})
  assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
  np.testing.assert_array_equal(y[:, 0], y[:, 1])   # whole groups
  assert abs(float(y.mean()) - 1) < 0.03            # 4 standard errors
  np.testing.assert_array_equal(dropout.DropPath(rate).apply({}, x, False), x)


def test_dropout_keeps_the_expectation_and_the_rate():
  x = jnp.ones((50, 40, 64))
  y = dropout.Dropout(0.1).apply({}, x, True,
                                 rngs={"dropout": jax.random.key(0)})
  assert set(np.unique(y)) == {0.0, np.float32(1 / 0.9)}
  # Four standard errors of 128 000 draws, of each row and of each column.
  assert abs(float((y == 0).mean()) - 0.1) < 4 * (0.09 / y.size) ** 0.5
  for axes, size in (((0, 1), 2000), ((2,), 64)):
    shares = np.asarray((y == 0).mean(axes))
    assert abs(shares.std() - (0.09 / size) ** 0.5) < 0.3 * shares.std()
  np.testing.assert_array_equal(dropout.Dropout(0.1).apply({}, x, False), x)


def test_draws_of_neighbours_and_keys_are_independent():
  a, b = (np.asarray(hashing.stays(jax.random.key(k), (300, 300), 0.5))
          for k in (0, 1))
  for one, other in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
    # A correlation of 90 000 pairs has a standard error of 1/300.
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / 300


def test_a_draw_depends_on_its_place_alone():
  """More rows change no draw of the first ones."""
  key = jax.random.key(0)
  few, many = (hashing.stays(key, (n, 7, 5), 0.3) for n in (3, 9))
  np.testing.assert_array_equal(few, many[:3])
