"""Texts for a box, of made-up studies whose tokens hold what they mean."""

import types

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import region_text

_GRID, _PATCH, _SERIES, _SLOTS = (2, 4, 4), (2, 3, 3), 3, 4
_WORDS = ("a", "b", "c", "d", "e", "f")


class _Studies:
  """Every item lies in a block of its own of one series, or two."""

  def __init__(self, num_studies=6, seed=0):
    rng = np.random.default_rng(seed)
    shape = tuple(g * p for g, p in zip(_GRID, _PATCH))
    self.num_series = rng.integers(1, _SERIES + 1, num_studies)
    self.num_series[0] = _SERIES
    self.study_id = np.array([f"s{i}" for i in range(num_studies)])
    self.patient_id = self.study_id
    self.findings = ("lump", "spot")
    self.tokens = rng.normal(
        size=(num_studies, _SERIES, *_GRID, len(_WORDS)))
    self._items, self._examples = [], []
    for row in range(num_studies):
      words = rng.choice(_WORDS, 3, replace=False)
      mask = np.zeros((_SERIES, *shape), np.uint8)
      visible = np.zeros((_SLOTS, _SERIES), bool)
      for k in range(2):                        # the third has no outline
        s = int(rng.integers(self.num_series[row]))
        first = [int(rng.integers(n - 3)) for n in shape]
        block = tuple(slice(f, f + 3) for f in first)
        mask[(s, *block)] = k + 1
        visible[k, s] = True
      self._items.append(tuple(map(str, words)))
      self._examples.append({
          "series_mask": np.arange(_SERIES) < self.num_series[row],
          "names": np.array([f"series {s}" for s in range(_SERIES)]),
          "lesion_mask": mask, "item_visible": visible,
          "item_finding": np.array([0, 1, 0, -1])})

  def __len__(self):
    return len(self._items)

  def items(self, row):
    return self._items[row]

  def example(self, row):
    return self._examples[row]


class _Scorer:
  """A text's score is the mean of its own number over the tokens it sees."""

  def texts(self, texts):
    return np.eye(len(_WORDS))[[_WORDS.index(t) for t in texts]]

  def region(self, studies, row, token_mask, texts):
    assert token_mask.shape == (_SERIES, *_GRID)
    real = studies.example(row)["series_mask"]
    seen = studies.tokens[row][token_mask & real[:, None, None, None]]
    if not isinstance(texts, np.ndarray):
      texts = self.texts(texts)
    return seen.mean(0) @ texts.T


def _context(studies=None, scorer=None):
  return types.SimpleNamespace(
      name="region_text", grid=_GRID, scorer=scorer or _Scorer(),
      studies=studies or _Studies(), config=types.SimpleNamespace(seed=0))


def _numbers(evaluator, table):
  found = region_text.measure("region_text", table, evaluator.meta())
  values = found.statistic(np.ones((1, len(table["rank"])), int))[0]
  return dict(zip(found.names, values)) | found.fixed


def _touched(lesion):
  """Tokens, as a set, of voxels that are outlined; voxel by voxel."""
  return {tuple(v // p for v, p in zip(voxel, _PATCH))
          for voxel in np.argwhere(lesion).tolist()}


def test_ranks_equal_a_walk_over_voxels_and_texts():
  studies = _Studies()
  table = region_text.Evaluator(_context(studies)).collect()
  assert len(table["rank"]) == 2 * len(studies)
  for n, row in enumerate(table["record"]):
    example, k = studies.example(row), table["slot"][n]
    series = int(np.flatnonzero(example["item_visible"][k])[0])
    touched = np.array(sorted(_touched(example["lesion_mask"][series]
                                       == k + 1)))
    inside = [studies.tokens[row, series, d, h, w]
              for d in range(touched[:, 0].min(), touched[:, 0].max() + 1)
              for h in range(touched[:, 1].min(), touched[:, 1].max() + 1)
              for w in range(touched[:, 2].min(), touched[:, 2].max() + 1)]
    used = {t for r in range(len(studies)) for t in studies.items(r)}
    score = {t: np.mean(inside, 0)[_WORDS.index(t)] for t in used}
    order = sorted(used, key=score.get, reverse=True)
    assert table["rank"][n] == 1 + order.index(studies.items(row)[k])
    assert table["text"][n] == order[0]
    assert table["tokens"][n] == len(inside)
    assert table["series"][n] == f"series {series}"
    assert table["finding"][n] == studies.findings[k]
    whole = studies.tokens[row, :studies.num_series[row]].reshape(
        -1, len(_WORDS)).mean(0)
    order = sorted(used, key=lambda t: whole[_WORDS.index(t)], reverse=True)
    assert table["rank_whole"][n] == 1 + order.index(studies.items(row)[k])


def test_a_series_that_does_not_show_the_item_is_not_boxed():
  studies = _Studies()
  example = studies.example(0)
  example["lesion_mask"][:] = 0
  example["lesion_mask"][0] = 1                     # everywhere, not visible
  example["lesion_mask"][1, :2, :3, :3] = 1         # one token
  example["lesion_mask"][2, :2, :3, :4] = 1         # two
  example["item_visible"][0] = [False, True, True]
  table = region_text.Evaluator(_context(studies)).collect()
  (n,) = np.flatnonzero((table["record"] == 0) & (table["slot"] == 0))
  assert (table["series"][n], table["tokens"][n]) == ("series 2", 2)
  studies.example(0)["series_mask"][2] = False      # padding
  table = region_text.Evaluator(_context(studies)).collect()
  (n,) = np.flatnonzero((table["record"] == 0) & (table["slot"] == 0))
  assert (table["series"][n], table["tokens"][n]) == ("series 1", 1)


def test_findings_without_an_outline_are_left_out_and_counted(capsys):
  evaluator = region_text.Evaluator(_context())
  table = evaluator.collect()
  assert evaluator.meta()["left_out"] == 6          # the third of each study
  assert "12 lesions boxed" in capsys.readouterr().out
  assert set(table["slot"]) == {0, 1}


def test_at_most_so_many_lesions_and_always_the_same(monkeypatch):
  monkeypatch.setattr(region_text, "MOST_LESIONS", 5)
  first, second = (region_text.Evaluator(_context()).collect()
                   for _ in range(2))
  assert len(first["rank"]) == 5
  np.testing.assert_equal(first, second)
  assert first["record"].tolist() != sorted(first["record"])  # a random order


def test_numbers_by_hand():
  evaluator = region_text.Evaluator(_context())
  evaluator.collect()
  table = {"rank": np.array([1, 1.5, 3, 20]),
           "rank_whole": np.array([1, 4, 2, 30])}
  meta = {"texts": 40}
  found = region_text.measure("x", table, meta)
  values = dict(zip(found.names, found.statistic(np.ones((1, 4), int))[0]))
  assert values == {
      "x/r@1": 1 / 4, "x/r@10": 3 / 4, "x/median_rank": 2.25,
      "x/whole_study/r@1": 1 / 4, "x/whole_study/r@10": 3 / 4,
      "x/whole_study/median_rank": 3, "x/region_helps": 2.5 / 4}
  assert found.fixed == {"x/r@1_chance": 1 / 40, "x/r@10_chance": 1 / 4,
                         "x/median_rank_chance": 20.5}


def test_tokens_that_hold_their_item_are_found():
  """What lies in the box is worth more than the study's mean."""
  studies = _Studies(num_studies=20)
  studies.tokens[:] = np.random.default_rng(1).normal(
      scale=0.1, size=studies.tokens.shape)
  for row in range(len(studies)):
    example = studies.example(row)
    for k in range(2):
      for s in np.flatnonzero(example["item_visible"][k]):
        for token in _touched(example["lesion_mask"][s] == k + 1):
          studies.tokens[(row, s, *token)] += 2 * np.eye(len(_WORDS))[
              _WORDS.index(studies.items(row)[k])]
  evaluator = region_text.Evaluator(_context(studies))
  values = _numbers(evaluator, evaluator.collect())
  assert values["region_text/r@1"] > 0.85
  assert values["region_text/whole_study/r@1"] < 0.6
  assert values["region_text/region_helps"] > 0.6


def test_a_model_without_preference_ranks_in_the_middle():
  class Same(_Scorer):
    def region(self, studies, row, token_mask, texts):
      return np.zeros(len(texts))

  evaluator = region_text.Evaluator(_context(scorer=Same()))
  values = _numbers(evaluator, evaluator.collect())
  assert (values["region_text/median_rank"]
          == values["region_text/median_rank_chance"] == 3.5)
  assert values["region_text/r@1"] == 0
  assert values["region_text/region_helps"] == 0.5


def test_rank_items_orders_any_texts():
  studies = _Studies()
  box = ((0, 1), (1, 3), (2, 4))
  order, scores = region_text.rank_items(
      _context(), studies, 0, 2, box, ["f", "a", "c", "a"])
  want = studies.tokens[0, 2, 0, 1:3, 2:4].mean((0, 1))[[5, 0, 2, 0]]
  np.testing.assert_allclose(scores, want)
  assert order.tolist() == sorted(range(4), key=lambda i: (-want[i], i))


@pytest.mark.parametrize("series, box, message", [
    (3, ((0, 1), (0, 1), (0, 1)), "no series number 3; want 0 to 2"),
    (-1, ((0, 1), (0, 1), (0, 1)), "no series number -1"),
    (0, ((0, 1), (0, 5), (0, 1)), "token 0 to before 5 along h"),
    (0, ((0, 1), (0, 1), (2, 2)), "token 2 to before 2 along w"),
])
def test_a_box_outside_is_an_error(series, box, message):
  with pytest.raises(UserError, match=message):
    region_text.rank_items(_context(), _Studies(), 0, series, box, ["a"])


def test_examples_are_the_best_and_the_worst_boxes():
  studies = _Studies()
  evaluator = region_text.Evaluator(_context(studies))
  table = evaluator.collect()
  shown = evaluator.examples(table)
  assert len(shown) == 6
  order = np.argsort(table["rank"], kind="stable")
  assert shown[0].text == table["item"][order[0]]
  assert shown[-1].row == table["record"][order[-1]]
  assert shown[0].lesion_mask.any() and shown[0].visible.any()
