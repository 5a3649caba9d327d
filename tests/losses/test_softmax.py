"""Softmax contrast: by hand, by plain loops, and what padding does to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses.softmax import symmetric_nll

M = 5
CLOSE = dict(rtol=1e-5, atol=1e-6)  # float32
LOGITS = np.random.default_rng(0).normal(0, 3, (M, M)).astype(np.float32)
MASK = np.array([True, False, True, True, False])
FLAG = np.array([1, 1, 0, 1, 0], bool)
TARGETS = np.eye(M, dtype=bool) | (FLAG[:, None] & FLAG)


def plain(logits, targets):
  """By loops over rows and columns."""
  n, loss = len(logits), np.zeros(len(logits))
  for x, y in ((logits, targets), (logits.T, targets.T)):
    for i in range(n):
      loss[i] -= 0.5 * sum(
          y[i, j] * (x[i, j] - np.log(np.exp(x[i]).sum())) for j in range(n))
  return loss


def test_two_pairs_by_hand():
  """Row 0: log(1 + e^-2); column 0: log(1 + e^-1)."""
  loss = symmetric_nll(jnp.array([[2.0, 0.0], [1.0, 1.0]]), jnp.ones(2, bool))
  soft = lambda x: np.log1p(np.exp(x))
  np.testing.assert_allclose(
      loss, [(soft(-2) + soft(-1)) / 2, (soft(0) + soft(-1)) / 2], **CLOSE)


@pytest.mark.parametrize("targets", [None, TARGETS])
def test_agrees_with_plain_loops(targets):
  ours = symmetric_nll(LOGITS, np.ones(M, bool), targets)
  np.testing.assert_allclose(
      ours, plain(LOGITS, np.eye(M) if targets is None else targets), **CLOSE)


def test_without_a_scale_each_pair_costs_the_logarithm_of_their_number():
  loss = symmetric_nll(jnp.zeros((M, M)), jnp.ones(M, bool))
  np.testing.assert_allclose(loss, np.log(M), rtol=1e-6)


@pytest.mark.parametrize("targets", [None, TARGETS])
@pytest.mark.parametrize("poison", [1e30, -1e30, np.inf, np.nan])
def test_padding_is_no_candidate(targets, poison):
  real = MASK[:, None] & MASK
  poisoned = np.where(real, LOGITS, np.float32(poison))
  value, grad = jax.value_and_grad(
      lambda x: symmetric_nll(x, MASK, targets).sum())(jnp.asarray(poisoned))
  cut = lambda x: x[MASK][:, MASK]
  wanted = plain(cut(LOGITS), cut(np.eye(M) if targets is None else targets))
  np.testing.assert_allclose(value, wanted.sum(), **CLOSE)
  np.testing.assert_array_equal(grad[~real], 0.0)
  assert np.isfinite(grad).all() and (np.abs(grad[real]) > 0).all()


def test_padding_only_costs_nothing():
  value, grad = jax.value_and_grad(
      lambda x: symmetric_nll(x, np.zeros(M, bool)).sum())(jnp.asarray(LOGITS))
  assert value == 0 and (grad == 0).all()


def test_the_order_of_the_pairs_does_not_matter():
  order = np.array([3, 0, 4, 1, 2])
  ours = symmetric_nll(LOGITS, MASK, TARGETS)
  theirs = symmetric_nll(LOGITS[order][:, order], MASK[order],
                         TARGETS[order][:, order])
  np.testing.assert_allclose(theirs, ours[order], **CLOSE)


def test_leading_axes_are_losses_of_their_own():
  both = np.stack([LOGITS, LOGITS.T + 1])
  ours = symmetric_nll(both, np.stack([MASK, ~MASK]))
  for got, x, mask in zip(ours, both, (MASK, ~MASK)):
    np.testing.assert_allclose(got, symmetric_nll(x, mask), **CLOSE)
