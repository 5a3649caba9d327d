"""Metrics against hand-computed tables and scikit-learn."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.evaluators import metrics


@pytest.mark.parametrize("scores, labels, auc", [
    ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
    ([0.5, 0.5], [0, 1], 0.5),                     # a tie is one half
    ([0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1], 0.875),
    ([0.9, 0.1, 0.2], [-1, 0, 1], 1.0),            # not annotated: dropped
    ([0.3, 0.7], [0, 1], 1.0),
    ([0.3, 0.7], [1, 0], 0.0),
])
def test_auc_by_hand(scores, labels, auc):
  assert metrics.roc_auc(np.array(scores), np.array(labels)) == auc


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], [-1, -1], [1, -1]])
def test_one_class_is_undefined_not_zero(labels):
  scores, labels = np.array([0.1, 0.2]), np.array(labels)
  assert np.isnan(metrics.roc_auc(scores, labels))
  assert np.isnan(metrics.roc_threshold(scores, labels))
  values = metrics.at_threshold(scores, labels, 0.15)
  assert np.isnan(list(values.values())).all()


@hypothesis.given(st.lists(
    st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=30))
@hypothesis.settings(max_examples=100, deadline=None)
def test_auc_agrees_with_scikit_learn_and_flips_with_the_sign(rows):
  scores, labels = np.array(rows).T
  hypothesis.assume(0 < labels.sum() < len(labels))
  auc = metrics.roc_auc(scores, labels)
  np.testing.assert_allclose(auc, sk.roc_auc_score(labels, scores), rtol=1e-12)
  np.testing.assert_allclose(
      metrics.roc_auc(-scores, labels), 1 - auc, atol=1e-12)
  np.testing.assert_allclose(
      metrics.roc_auc(np.exp(scores), labels), auc, rtol=1e-12)


def test_a_nan_score_is_an_error():
  with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
    metrics.roc_auc(np.array([np.nan, 0.2]), np.array([0, 1]))


def test_of_equal_thresholds_the_largest_is_taken():
  threshold = metrics.roc_threshold(
      np.array([-0.5, 0.5]), np.array([0, 1]), np.linspace(-1, 1, 9))
  assert threshold == 0.25  # 0.5 itself would no longer call the positive


def test_calls_by_hand():
  values = metrics.at_threshold(
      np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.0, 0.6]),
      np.array([1, 1, 1, 0, 0, 0, -1]), 0.5)      # tp 2, fn 1, fp 1, tn 2
  np.testing.assert_allclose(list(values.values()), [2 / 3] * 5)


def test_precision_without_a_positive_call_is_undefined():
  values = metrics.at_threshold(np.array([0.1, 0.2]), np.array([0, 1]), 0.5)
  assert np.isnan(values["precision"]) and values["recall"] == 0.0


def test_token_share_counts_voxels():
  mask = np.zeros((1, 2, 4, 4), bool)
  mask[0, 0, :2, 2:] = True                       # half of token (0, 0, 1)
  share = metrics.token_share(mask, (1, 2, 2))
  np.testing.assert_array_equal(share, [[[[0, 0.5], [0, 0]]]])
  with pytest.raises(ValueError, match="does not tile"):
    metrics.token_share(mask, (1, 3, 2))


def test_pointing_ignores_padding_and_shares_ties():
  target = np.array([True, False, False, True])
  real = np.array([True, True, True, False])
  point = lambda *w: metrics.top_token_hit(np.array(w), target, real)
  assert point(0.5, 0.2, 0.1, 0.9) == 1.0         # the padded maximum is void
  assert point(0.1, 0.2, 0.1, 0.9) == 0.0
  assert point(0.3, 0.3, 0.1, 0.9) == 0.5
  assert point(0.3, 0.3, 0.3, 0.3) == metrics.expected_hit(target, real)
  assert metrics.expected_hit(target, real) == 1 / 3
  assert np.isnan(metrics.expected_hit(target, ~target))


def test_iou_by_hand():
  mask = np.zeros((2, 4, 4), bool)
  mask[:, :2, :3] = True                          # tokens: one whole, one half
  weights = np.array([[[0.5, 0.3], [0.1, 0.0]]])
  assert metrics.token_iou(weights, mask, 1) == pytest.approx(1 / 1.5)
  assert metrics.token_iou(weights, mask, 2) == pytest.approx(1.5 / 2)
  assert metrics.token_iou(weights, mask, 4) == pytest.approx(1.5 / 4)
  assert np.isnan(metrics.token_iou(weights, np.zeros_like(mask), 2))


def test_dice_by_hand():
  mask = np.zeros((2, 4, 4), bool)
  mask[:, :2, :3] = True                          # tokens: one whole, one half
  weights = np.array([[[0.5, 0.3], [0.1, 0.0]]])
  assert metrics.token_dice(weights, mask, 1) == pytest.approx(2 / 2.5)
  assert metrics.token_dice(weights, mask, 4) == pytest.approx(3 / 5.5)
  assert np.isnan(metrics.token_dice(weights, np.zeros_like(mask), 2))


def test_chance_of_iou_is_the_mean_over_random_tokens():
  mask = np.zeros((1, 4, 4), bool)
  mask[0, :2, :2] = True                          # one of four tokens
  chance = metrics.expected_token_iou(
      mask, (1, 2, 2), 1, rng=np.random.default_rng(0), num_draws=4000)
  assert chance == pytest.approx(0.25, abs=0.03)  # 4 standard errors
  whole = metrics.expected_token_iou(
      mask, (1, 2, 2), 4, rng=np.random.default_rng(0))
  assert whole == 0.25


def test_series_rank_by_hand():
  weights = np.array([[0.1, 0.1], [0.2, 0.2], [0.05, 0.0], [0.9, 0.9]])
  real = np.array([True, True, True, False])
  rank = lambda *shown: metrics.series_rank(
      weights, np.isin(range(4), shown), real)
  assert rank(1) == 1 and rank(0) == 2 and rank(2) == 3
  assert rank(0, 2) == 2                          # the best of them counts
  assert np.isnan(rank()) and np.isnan(rank(0, 1, 2)) and np.isnan(rank(3))
  even = metrics.series_rank(np.ones((2, 3)), np.array([True, False]),
                             np.ones(2, bool))
  assert even == 1.5


@pytest.mark.parametrize("seed", range(12))
def test_the_f1_threshold_equals_brute_force(seed):
  """Over all ways to split the scores; ties by accuracy."""
  rng = np.random.default_rng(seed)
  n = int(rng.integers(4, 30))
  labels = np.r_[0, 1, rng.integers(-1, 2, n)]
  scores = np.round(rng.normal(size=n + 2) * 20 + 5 * labels) / 10   # ties
  keep = labels >= 0
  x, y = scores[keep], labels[keep]
  tried = [(sk.f1_score(y, x > t), sk.accuracy_score(y, x > t), t)
           for t in np.r_[x.min() - 1, np.unique(x)]]
  f1, accuracy, threshold = max(tried)
  found = metrics.f1_threshold(scores, labels)
  np.testing.assert_array_equal(x > found, x > threshold)
  np.testing.assert_allclose(sk.f1_score(y, x > found), f1)
  np.testing.assert_allclose(sk.accuracy_score(y, x > found), accuracy)


def test_the_f1_threshold_by_hand():
  """Calling the first two or the first four has F1 2/3 and 4/6."""
  scores = np.array([9.0, 7.0, 5.0, 3.0, 1.0])
  labels = np.array([1, 0, 0, 1, 0])
  # F1: {9} 2/3, {9, 7} 1/2, {9 to 5} 2/5, {9 to 3} 4/6, all 4/7.
  assert metrics.f1_threshold(scores, labels) == 7.0    # 4/5 right, not 3/5
  assert metrics.f1_threshold(-scores, labels) < -9.0   # all: 4/7
  assert np.isfinite(metrics.f1_threshold(-scores, labels))
  assert np.isnan(metrics.f1_threshold(scores, np.zeros(5, int)))
