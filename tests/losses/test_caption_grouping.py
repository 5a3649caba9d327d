"""DreamLIP's grouping: weights by hand, a plain reference, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses.caption_grouping import group_weights, grouping

B, K, N, E = 3, 3, 6, 8
SCALE = 4.0
CLOSE = dict(rtol=1e-5, atol=1e-6)  # float32
ITEM_MASK = np.arange(K) < np.array([3, 1, 2])[:, None]
TOKEN_MASK = np.arange(N) < np.array([6, 4, 5])[:, None]


def features():
  rng = np.random.default_rng(0)
  return (rng.normal(size=(B, K, E)).astype(np.float32),
          rng.normal(size=(B, N, E)).astype(np.float32))


def loss(items, tokens, item_mask=ITEM_MASK, token_mask=TOKEN_MASK, **settings):
  return grouping(items, item_mask, tokens, token_mask, scale=SCALE, **settings)


def plain(items, tokens, *, over, sigma=0.0):
  """By loops over captions and tokens."""
  unit = lambda v: v / np.linalg.norm(v)
  texts, groups, owner = [], [], []
  for i, k in np.argwhere(ITEM_MASK):
    seen = [unit(v) for v in tokens[i][TOKEN_MASK[i]]]
    text = unit(items[i, k])
    cosine = np.array([text @ v for v in seen])
    score = (cosine - cosine.min()) / (cosine.max() - cosine.min())
    score[score < sigma] = 0
    texts.append(text)
    groups.append(unit(sum(w * v for w, v in zip(score / score.sum(), seen))))
    owner.append(i)
  total = 0.0
  for a, text in enumerate(texts):
    rivals = [b for b in range(len(texts))
              if over == "batch" or owner[b] == owner[a]]
    row = np.array([SCALE * text @ groups[b] for b in rivals])
    column = np.array([SCALE * texts[b] @ groups[a] for b in rivals])
    own = SCALE * text @ groups[a]
    total -= own - 0.5 * np.log(np.exp(row).sum()) - 0.5 * np.log(
        np.exp(column).sum())
  return total / len(texts)


def test_weights_by_hand():
  """Cosines 1, 0.6 and 0: after min-max 1, 0.6 and 0."""
  tokens = jnp.array([[[2.0, 0.0], [0.6, 0.8], [0.0, 1.0]]])
  weights = lambda sigma: group_weights(
      jnp.array([[[3.0, 0.0]]]), tokens, jnp.ones((1, 3), bool), sigma)[0, 0]
  np.testing.assert_allclose(weights(0.0), [1 / 1.6, 0.6 / 1.6, 0], **CLOSE)
  np.testing.assert_allclose(weights(0.7), [1, 0, 0], **CLOSE)
  np.testing.assert_allclose(weights(-1.0), weights(1 / 3), **CLOSE)
  np.testing.assert_array_equal(weights(1.1), 0.0)


@pytest.mark.parametrize("sigma", [0.0, 0.5, -1.0])
def test_weights_sum_to_one_and_are_zero_below_sigma_and_on_padding(sigma):
  weights = np.asarray(group_weights(*features(), TOKEN_MASK, sigma))
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
  padding = np.broadcast_to(~TOKEN_MASK[:, None], weights.shape)
  np.testing.assert_array_equal(weights[padding], 0.0)
  limit = np.where(sigma < 0, 1 / TOKEN_MASK.sum(1), sigma)[:, None, None]
  # The largest stands for a score of 1.
  score = weights / weights.max(-1, keepdims=True)
  assert ((weights == 0) | (score >= limit - 1e-6)).all()
  assert (weights == 0)[~padding].sum() > (9 if sigma else 0)


def test_tokens_that_match_alike_weigh_alike():
  items, tokens = features()
  same = np.broadcast_to(tokens[:, :1], tokens.shape)
  weights = group_weights(items, same, TOKEN_MASK)
  np.testing.assert_allclose(
      weights, np.broadcast_to((TOKEN_MASK / TOKEN_MASK.sum(
          1, keepdims=True))[:, None], weights.shape), rtol=1e-6)
  assert np.isfinite(jax.grad(lambda t: loss(items, t))(
      jnp.asarray(same))).all()


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("sigma", [0.0, 0.4])
def test_agrees_with_plain_loops(over, sigma):
  items, tokens = features()
  np.testing.assert_allclose(
      loss(items, tokens, over=over, sigma=sigma),
      plain(items, tokens, over=over, sigma=sigma), **CLOSE)


@pytest.mark.parametrize("over", ["batch", "image"])
def test_where_no_token_reaches_sigma_nothing_is_lost(over):
  items, tokens = features()
  value, grads = jax.value_and_grad(
      lambda *x: loss(*x, over=over, sigma=1.5), (0, 1))(
          jnp.asarray(items), jnp.asarray(tokens))
  assert value == 0 and all((g == 0).all() for g in grads)


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("poison", [1e30, np.inf, np.nan])
def test_padding_never_leaks(over, poison):
  items, tokens = features()
  fill = lambda mask, x: jnp.asarray(
      np.where(mask[..., None], x, np.float32(poison)))
  run = jax.value_and_grad(lambda *x: loss(*x, over=over), (0, 1))
  wanted = run(jnp.asarray(items), jnp.asarray(tokens))
  value, grads = run(fill(ITEM_MASK, items), fill(TOKEN_MASK, tokens))
  np.testing.assert_array_equal(value, wanted[0])
  for mask, ours, theirs in zip((ITEM_MASK, TOKEN_MASK), grads, wanted[1]):
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[~mask], 0.0)
    assert (np.abs(ours[mask]).max(-1) > 0).any()


def test_one_caption_an_image_has_no_rival_in_its_image():
  items, tokens = features()
  one = loss(items, tokens, np.arange(K) < np.ones((B, 1)), over="image")
  np.testing.assert_allclose(one, 0.0, atol=1e-6)


def test_captions_meet_the_tokens_of_their_own_image():
  """The caption of an image is one of its tokens; the best match is at home."""
  tokens = features()[1]
  value = grouping(tokens[:, :K], np.ones((B, K), bool), tokens,
                   np.ones((B, N), bool), scale=SCALE, over="batch", sigma=1.0)
  away = grouping(tokens[[1, 2, 0], :K], np.ones((B, K), bool), tokens,
                  np.ones((B, N), bool), scale=SCALE, over="batch", sigma=1.0)
  assert value < away
