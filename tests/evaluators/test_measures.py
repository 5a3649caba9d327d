"""Measures, their intervals, and differences of two models."""

import json

import numpy as np
import pytest

from itemclip_jax.evaluators import bootstrap
from itemclip_jax.evaluators import measures
from itemclip_jax.evaluators import resampled

PATIENTS = np.array(["a", "a", "b", "c"])


def _results(m, patients=PATIENTS, num_resamples=200):
  return measures.results(m, {"patient_id": patients},
                          num_resamples=num_resamples, seed=0)


def test_means_and_join_by_hand():
  first = measures.means(("x/hit",), [[1.0], [np.nan], [0.0], [np.nan]])
  second = measures.Measures(
      names=("x/sum",), statistic=lambda c: c.sum(1, keepdims=True) * 1.0,
      support=(4,), unlabeled=(2,), fixed={"x/gap": 0.25})
  both = measures.join([first, second])
  assert both.names == ("x/hit", "x/sum") and both.support == (2, 4)
  assert both.unlabeled == (0, 2)
  got = _results(both)
  assert list(got) == ["x/hit", "x/sum", "x/gap"]
  assert got["x/hit"].value == 0.5
  assert got["x/sum"].to_json() | {"ci95": 0} == {
      "value": 4.0, "ci95": 0, "n": 4, "unlabeled": 2}
  assert got["x/gap"].to_json() == {"value": 0.25, "ci95": None, "n": 4}


def test_undefined_is_null_and_said():
  nothing = _results(measures.means(("x/never",), np.full((4, 1), np.nan)))
  assert json.loads(json.dumps(nothing["x/never"].to_json())) == {
      "value": None, "ci95": None, "n": 0, "undefined_resamples": 200}
  # Patient a alone is defined, and not drawn with chance (2/3)^3.
  rare = _results(measures.means(("x/rare",), [[1.0], [1.0], [np.nan],
                                               [np.nan]]), num_resamples=1000)
  assert rare["x/rare"].ci95 == [1.0, 1.0]
  assert 250 < rare["x/rare"].undefined_resamples < 343  # 3 standard errors


def test_no_rows_give_undefined_numbers():
  got = _results(measures.means(("x/hit",), np.zeros((0, 1))),
                 np.array([], str))
  assert np.isnan(got["x/hit"].value) and got["x/hit"].ci95 is None


def test_numbers_without_interval_may_stand_alone():
  m = measures.Measures(names=(), statistic=lambda c: np.zeros((len(c), 0)),
                        support=(), fixed={"x/chance": 0.1})
  assert _results(measures.join([m, measures.means((), np.zeros((4, 0)))])) == {
      "x/chance": measures.Result(0.1, None, 4)}


def test_a_name_stands_once():
  m = measures.means(("x/hit",), np.ones((4, 1)))
  with pytest.raises(ValueError, match="Two numbers are named 'x/hit'"):
    measures.join([m, m])
  with pytest.raises(ValueError, match="want one each"):
    measures.Measures(names=("a", "b"), statistic=None, support=(1,))


def _models(seed=0, num=80, gain=0.0):
  rng = np.random.default_rng(seed)
  a = rng.normal(size=(num, 1))
  b = a + gain + 0.5 * rng.normal(size=(num, 1))
  return a, b, rng.integers(0, 40, num)


def test_differences_agree_with_a_second_implementation():
  a, b, patients = _models(gain=0.1)
  first, second = (measures.means(("x/m",), x) for x in (a, b))
  got = measures.paired(first, second, patients, num_resamples=300,
                        seed=4)["x/m"]
  rng, want = np.random.default_rng(4), []
  names = np.unique(patients)
  for _ in range(300):
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
    rows = np.concatenate([np.flatnonzero(patients == p) for p, c
                           in zip(names, times) for _ in range(c)])
    want.append(np.mean(b[rows] - a[rows]))
  value = np.mean(b - a)
  np.testing.assert_allclose(got.value, value, rtol=1e-12)
  np.testing.assert_allclose(got.ci95, np.percentile(want, [2.5, 97.5]),
                             rtol=1e-10)
  far = sum(abs(d - value) >= abs(value) for d in want)
  assert got.p_value == (1 + far) / 301


def test_equal_models_differ_by_nothing_and_clear_ones_by_chance_least():
  a, b, patients = _models(gain=1.0)
  both = lambda x, y: measures.paired(
      measures.means(("x/m",), x), measures.means(("x/m",), y), patients,
      num_resamples=99)["x/m"]
  same, clear = both(a, a), both(a, b)
  assert (same.value, same.ci95, same.p_value) == (0.0, [0.0, 0.0], 1.0)
  assert clear.p_value == 1 / 100 and clear.ci95[0] > 0
  turned = both(b, a)
  assert turned.value == -clear.value and turned.p_value == clear.p_value


def test_p_values_of_models_without_difference_are_even():
  p = [measures.paired(*(measures.means(("x/m",), x) for x in (a, b)), patients,
                       num_resamples=99, seed=seed)["x/m"].p_value
       for seed in range(150) for a, b, patients in [_models(seed + 1)]]
  # Standard error of a mean of 150 even numbers is 0.024.
  assert abs(np.mean(p) - 0.5) < 0.1
  assert np.mean(np.array(p) <= 0.1) < 0.2


def test_pairs_need_only_the_names_that_both_have():
  rng = np.random.default_rng(0)
  labels = np.array([[1, 1], [0, 1], [1, 1], [0, 1]])
  first, second = (measures.Measures(
      names=names, statistic=resampled.aucs(rng.normal(size=(4, 2)), labels),
      support=(2, 4)) for names in (("t/a", "t/b"), ("t/b", "t/a")))
  got = measures.paired(first, second, PATIENTS, num_resamples=20)
  assert list(got) == ["t/a", "t/b"]
  b_of_second = second.statistic(np.ones((1, 4), int))[0, 1]
  a_of_first = first.statistic(np.ones((1, 4), int))[0, 0]
  assert np.isnan(b_of_second) and np.isnan(got["t/a"].value)
  assert not np.isnan(a_of_first)
  assert got["t/a"].to_json() == {
      "value": None, "ci95": None, "p_value": None, "undefined_resamples": 20}
  assert not measures.paired(first, measures.means(("t/c",), np.ones((4, 1))),
                             PATIENTS, num_resamples=20)


def test_both_models_meet_the_same_draws():
  seen = []
  spy = lambda counts: seen.append(counts.copy()) or np.ones((len(counts), 1))
  m = measures.Measures(names=("x/m",), statistic=spy, support=(4,))
  measures.paired(m, m, PATIENTS, num_resamples=bootstrap.CHUNK)
  for second, first in zip(seen[::2], seen[1::2]):
    np.testing.assert_array_equal(first, second)
  assert len(seen) == 4 and seen[2].shape == (bootstrap.CHUNK, 4)
