"""Local scores of models without item attention."""

import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models.token_similarity import TokenSimilarity
from itemclip_jax.ops import item_pairs


def _inputs(seed=0):
  rng = np.random.default_rng(seed)
  items = rng.normal(size=(2, 3, 8))
  tokens = rng.normal(size=(2, 5, 8))
  mask = np.ones((2, 5), bool)
  mask[1, 3:] = False
  return items, tokens, mask


def test_it_is_a_softmax_of_cosines_with_a_slot_for_nothing():
  items, tokens, mask = _inputs()
  out = TokenSimilarity(0.5).apply({}, items, tokens, mask)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  for b in range(2):
    seen = unit(tokens[b][mask[b]])
    weight = np.exp(unit(items[b]) @ seen.T / 0.5)
    weight /= 1 + weight.sum(1, keepdims=True)
    np.testing.assert_allclose(out[b], weight @ seen, rtol=1e-5)


def test_padded_tokens_never_leak():
  items, tokens, mask = _inputs()
  poisoned = np.where(mask[..., None], tokens, 1e30)
  apply = lambda t: TokenSimilarity().apply({}, items, t, mask)
  np.testing.assert_array_equal(apply(tokens), apply(poisoned))


def test_it_answers_to_the_comparison_of_pairs():
  items, tokens, mask = _inputs()
  module = TokenSimilarity(0.2)
  call = lambda *a, method: module.apply({}, *a, method=method)
  pairs = item_pairs.compare(
      call(jnp.asarray(items.reshape(6, 8)), method="project_items"),
      call(jnp.asarray(tokens), mask, method="project_tokens"),
      np.array([[0, 1, 2], [3, 4, 5]]),
      lambda x: call(x, method="output"), num_own=0)
  pooled = module.apply({}, items, tokens, mask)
  want = np.sum(np.asarray(item_pairs.unit(pooled)) * np.asarray(
      item_pairs.unit(items)), -1)
  np.testing.assert_allclose(pairs.local, want, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_lengths_change_nothing(scale):
  items, tokens, mask = _inputs()
  apply = lambda i, t: TokenSimilarity().apply({}, i, t, mask)
  np.testing.assert_allclose(apply(items, tokens),
                             apply(items * scale, tokens * scale), rtol=1e-5)
