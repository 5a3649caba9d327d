"""Series put in order by attention: by hand, by all orders, and unlabelled."""

import itertools

import numpy as np
import pytest

from itemclip_jax.evaluators import series_ranking
from tests.evaluators import attending
from tests.evaluators.attending import Study

NAMES = ["AX_T1", "AX_T2", "AX_SWI", "AX_FLAIR"]


def _map(*total):
  """Attention whose series sum to `total`, spread over their tokens."""
  part = np.array([0.1, 0.2, 0.3, 0.4]).reshape(attending.GRID)
  return np.array(total)[:, None, None, None] * part


def _study(*shown):
  """Of one item, which these series show."""
  return Study(names=NAMES, items=["an item"], finding={0: 0},
               shown={0: list(shown)})


def _several(items, shown, **changes):
  """Of these items; item -> the series that show it."""
  return Study(names=NAMES, items=list(items), shown=shown,
               finding=dict.fromkeys(shown, 0), **changes)


def _evaluator(studies, maps, tcsim=None, **kwargs):
  return series_ranking.Evaluator(attending.context(
      studies, attending.Scorer(maps, tcsim), "series_ranking", **kwargs))


def _numbers(records, maps, **kwargs):
  got = attending.numbers(series_ranking, _evaluator(
      attending.Studies(records, **kwargs), maps), "series_ranking")
  return {name.removeprefix("series_ranking/"): value
          for name, value in got.items()}


def test_by_hand():
  """Shown by the second of four, and by the first and the last of four."""
  maps = {(0, "an item"): _map(0.1, 0.2, 0.5, 0.15),
          (1, "an item"): _map(0.1, 0.2, 0.5, 0.15)}
  assert _numbers([_study(1)], maps) == pytest.approx({
      "top1": 0, "top1_chance": 1 / 4, "top3": 1, "top3_chance": 3 / 4,
      "mean_rank": 2, "mean_rank_chance": 2.5})
  assert _numbers([_study(0)], maps) == pytest.approx({
      "top1": 0, "top1_chance": 1 / 4, "top3": 0, "top3_chance": 3 / 4,
      "mean_rank": 4, "mean_rank_chance": 2.5})
  assert _numbers([_study(3)], maps)["top3"] == 1          # the third
  assert _numbers([_study(1), _study(0, 2)], maps) == pytest.approx({
      "top1": 1 / 2, "top1_chance": (1 / 4 + 1 / 2) / 2, "top3": 1,
      "top3_chance": (3 / 4 + 1) / 2, "mean_rank": 1.5,
      "mean_rank_chance": (5 / 2 + 5 / 3) / 2})


@pytest.mark.parametrize("total", [2, 3, 5])
def test_chance_is_the_mean_over_all_orders(total):
  for shown in range(1, total):
    ranks = np.array([1 + min(order.index(s) for s in range(shown))
                      for order in itertools.permutations(range(total))])
    assert series_ranking.expected_rank(shown, total) == pytest.approx(
        ranks.mean())
    for k in (1, 3):
      assert series_ranking.expected_within(shown, total, k) == pytest.approx(
          (ranks <= k).mean())


def test_the_table_holds_the_share_of_every_series():
  maps = {(0, "an item"): _map(0.1, 0.2, 0.5, 0.2)}
  studies = attending.Studies([_study(1)], padding=1)
  table = _evaluator(studies, maps).collect()
  assert table["series"].tolist() == [
      "AX_SWI 0.500, AX_T2 0.200, AX_FLAIR 0.200, AX_T1 0.100"]
  assert table["item"].tolist() == ["an item"]


def test_padding_changes_nothing():
  rng = np.random.default_rng(0)
  records = [_study(*np.flatnonzero(rng.random(4) < 0.5).tolist())
             for _ in range(8)]
  maps = {(row, "an item"): _map(*rng.dirichlet(np.ones(4)))
          for row in range(8)}
  assert _numbers(records, maps) == _numbers(records, maps, padding=3)


def test_order_of_items_changes_nothing():
  rng = np.random.default_rng(1)
  texts = ["one", "two", "three"]
  shown = {"one": [0], "two": [1, 3], "three": [2]}
  maps = {(0, t): _map(*rng.dirichlet(np.ones(4))) for t in texts}
  got = [_numbers([_several(order, {
      k: shown[t] for k, t in enumerate(order)})], maps)
         for order in itertools.permutations(texts)]
  assert all(one == pytest.approx(got[0]) for one in got)


def test_items_beyond_the_slots_are_cut_and_equal_ones_count_once():
  study = _several("aabc", dict.fromkeys(range(4), [0]))
  maps = {(0, t): _map(0.4, 0.3, 0.2, 0.1) for t in "abc"}
  table = _evaluator(attending.Studies([study]), maps, max_items=3).collect()
  assert table["item"].tolist() == ["a", "b"]
  assert table["slot"].tolist() == [0, 2]


def test_what_no_series_shows_or_every_one_has_no_rank(capsys):
  records = [_study(), _study(0, 1, 2, 3), _study(2)]
  maps = {(row, "an item"): _map(0.1, 0.2, 0.5, 0.2) for row in range(3)}
  evaluator = _evaluator(attending.Studies(records, padding=1), maps)
  got = attending.numbers(series_ranking, evaluator, "series_ranking")
  assert got["series_ranking/mean_rank"] == 1
  assert evaluator.meta() == {"undefined_items": 2}
  assert "2 of 3 items have no rank" in capsys.readouterr().out


def test_a_set_without_ground_truth_has_shares_and_no_numbers():
  records = [_several("ab", {}, truth=False), _several("", {}, truth=False)]
  maps = {(0, "a"): _map(0.4, 0.3, 0.2, 0.1), (0, "b"): _map(0.1, 0, 0, 0.3)}
  evaluator = _evaluator(attending.Studies(records), maps, {(0, "b"): 0.5})
  table = evaluator.collect()
  assert table["item"].tolist() == ["a", "b"]
  assert table["series"][1].startswith("AX_FLAIR 0.750, AX_T1 0.250, ")
  got = attending.numbers(series_ranking, evaluator, "series_ranking")
  assert len(got) == 6 and np.isnan(list(got.values())).all()
  a, b = evaluator.examples(table)
  assert (a.text, b.text, b.score) == ("a", "b", 0.5)
  assert a.lesion_mask is None and a.visible is None


def test_the_pictures_are_of_the_first_study_with_ranks():
  blind, single = _several("ab", {}), _study(1)
  ranked = _several("abc", {1: [0], 2: [1]}, boxes={1: [(0, 0)]})
  studies = attending.Studies([blind, single, ranked])
  maps = {(row, t): _map(0.4, 0.3, 0.2, 0.1)
          for row in range(3) for t in ("a", "b", "c", "an item")}
  evaluator = _evaluator(studies, maps, {(2, "b"): 0.25})
  examples = evaluator.examples(evaluator.collect())
  assert [(x.row, x.text) for x in examples] == [(2, "b"), (2, "c"), (2, "a")]
  assert examples[0].score == 0.25
  assert examples[0].lesion_mask.sum() == 4 * 4
  assert examples[0].visible.tolist() == [True, False, False, False]
  assert "AX_T1 0.400, AX_T2 0.300" in examples[0].caption
  alone = _evaluator(attending.Studies([single]),
                     {(0, "an item"): maps[0, "a"]})
  assert alone.examples(alone.collect()) == []


def test_without_items_nothing_is_measured():
  evaluator = _evaluator(attending.Studies([_several("", {})]), {})
  got = attending.numbers(series_ranking, evaluator, "series_ranking")
  assert np.isnan(list(got.values())).all()
  assert evaluator.examples(evaluator.collect()) == []
