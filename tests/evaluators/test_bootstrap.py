"""The bootstrap against repeated rows, theory and its own promises."""

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.evaluators import bootstrap
from itemclip_jax.evaluators import resampled


def _interval(values, patients, num_resamples=1000, seed=0):
  """Mean, and the ends of its interval."""
  whole, drawn = bootstrap.resample(
      resampled.means(np.asarray(values, float)[:, None]), np.array(patients),
      num_resamples=num_resamples, seed=seed)
  return whole[0], *bootstrap.interval(drawn)[0][0]


def test_a_second_implementation_that_repeats_rows_agrees():
  rng = np.random.default_rng(5)
  patients = np.array([f"p{i}" for i in rng.integers(0, 12, 50)])
  labels = rng.integers(0, 2, 50)
  scores = np.round(rng.normal(size=50) + labels, 1)        # with ties
  whole, got = bootstrap.resample(
      resampled.aucs(scores[:, None], labels[:, None]), patients,
      num_resamples=100, seed=7)

  names = sorted(set(patients))
  rng, want = np.random.default_rng(7), []
  for _ in range(100):
    times = dict(zip(names, rng.multinomial(len(names),
                                            [1 / len(names)] * len(names))))
    rows = [n for n, p in enumerate(patients) for _ in range(times[p])]
    want.append(sk.roc_auc_score(labels[rows], scores[rows]))
  np.testing.assert_allclose(got[:, 0], want, rtol=1e-12)
  np.testing.assert_allclose(whole, [sk.roc_auc_score(labels, scores)],
                             rtol=1e-12)
  np.testing.assert_allclose(bootstrap.interval(got)[0][0],
                             np.percentile(want, [2.5, 97.5]), rtol=1e-12)


def test_interval_of_a_mean_agrees_with_theory():
  values = np.random.default_rng(0).normal(size=400)
  _, *ends = _interval(values, np.arange(400), num_resamples=4000)
  half = 1.96 * values.std() / 20
  np.testing.assert_allclose(
      ends, [values.mean() - half, values.mean() + half],
      atol=0.015)  # Monte-Carlo error of a 2.5 % quantile, 4 standard errors


def test_patients_are_drawn_whole():
  values = np.random.default_rng(0).normal(size=100)
  once = _interval(values, np.arange(100), seed=3)
  copied = _interval(np.repeat(values, 5), np.repeat(np.arange(100), 5), seed=3)
  naive = _interval(np.repeat(values, 5), np.arange(500), seed=3)
  # Copies of a study carry no news; treating them as patients feigns some.
  np.testing.assert_allclose(copied, once)
  assert naive[2] - naive[1] < 0.6 * (once[2] - once[1])


def test_the_order_of_rows_changes_nothing():
  rng = np.random.default_rng(0)
  values, patients = rng.normal(size=40), rng.integers(0, 15, 40)
  order = rng.permutation(40)
  np.testing.assert_allclose(_interval(values[order], patients[order]),
                             _interval(values, patients), rtol=1e-12)


def test_same_seed_same_interval():
  values = np.random.default_rng(0).normal(size=30)
  run = lambda seed: _interval(values, np.arange(30), 50, seed)
  assert run(0) == run(0)
  assert run(0)[1:] != run(1)[1:]


def test_undefined_resamples_are_left_out_and_counted():
  ends, undefined = bootstrap.interval(
      np.array([[np.nan, np.nan], [1.0, np.nan], [1.0, np.nan]]))
  np.testing.assert_array_equal(ends, [[1.0, 1.0], [np.nan, np.nan]])
  np.testing.assert_array_equal(undefined, [1, 3])


def test_without_rows_everything_is_undefined():
  whole, drawn = bootstrap.resample(
      resampled.means(np.zeros((0, 2))), np.array([], str), num_resamples=5,
      seed=0)
  assert np.isnan(whole).all()
  assert drawn.shape == (5, 2) and np.isnan(drawn).all()


@pytest.mark.parametrize("size", [(3039, 16)])
def test_a_thousand_resamples_of_ct_rate_take_seconds(size):
  rng = np.random.default_rng(0)
  labels = (rng.random(size) < 0.1).astype(int)
  scores = rng.normal(size=size)
  asked = (resampled.aucs(scores, labels), resampled.aucs(-scores, labels),
           resampled.calls(scores, labels, np.zeros(size[1])))
  start = time.process_time()
  bootstrap.resample(
      lambda counts: np.concatenate([ask(counts) for ask in asked], 1),
      rng.integers(0, 1304, size[0]), num_resamples=1000, seed=0)
  assert time.process_time() - start < 10
