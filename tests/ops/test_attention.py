"""Attention that ignores padding, and the softmax with a slot for nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.ops import attention

CLOSE = dict(rtol=1e-6, atol=1e-7)  # float32, sums of at most ten terms


def concatenated(logits, keep):
  """The definition: softmax over `[logits; 0]`, last entry cut off."""
  if keep is not None:
    logits = jnp.where(keep, logits, -1e9)
  slot = jnp.zeros((*logits.shape[:-1], 1), logits.dtype)
  return jax.nn.softmax(jnp.concatenate([logits, slot], -1))[..., :-1]


RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 3, 10)).astype(np.float32)
TOWARD = RNG.normal(size=(2, 3, 10)).astype(np.float32)
KEEP = RNG.random((2, 3, 10)) < 0.6


@jax.jit
def ours(logits, keep):
  return attention.softmax_zero_slot(logits, keep)


@functools.partial(jax.jit, static_argnums=0)
def gradient(f, logits, keep):
  return jax.grad(lambda x: jnp.sum(f(x, keep) * TOWARD))(logits)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1.0, 30.0])  # 30: weights of 0 and 1
def test_zero_slot_equals_the_concatenated_softmax(masked, size):
  x = LOGITS * np.float32(size)
  keep = KEEP if masked else None
  np.testing.assert_allclose(ours(x, keep), jax.jit(concatenated)(x, keep),
                             **CLOSE)
  np.testing.assert_allclose(gradient(ours, x, keep),
                             gradient(concatenated, x, keep), **CLOSE)


def test_a_row_without_a_kept_token_leaves_all_weight_in_the_slot():
  keep = KEEP.copy()
  keep[0, 1] = False
  np.testing.assert_array_equal(ours(LOGITS, keep)[0, 1], 0.0)
  grad = gradient(ours, LOGITS, keep)
  assert np.isfinite(grad).all()
  np.testing.assert_array_equal(grad[0, 1], 0.0)


def test_huge_logits_neither_overflow_nor_fill_the_slot():
  for value, weight in ((1e4, 0.1), (-1e4, 0.0)):
    x = np.full_like(LOGITS, value)
    np.testing.assert_allclose(ours(x, None), weight, **CLOSE)
    assert np.isfinite(gradient(ours, x, None)).all()


@jax.jit
def attend(q, k, v, mask):
  """The values and their gradient with respect to keys and values."""
  total = lambda k, v: (lambda x: (x.sum(), x))(
      attention.attend(q, k, v, mask))
  grads, x = jax.grad(total, (0, 1), has_aux=True)(k, v)
  return x, grads


def test_padded_keys_take_no_part_in_attention():
  q, k, v = np.random.default_rng(1).normal(
      size=(3, 2, 5, 2, 4)).astype(np.float32)
  mask = np.arange(5) < np.array([3, 5])[:, None]
  poison = lambda x: np.where(mask[..., None, None], x, np.float32(1e3))
  ours, grads = attend(q, poison(k), poison(v), mask)
  np.testing.assert_array_equal(ours, attend(q, k, v, mask)[0])
  cut, _ = attend(q, k[:, :3], v[:, :3], None)
  np.testing.assert_allclose(ours[0], cut[0], **CLOSE)
  for grad in grads:
    np.testing.assert_array_equal(grad[~mask], 0.0)


def test_causal_attention_of_a_query_is_that_over_the_keys_so_far():
  q, k, v = np.random.default_rng(2).normal(
      size=(3, 2, 5, 2, 4)).astype(np.float32)
  mask = np.arange(5) != np.array([5, 1])[:, None]   # one padded key in row 1
  ours = jax.jit(functools.partial(attention.attend, causal=True))(
      q, k, v, mask)
  for i in range(5):
    upto = slice(0, i + 1)
    theirs, _ = attend(q[:, i:i + 1], k[:, upto], v[:, upto], mask[:, upto])
    np.testing.assert_allclose(ours[:, i:i + 1], theirs, **CLOSE)


def test_a_group_of_padding_only_stays_finite():
  x = np.ones((2, 5, 2, 4), np.float32)
  pooled, grads = attend(x, x, x, np.zeros((2, 5), bool))
  assert all(np.isfinite(a).all() for a in (pooled, *grads))


@pytest.mark.parametrize("given, got", [
    ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_softmax_is_never_narrower_than_float32(given, got):
  with jax.enable_x64(True):
    assert jax.eval_shape(attention.wide, jnp.zeros(2, given)).dtype == got
