"""Overlap of items' attention, and their worst score, by brute force."""

import itertools

import numpy as np
import pytest

from itemclip_jax.evaluators import item_overlap
from tests.evaluators import attending
from tests.evaluators.attending import Study

LEFT = np.array([[[[1.0, 0], [0, 0]]]])       # one series, as of a picture
BOTH = np.array([[[[0.5, 0.5], [0, 0]]]])
RIGHT = np.array([[[[0, 0.2], [0, 0]]]])


def _evaluator(records, maps, tcsim, *, padding=0, **kwargs):
  return item_overlap.Evaluator(attending.context(
      attending.Studies(records, padding=padding),
      attending.Scorer(maps, tcsim), "item_overlap", **kwargs))


def _numbers(*args, **kwargs):
  got = attending.numbers(item_overlap, _evaluator(*args, **kwargs),
                          "item_overlap")
  return {name.removeprefix("item_overlap/"): value
          for name, value in got.items()}


def _picture(*items):
  return Study(names=[""], items=list(items), truth=False)


def test_by_hand():
  """Cosines 1/sqrt 2 (left, both), 0 (left, right), 1/sqrt 2 (both, right)."""
  maps = {(0, "l"): LEFT, (0, "b"): BOTH, (0, "r"): RIGHT,
          (1, "b"): BOTH, (1, "r"): RIGHT}
  tcsim = {(0, "l"): 0.5, (0, "b"): -0.25, (0, "r"): 0.5,
           (1, "b"): 0.5, (1, "r"): 0.75}
  records = [_picture("l", "b", "r"), _picture("b", "r")]
  assert _numbers(records, maps, tcsim) == pytest.approx({
      "mams": (2 / 3 + 1) / 2 / np.sqrt(2), "mll": (-0.25 + 0.5) / 2,
      "own_tcsim": (0.25 + 0.625) / 2})


def test_the_table_names_the_worst_item():
  tcsim = {(0, "a"): 0.2, (0, "b"): 0.1, (1, "a"): 0.3}
  maps = {(0, "a"): LEFT, (0, "b"): BOTH}
  table = _evaluator([_picture("a", "b"), _picture("a")], maps, tcsim).collect()
  assert table["item"].tolist() == ["b", "a"]
  assert table["num_items"].tolist() == [2, 1]
  assert table["mll"].tolist() == [0.1, 0.3]


def test_agrees_with_every_pair_taken_alone():
  rng = np.random.default_rng(0)
  texts = ["a", "b", "c", "d"]
  records = [Study(names=["x"] * n, items=texts[:m], truth=False)
             for n, m in [(1, 2), (3, 4), (2, 3)]]
  maps = attending.random_maps(attending.Studies(records), texts)
  tcsim = {(row, t): rng.normal() for row in range(3) for t in texts}
  overlap, least = [], []
  for row, record in enumerate(records):
    cosines = [np.vdot(maps[row, s], maps[row, t])
               / np.sqrt(np.vdot(maps[row, s], maps[row, s])
                         * np.vdot(maps[row, t], maps[row, t]))
               for s, t in itertools.combinations(record.items, 2)]
    overlap.append(np.mean(cosines))
    least.append(min(tcsim[row, t] for t in record.items))
  got = _numbers(records, maps, tcsim)
  assert got["mams"] == pytest.approx(np.mean(overlap), abs=1e-6)
  assert got["mll"] == pytest.approx(np.mean(least))
  padded = _numbers(records, maps, tcsim, padding=4)
  assert padded == pytest.approx(got, abs=1e-12)


def test_order_of_items_changes_nothing():
  texts = ["a", "b", "c"]
  tcsim = {(0, t): i / 4 for i, t in enumerate(texts)}
  maps = {(0, "a"): LEFT, (0, "b"): BOTH, (0, "c"): RIGHT}
  got = [_numbers([_picture(*order)], maps, tcsim)
         for order in itertools.permutations(texts)]
  assert all(one == pytest.approx(got[0], abs=1e-12) for one in got)


def test_items_beyond_the_slots_are_cut_and_equal_ones_count_once():
  maps = {(0, "a"): LEFT, (0, "b"): RIGHT}
  tcsim = {(0, "a"): 0.5, (0, "b"): 0.25, (0, "c"): -1.0}
  got = _numbers([_picture("a", "a", "b", "c")], maps, tcsim, max_items=3)
  assert got == pytest.approx({"mams": 0, "mll": 0.25, "own_tcsim": 0.375})


def test_one_item_has_no_overlap_and_none_no_row(capsys):
  records = [_picture("a"), _picture(), _picture("a", "b")]
  maps = {(2, "a"): LEFT, (2, "b"): BOTH}
  evaluator = _evaluator(records, maps, {(0, "a"): 0.5, (2, "a"): 0.25})
  table = evaluator.collect()
  assert table["study_id"].tolist() == ["study-0", "study-2"]
  np.testing.assert_allclose(table["mams"], [np.nan, np.sqrt(0.5)], rtol=1e-6)
  assert evaluator.meta() == {"normalise": True, "studies_without_items": 1,
                              "studies_of_one_item": 1}
  assert ("1 of 3 studies have no item and are left out; 1 have one"
          in capsys.readouterr().out)
  got = attending.numbers(item_overlap, evaluator, "item_overlap")
  assert got["item_overlap/mams"] == pytest.approx(np.sqrt(0.5))
  assert got["item_overlap/mll"] == pytest.approx(0.25)     # of 0.5 and 0


def test_without_any_item_all_is_undefined():
  evaluator = _evaluator([_picture(), _picture()], {}, {})
  got = attending.numbers(item_overlap, evaluator, "item_overlap")
  assert len(got) == 3 and np.isnan(list(got.values())).all()
  assert evaluator.examples(evaluator.collect()) == []


def test_a_map_without_attention_is_in_no_pair():
  maps = np.stack([LEFT, np.zeros_like(LEFT), BOTH])
  assert item_overlap.map_similarity(maps) == pytest.approx(np.sqrt(0.5))
  assert np.isnan(item_overlap.map_similarity(maps[:2]))
