"""Findings of a report in a fixed number of slots."""

from hypothesis import given, strategies as st
import numpy as np

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


@given(REPORTS, st.integers(1, 6), st.integers(1, 5), st.floats(0, 1), SEEDS)
def test_diverse_texts_join_distinct_items_up_to_the_limit(
    report, num_texts, max_merge, join_prob, seed):
  numbered = [f"{i:02d}" for i in range(len(report))]
  texts = items.diverse_sample(numbered, num_texts, max_merge, join_prob,
                               np.random.default_rng(seed))
  assert len(texts) == num_texts
  for text in texts:
    parts = text.split(". ")
    assert len(parts) == len(set(parts)) <= min(max_merge, len(report))
    assert set(parts) <= set(numbered)


def test_joined_neighbours_are_neighbours_and_reach_the_last_item():
  report = [str(i) for i in range(5)]
  texts = items.diverse_sample(report, 200, 3, 1.0, np.random.default_rng(0))
  for text in texts:
    parts = list(map(int, text.split(". ")))
    np.testing.assert_array_equal(np.diff(parts), 1)
  assert {t.split(". ")[0] for t in texts} == set(report)
