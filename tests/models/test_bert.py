"""The text tower: padding is never read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models.bert import PAD_ID, Bert

MODEL = Bert(vocab_size=20, width=8, depth=2, num_heads=2, hidden=16,
             max_positions=12, dropout=0.5)
IDS = np.array([[2, 5, 6, 3, 0, 0], [2, 7, 3, 0, 0, 0], [0] * 6], np.int32)


@pytest.fixture(name="params", scope="module")
def _params():
  shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), IDS))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: (0.5 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


apply = jax.jit(MODEL.apply)


@jax.jit
def gradient(params, ids, row):
  return jax.grad(lambda p: MODEL.apply(p, ids)[row].sum())(params)["params"]


def test_padding_tokens_change_nothing(params):
  cut = apply(params, IDS[:1, :4])
  # float32: softmax sums of 4 and of 6 terms.
  np.testing.assert_allclose(apply(params, IDS)[0], cut[0], rtol=1e-5,
                             atol=1e-6)


def test_padding_gets_no_gradient(params):
  grad = gradient(params, IDS, 0)
  np.testing.assert_array_equal(grad["word"]["embedding"][PAD_ID], 0.0)
  np.testing.assert_array_equal(grad["position"]["embedding"][4:], 0.0)
  assert np.abs(grad["word"]["embedding"][5]).max() > 0


def test_a_row_of_padding_stays_finite(params):
  assert np.isfinite(apply(params, IDS)[2]).all()
  for leaf in jax.tree.leaves(gradient(params, IDS, 2)):
    assert np.isfinite(leaf).all()


def test_later_tokens_are_read_by_the_first(params):
  other = IDS.copy()
  other[0, 2] = 9
  changed = np.abs(apply(params, other) - apply(params, IDS)).max(1)
  assert changed[0] > 1e-3 and (changed[1:] == 0).all()


def test_dropout_acts_in_training_only(params):
  train = jax.jit(lambda seed: MODEL.apply(
      params, jnp.asarray(IDS), train=True,
      rngs={"dropout": jax.random.key(seed)}))
  assert not np.allclose(train(0), train(1))
  np.testing.assert_array_equal(train(0), train(0))
