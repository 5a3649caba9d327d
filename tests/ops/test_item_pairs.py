"""Key tokens and the comparison of images with their candidate items."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.ops import item_pairs
from itemclip_jax.ops import key_tokens as key_token_lib

B, J, N, K, A, F = 2, 5, 8, 2, 2, 3
E = A * F

# float32: cosines of vectors of 6, pooled over 8 tokens.
CLOSE = dict(rtol=1e-5, atol=1e-6)


key_tokens = jax.jit(key_token_lib.key_tokens, static_argnums=2)


def chosen(weights, mask, rate):
  """Indices of the key tokens of one candidate of one image."""
  found = key_tokens(np.asarray(weights, np.float32)[None, None],
                     np.asarray(mask, bool)[None], rate)
  return np.flatnonzero(found[0, 0]).tolist()


@pytest.mark.parametrize("real, rate, count", [
    (8, 0.25, 2), (7, 0.25, 1), (4, 0.25, 1), (8, 0.05, 1), (1, 0.9, 1),
    (8, 1.0, 8), (5, 1.0, 5)])
def test_the_number_of_key_tokens_counts_real_tokens_only(real, rate, count):
  weights = np.linspace(1.0, 0.1, 8)
  assert chosen(weights, np.arange(8) < real, rate) == list(range(count))


def test_the_number_is_floored_exactly():
  """0.29 * 100 is 28.999... in float64 and 29.000002 in float32."""
  assert len(chosen(np.arange(100), np.ones(100), 0.29)) == int(0.29 * 100)


def test_padding_is_never_a_key_token_however_large_its_weight():
  weights = [0.9, 0.1, 0.8, 0.0, 0.7]
  mask = [False, True, False, True, False]
  assert chosen(weights, mask, 0.5) == [1]
  assert chosen(weights, mask, 1.0) == [1, 3]


def test_of_equal_weights_the_lower_index_wins():
  assert chosen([0.1, 0.3, 0.3, 0.3], np.ones(4), 0.5) == [1, 2]
  assert chosen(np.zeros(4), np.ones(4), 0.5) == [0, 1]
  assert chosen(np.zeros(4), [False, True, True, True], 0.7) == [1, 2]


def test_key_tokens_are_those_of_a_stable_sort():
  """With many ties, and in both widths of numbers."""
  rng = np.random.default_rng(0)
  weights = rng.integers(0, 6, (2, 3, 40)) / 7.0
  mask = rng.random((2, 40)) < 0.8
  for dtype in (np.float32, np.float64):
    with jax.enable_x64(dtype == np.float64):
      found = np.asarray(key_tokens(weights.astype(dtype), mask, 0.3))
    for i, j in np.ndindex(2, 3):
      real = np.flatnonzero(mask[i])
      order = real[np.argsort(-weights[i, j, real], kind="stable")]
      wanted = np.sort(order[:int(0.3 * len(real))])
      np.testing.assert_array_equal(np.flatnonzero(found[i, j]), wanted)


def test_an_image_without_tokens_has_no_key_tokens():
  assert chosen(np.ones(4), np.zeros(4), 0.5) == []


@pytest.fixture(name="compare", scope="module")
def _compare():
  """Compiled comparison of fixed inputs; image 1 has padded tokens."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  x = dict(
      items=item_pairs.Items(draw(B * K, E), draw(B * K, A, F)),
      tokens=item_pairs.Tokens(draw(B, N, A, F), draw(B, N, A, F),
                               np.arange(N) < np.array([N, N - 3])[:, None]),
      candidates=rng.integers(0, B * K, (B, J)))
  kernel = draw(A, F, E)

  def compare(**settings):
    def run(items, tokens, candidates):
      return item_pairs.compare(
          items, tokens, candidates,
          lambda x: jnp.einsum("bjaf,afe->bje", x, kernel), **settings)
    return jax.jit(run)(**x)

  return compare, x, kernel


def test_pairs_are_the_cosines_of_pooled_vectors_and_items(compare):
  compare, x, kernel = compare
  pairs = compare(num_own=K)
  cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  tokens, texts = x["tokens"], x["items"].embedding
  for i, j in np.ndindex(B, J):
    item = x["candidates"][i, j]
    real = tokens.mask[i]
    logits = np.einsum("af,naf->an", x["items"].query[item],
                       tokens.key[i, real])
    weights = np.exp(logits / np.sqrt(F))
    weights /= 1 + weights.sum(1, keepdims=True)
    vector = np.einsum("an,naf,afe->e", weights, tokens.value[i, real], kernel)
    np.testing.assert_allclose(pairs.local[i, j], cosine(vector, texts[item]),
                               **CLOSE)
    own = [cosine(vector, text) for text in texts[i * K:(i + 1) * K]]
    np.testing.assert_allclose(pairs.own[i, j], own, **CLOSE)
  assert pairs.key is None


def test_all_tokens_as_key_tokens_give_the_local_cosine(compare):
  pairs = compare[0](num_own=K, kta_rate=1.0)
  np.testing.assert_allclose(pairs.key, pairs.local, **CLOSE)


def test_without_own_items_the_rest_is_unchanged(compare):
  """What scoring asks: no image owns an item."""
  own, none = (compare[0](num_own=k, kta_rate=0.3, block=2)
               for k in (K, 0))
  assert none.own.shape == (B, J, 0)
  np.testing.assert_allclose(none.local, own.local, **CLOSE)
  np.testing.assert_allclose(none.key, own.key, **CLOSE)


def test_blocks_and_the_form_of_their_masks_change_nothing(compare):
  keep = np.random.default_rng(1).random((B, A, J, N)) < 0.7
  by_function = lambda images, start, size: jax.lax.dynamic_slice_in_dim(
      jnp.asarray(keep)[images], start, size, axis=2)
  settings = dict(num_own=K, kta_rate=0.3)
  whole = compare[0](keep=keep, **settings)
  for given in (keep, by_function):
    blocked = compare[0](keep=given, block=2, **settings)
    chex.assert_trees_all_close(blocked, whole, **CLOSE)


def test_a_vector_of_zeros_stays_zero_and_finite():
  value_and_grad = jax.jit(jax.value_and_grad(
      lambda x: item_pairs.unit(x).sum()))
  value, grad = value_and_grad(np.zeros((2, 3), np.float32))
  assert value == 0.0 and np.isfinite(grad).all()


def test_the_choice_of_key_tokens_carries_no_gradient():
  mask = np.ones((1, 4), bool)
  total = lambda w: jnp.sum(w * key_token_lib.key_tokens(w, mask, 0.5))
  weights = np.array([[[0.4, 0.3, 0.2, 0.1]]], np.float32)
  np.testing.assert_array_equal(jax.jit(jax.grad(total))(weights)[0, 0],
                                [1, 1, 0, 0])


def test_some_images_at_a_time_may_own_no_items(monkeypatch):
  """As in scoring, where texts are nobody's own; 4 images, 2 of them a piece."""
  rng = np.random.default_rng(0)
  array = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  items = item_pairs.Items(array(6, E), array(6, A, F))
  tokens = item_pairs.Tokens(array(4, N, A, F), array(4, N, A, F),
                             jnp.ones((4, N), bool))
  candidates = jnp.asarray(rng.integers(0, 6, (4, J)))
  run = lambda: item_pairs.compare(
      items, tokens, candidates, lambda x: x.reshape(*x.shape[:2], E),
      num_own=0).local
  whole = run()
  monkeypatch.setattr(item_pairs, "_PIECE", {"cpu": 2 * J * N * A})
  assert item_pairs._sizes(4, J, N * A, 0) == (2, J)
  np.testing.assert_allclose(run(), whole, **CLOSE)
