"""Metrics of counted rows against the metrics of repeated rows."""

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.evaluators import metrics
from itemclip_jax.evaluators import resampled

T = 3


def _drawn(seed=0, num_studies=60):
  rng = np.random.default_rng(seed)
  labels = rng.integers(-1, 2, (num_studies, T))
  scores = np.round(rng.normal(size=labels.shape) + labels, 1)  # with ties
  return scores, labels, rng.integers(0, 4, (5, num_studies))


def test_aucs_equal_those_of_repeated_rows():
  scores, labels, counts = _drawn()
  want = [[metrics.roc_auc(np.repeat(scores[:, t], c),
                           np.repeat(labels[:, t], c)) for t in range(T)]
          for c in counts]
  np.testing.assert_allclose(resampled.aucs(scores, labels)(counts), want,
                             rtol=1e-12)


def test_calls_equal_those_of_repeated_rows():
  scores, labels, counts = _drawn()
  thresholds = np.array([0.3, -0.5, 0.0])
  got = resampled.calls(scores, labels, thresholds)(counts)
  want = np.array([[list(metrics.at_threshold(
      np.repeat(scores[:, t], c), np.repeat(labels[:, t], c),
      thresholds[t]).values()) for t in range(T)] for c in counts])
  np.testing.assert_allclose(got.reshape(5, len(resampled.CALLS), T),
                             want.transpose(0, 2, 1), rtol=1e-12)
  named = metrics.at_threshold(scores[:, 0], labels[:, 0], 0.3)
  assert tuple(named) == resampled.CALLS


def test_calls_by_hand():
  scores = np.array([[0.9, 0.8, 0.2, 0.7, 0.6, 0.1, 0.0, 0.3]]).T
  labels = np.array([[1, 1, 1, 0, 0, 0, 0, -1]]).T  # tp 2, fn 1, fp 2, tn 2
  got = resampled.calls(scores, labels, np.array([0.5]))(np.ones((1, 8), int))
  f1 = 3 / 7 * (4 / 7) + 4 / 7 * (4 / 7)
  np.testing.assert_allclose(
      got[0], [4 / 7, (2 / 3 + 1 / 2) / 2, f1, 1 / 2, 2 / 3], rtol=1e-12)


def test_the_f1_stands_behind_the_other_calls():
  scores, labels, counts = _drawn()
  thresholds = np.array([0.3, -0.5, 0.0])
  all_six = resampled.calls(scores, labels, thresholds,
                            resampled.CALLS_WITH_F1)(counts)
  np.testing.assert_array_equal(
      all_six[:, :5 * T], resampled.calls(scores, labels, thresholds)(counts))
  for t in range(T):
    for c, got in zip(counts, all_six[:, 5 * T + t]):
      s, l = np.repeat(scores[:, t], c), np.repeat(labels[:, t], c)
      np.testing.assert_allclose(
          got, sk.f1_score(l[l >= 0], s[l >= 0] > thresholds[t]))


@pytest.mark.parametrize("counts", [[0, 1, 2, 0], [2, 0, 0, 1], [0, 0, 0, 9]])
def test_a_drawing_of_one_class_is_undefined(counts):
  scores = np.array([[0.1], [0.2], [0.3], [0.4]])
  labels = np.array([[1], [0], [0], [-1]])
  counts = np.array([counts])
  assert np.isnan(resampled.aucs(scores, labels)(counts)).all()
  assert np.isnan(
      resampled.calls(scores, labels, np.array([0.15]))(counts)).all()


def test_without_threshold_or_call_there_is_no_precision():
  scores, labels = np.array([[0.1], [0.2]]), np.array([[0], [1]])
  at = lambda t: resampled.calls(
      scores, labels, np.array([t]))(np.ones((1, 2), int))[0]
  assert np.isnan(at(np.nan)).all()
  np.testing.assert_array_equal(at(0.5), [0.5, 0.5, 1 / 3, np.nan, 0.0])


def test_a_nan_score_is_an_error_where_it_is_labelled():
  scores, labels = np.array([[np.nan], [0.2], [0.3]]), np.array([[0], [0], [1]])
  with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
    resampled.aucs(scores, labels)
  labels[0] = -1
  assert resampled.aucs(scores, labels)(np.ones((1, 3), int)) == 1.0


def test_means_are_over_defined_rows():
  values = np.array([[1.0, np.nan], [np.nan, np.nan], [0.0, 4.0]])
  got = resampled.means(values)(np.array([[1, 1, 1], [3, 9, 1], [0, 1, 0]]))
  np.testing.assert_allclose(
      got, [[0.5, 4.0], [0.75, 4.0], [np.nan, np.nan]])
