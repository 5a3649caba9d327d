"""The bootstrap against repeated rows, theory and its own promises."""

import time

import numpy as np
import pytest

from itemclip_jax.evaluators import bootstrap
from itemclip_jax.evaluators import metrics


def _scores(num_studies=60, num_findings=4, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(-1, 2, (num_studies, num_findings))
  scores = np.round(rng.normal(size=labels.shape) + labels, 1)  # with ties
  return scores, labels


def test_counts_equal_repeated_rows():
  scores, labels = (x[:, 0] for x in _scores())
  counts = np.random.default_rng(1).integers(0, 4, (5, len(scores)))
  want = [metrics.roc_auc(np.repeat(scores, c), np.repeat(labels, c))
          for c in counts]
  got = bootstrap.resampled_auc(scores, labels, counts)
  np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_value_is_the_plain_metric_on_all_data():
  scores, labels = _scores()
  mean, each = bootstrap.auc_estimates(
      scores, labels, np.arange(len(scores)), min_positives=5,
      num_resamples=200)
  aucs = [metrics.roc_auc(s, l) for s, l in zip(scores.T, labels.T)]
  np.testing.assert_allclose([e.value for e in each], aucs, rtol=1e-12)
  np.testing.assert_allclose(mean.value, np.mean(aucs), rtol=1e-12)
  for estimate in [mean, *each]:
    assert estimate.low < estimate.value < estimate.high


def test_rare_findings_are_reported_but_not_averaged():
  scores, labels = _scores()
  labels[:, 1] = 0
  labels[0, 1] = 1                                 # one positive
  labels[:, 2] = 1                                 # no negative
  mean, each = bootstrap.auc_estimates(
      scores, labels, np.arange(len(scores)), min_positives=5,
      num_resamples=200)
  np.testing.assert_allclose(
      mean.value, (each[0].value + each[3].value) / 2, rtol=1e-12)
  # P(a study is never drawn) = (1 - 1/60)^60, about 0.365 of resamples.
  assert 45 < each[1].num_undefined < 105
  assert np.isnan(each[2].value) and each[2].ci95 is None
  assert each[2].num_undefined == 200
  none, _ = bootstrap.auc_estimates(
      scores, labels, np.arange(len(scores)), min_positives=1000,
      num_resamples=10)
  assert np.isnan(none.value) and none.ci95 is None


def test_interval_of_a_mean_agrees_with_theory():
  values = np.random.default_rng(0).normal(size=400)
  got = bootstrap.mean_estimate(values, np.arange(400), num_resamples=4000)
  half = 1.96 * values.std() / 20
  np.testing.assert_allclose(
      [got.low, got.high], [values.mean() - half, values.mean() + half],
      atol=0.015)  # Monte-Carlo error of a 2.5 % quantile, 4 standard errors


def test_patients_are_drawn_whole():
  values = np.random.default_rng(0).normal(size=100)
  once = bootstrap.mean_estimate(values, np.arange(100), seed=3)
  copied = bootstrap.mean_estimate(
      np.repeat(values, 5), np.repeat(np.arange(100), 5), seed=3)
  naive = bootstrap.mean_estimate(np.repeat(values, 5), np.arange(500), seed=3)
  # Copies of a study carry no news; treating them as patients feigns some.
  np.testing.assert_allclose([copied.low, copied.high], [once.low, once.high])
  assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_undefined_values_are_left_out_of_a_mean():
  patients = np.array(["a", "a", "b", "c"])
  got = bootstrap.mean_estimate([1.0, np.nan, 0.0, np.nan], patients)
  assert got.value == 0.5 and got.num_undefined == 0
  empty = bootstrap.mean_estimate([np.nan], np.array(["a"]))
  assert np.isnan(empty.value) and empty.ci95 is None


def test_same_seed_same_interval():
  scores, labels = _scores()
  run = lambda seed: bootstrap.auc_estimates(
      scores, labels, np.arange(len(scores)), min_positives=5,
      num_resamples=50, seed=seed)
  assert run(0) == run(0)
  assert run(0) != run(1)


def test_two_models_pair_by_difference():
  scores, labels = (x[:, 0] for x in _scores())
  same = lambda c: (bootstrap.resampled_auc(scores, labels, c)
                    - bootstrap.resampled_auc(2 * scores, labels, c))[:, None]
  (got,) = bootstrap.bootstrap(same, np.arange(len(scores)), num_resamples=50)
  assert got.value == got.low == got.high == 0.0


@pytest.mark.parametrize("size", [(260, 112)])
def test_a_thousand_resamples_take_seconds(size):
  rng = np.random.default_rng(0)
  labels = (rng.random(size) < 0.1).astype(int)
  start = time.process_time()
  bootstrap.auc_estimates(rng.normal(size=size), labels,
                          np.arange(size[0]) // 2, min_positives=10)
  assert time.process_time() - start < 10
