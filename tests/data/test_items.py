"""Findings of a report in a fixed number of slots."""

import collections
import itertools

from hypothesis import given, strategies as st
import numpy as np
import pytest

from itemclip_jax.data import items

REPORTS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=9,
                   unique=True)
SEEDS = st.integers(0, 2**32 - 1)


@given(REPORTS, st.integers(1, 12))
def test_evaluation_keeps_the_order_and_pads_behind(report, slots):
  texts, mask, source = items.fill_slots(report, slots)
  kept = min(len(report), slots)
  assert texts == report[:kept] + [items.PADDING] * (slots - kept)
  np.testing.assert_array_equal(mask, np.arange(slots) < kept)
  np.testing.assert_array_equal(source[:kept], np.arange(kept))
  np.testing.assert_array_equal(source[kept:], -1)


@given(REPORTS, st.integers(1, 12), SEEDS)
def test_training_draws_different_items_and_says_which(report, slots, seed):
  texts, mask, source = items.fill_slots(
      report, slots, np.random.default_rng(seed))
  kept = min(len(report), slots)
  assert mask.sum() == len(set(texts[:kept])) == kept
  assert texts[:kept] == [report[i] for i in source[:kept]]
  again = items.fill_slots(report, slots, np.random.default_rng(seed))
  assert texts == again[0]


def test_every_item_is_drawn_sooner_or_later():
  rng = np.random.default_rng(0)
  drawn = {t for _ in range(50) for t in items.fill_slots(
      list("abcde"), 2, rng)[0]}
  assert drawn == set("abcde")


def test_the_text_of_empty_slots_can_be_chosen():
  texts, mask, _ = items.fill_slots(["a"], 3, padding="placeholder")
  assert texts == ["a", "placeholder", "placeholder"]
  assert mask.tolist() == [True, False, False]


def _drawn(n, num_texts, *, max_merge=3, join_prob=0.5, seed=0, **rule):
  """Item numbers of each text."""
  texts = items.diverse_sample(
      [str(i) for i in range(n)], num_texts, np.random.default_rng(seed),
      max_merge=max_merge, join_prob=join_prob, **rule)
  return [tuple(map(int, text.split(". "))) for text in texts]


def _expected(n, *, max_merge=3, join_prob=0.5, count, quirk):
  """Probability of every text, by the words of the method's description."""
  most = min(n, max_merge) if count == "to_items" else max_merge
  out = collections.Counter()
  for r in range(1, most + 1):
    if r == 1:
      for i in range(n):
        out[(i,)] += 1 / most / n
      continue
    starts = max(n - r + (0 if quirk else 1), 1) if r < n else 1
    for s in range(starts):
      joined = tuple(range(s, s + r)) if r < n else tuple(range(n))
      out[joined] += join_prob / most / starts
    draws = list(itertools.permutations(range(n), r) if r <= n
                 else itertools.product(range(n), repeat=r))
    for draw in draws:
      out[draw] += (1 - join_prob) / most / len(draws)
  return out


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("count", ["to_items", "to_max"])
@pytest.mark.parametrize("quirk", [False, True])
def test_texts_are_drawn_as_often_as_described(n, count, quirk):
  expected = _expected(n, count=count, quirk=quirk)
  assert sum(expected.values()) == pytest.approx(1)
  num = 20_000
  drawn = collections.Counter(_drawn(n, num, count=count, quirk=quirk))
  assert drawn.keys() <= expected.keys()
  for text, p in expected.items():
    spread = 5 * np.sqrt(num * p * (1 - p)) + 1
    assert abs(drawn[text] - num * p) < spread, text


def test_neighbours_reach_the_last_item_but_for_the_quirk():
  ends = lambda quirk: {
      text[-1] for text in _drawn(5, 500, join_prob=1.0, quirk=quirk)
      if len(text) > 1}
  assert ends(False) == {1, 2, 3, 4} and ends(True) == {1, 2, 3}


@pytest.mark.parametrize("count, most", [("to_items", 2), ("to_max", 3)])
def test_few_items_are_joined_as_often_as_each_data_set_has_it(count, most):
  lengths = {len(t) for t in _drawn(2, 500, join_prob=0.0, count=count)}
  assert lengths == set(range(1, most + 1))


def test_texts_are_independent_of_their_place():
  firsts = collections.Counter(
      _drawn(2, 6, seed=seed, join_prob=1.0)[0] for seed in range(900))
  lasts = collections.Counter(
      _drawn(2, 6, seed=seed, join_prob=1.0)[-1] for seed in range(900))
  for text in ((0,), (1,), (0, 1)):
    assert abs(firsts[text] - lasts[text]) < 5 * np.sqrt(900 / 2)
