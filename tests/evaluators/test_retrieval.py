"""Retrieval of made-up studies whose scores stand in a table."""

import types

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import predictions, retrieval

_ALL = {"ranks_at": [1, 2], "complete_at": [2, 3], "two_stage": 2}


class _Studies:
  """Studies with items, as far as retrieval looks at them."""

  def __init__(self, items):
    self._items = items
    self.study_id = np.array([f"s{i}" for i in range(len(items))])
    self.patient_id = np.array([f"p{i // 2}" for i in range(len(items))])

  def __len__(self):
    return len(self._items)

  def items(self, row):
    return self._items[row]


class _Scorer:
  """Hands out rows of score tables [n, texts], two studies at a time."""

  def __init__(self, scores, texts):
    self._scores = scores
    self._texts = texts

  def blocks(self, studies, texts, *, normalise):
    assert not normalise                       # the published rule
    assert len(set(texts)) == len(texts)
    columns = [self._texts.index(t) for t in texts]
    for i in range(0, len(studies), 2):
      rows = np.arange(i, min(i + 2, len(studies)))
      yield rows, *self._scores[:, rows][:, :, columns]


def _evaluator(items, scores=None, options=None, seed=0):
  texts = sorted({t for one in items for t in one})
  if scores is None:
    scores = np.random.default_rng(seed).normal(
        size=(2, len(items), len(texts)))
  context = types.SimpleNamespace(
      name="it", studies=_Studies(items),
      spec=None if options is None else types.SimpleNamespace(options=options),
      scorer=_Scorer(np.asarray(scores, np.float32), texts))
  return retrieval.Evaluator(context)


def _numbers(evaluator, table=None):
  table = evaluator.collect() if table is None else table
  found = retrieval.measure("it", table, evaluator.meta())
  values = found.statistic(np.ones((1, len(table["query"])), int))[0]
  return dict(zip(found.names, values)), dict(zip(found.names, found.support))


# Study 1 has no text. By TCSim a finds its study at rank 2, b and c at 1;
# study 0 its best text at 1 and its worst at 3, study 2 its only one at 1.
_ITEMS = [("a", "b"), (), ("c",)]
_TCSIM = [[0.1, 0.9, 0.5], [9, 9, 9], [0.2, 0.3, 0.8]]
_COSINE = [[0.9, 0.8, 0.5], [9, 9, 9], [0.2, 0.3, 0.1]]


def test_by_hand(capsys):
  evaluator = _evaluator(_ITEMS, [_TCSIM, _COSINE],
                         {"ranks_at": [1, 2], "complete_at": [2, 3]})
  values, support = _numbers(evaluator)
  assert ("3 texts, 3 of them distinct, of 2 studies; left out for want of "
          "text: 1.") in capsys.readouterr().out
  want = {
      "text_to_image/r@1": 2 / 3, "text_to_image/r@2": 1,
      "text_to_image/mean_rank": 4 / 3, "text_to_image/median_rank": 1,
      "image_to_text/r@1": 1, "image_to_text/mean_rank": 1,
      "image_to_text/complete@2": 1 / 2, "image_to_text/complete@3": 1,
      "image_to_text/mean_worst_rank": 2, "image_to_text/median_worst_rank": 2,
      "image_to_text/mean_own_rank": 1.5,
      "global/text_to_image/r@1": 2 / 3,
      "global/text_to_image/mean_rank": 4 / 3,
      "global/image_to_text/r@1": 1 / 2, "global/image_to_text/r@2": 1 / 2,
      "global/image_to_text/mean_rank": 2,
      "global/image_to_text/complete@2": 1 / 2}
  for name, value in want.items():
    assert values[f"it/{name}"] == pytest.approx(value), name
  assert support["it/text_to_image/r@1"] == 3
  assert support["it/image_to_text/complete@2"] == 2
  assert not [name for name in values if "two_stage" in name]


def _repeated(num_studies=12, seed=3):
  """Studies with 0 to 4 of nine texts that come up again and again."""
  rng = np.random.default_rng(seed)
  items = [tuple(rng.choice(list("abcdefghi"), rng.integers(0, 5), False))
           for _ in range(num_studies)]
  return [tuple(map(str, one)) for one in items]


def test_every_study_with_the_text_can_count_as_right():
  items = _repeated()
  texts = sorted({t for one in items for t in one})
  scores = np.random.default_rng(4).normal(size=(2, len(items), len(texts)))
  evaluator = _evaluator(items, scores, _ALL | {"equal_texts": "match"})
  table = evaluator.collect()
  real = [i for i, one in enumerate(items) if one]
  for n in np.flatnonzero(table["query"] == "text"):
    column = scores[0, real, texts.index(table["text"][n])]
    order = [items[real[i]] for i in np.argsort(-column)]
    want = 1 + next(i for i, one in enumerate(order) if table["text"][n] in one)
    assert table["rank_tcsim"][n] == want
  for n in np.flatnonzero(table["query"] == "image"):
    row = table["record"][n]
    order = [texts[u] for u in np.argsort(-scores[0, row])]
    places = sorted(1 + order.index(t) for t in items[row])
    assert table["rank_tcsim"][n] == places[0]
    assert table["worst_tcsim"][n] == places[-1]


def test_shared_texts_are_as_many_answers():
  """Published: of a text of three studies, only the query's own is right."""
  items, scores = [("a",)] * 3, np.array([[[0.3], [0.2], [0.1]]] * 2)
  values, _ = _numbers(_evaluator(items, scores, {"ranks_at": [1]}))
  assert values["it/text_to_image/mean_rank"] == 2          # 1, 2 and 3
  assert values["it/image_to_text/mean_rank"] == 2          # a draw
  values, _ = _numbers(_evaluator(
      items, scores, {"ranks_at": [1], "equal_texts": "match"}))
  assert values["it/text_to_image/mean_rank"] == 1
  assert values["it/image_to_text/mean_rank"] == 1


def test_rows_name_their_study_and_patient():
  evaluator = _evaluator(_ITEMS)
  table = evaluator.collect()
  assert table["query"].tolist() == ["image"] * 2 + ["text"] * 3
  assert table["study_id"].tolist() == ["s0", "s2", "s0", "s0", "s2"]
  assert table["patient_id"].tolist() == ["p0", "p1", "p0", "p0", "p1"]
  assert table["text"].tolist() == ["", "", "a", "b", "c"]
  assert {len(column) for column in table.values()} == {5}


def test_without_a_prompt_set_everything_is_measured():
  evaluator = _evaluator(_ITEMS)
  values, _ = _numbers(evaluator)
  for name in ("two_stage/text_to_image/r@5", "global/image_to_text/r@10",
               "image_to_text/complete@1000"):
    assert f"it/{name}" in values
  assert evaluator.meta() == {
      "ranks_at": [1, 5, 10], "complete_at": [10, 100, 1000], "two_stage": 128,
      "equal_texts": "own", "studies": 2, "texts": 3, "distinct_texts": 3,
      "left_out": 1}


def test_measured_again_from_the_file(tmp_path):
  evaluator = _evaluator(_repeated(), options=_ALL)
  table = evaluator.collect()
  predictions.write(tmp_path / "it.csv", table)
  again = predictions.read(tmp_path / "it.csv")
  np.testing.assert_equal(_numbers(evaluator, again),
                          _numbers(evaluator, table))


def test_examples_are_the_first_and_the_last_found():
  items = [(f"t{i}",) for i in range(9)]
  scores = np.tile(np.linspace(1, 0, 9)[:, None], (2, 1, 9))
  evaluator = _evaluator(items, scores)
  shown = evaluator.examples(evaluator.collect())
  assert [e.text for e in shown] == ["t0", "t1", "t2", "t6", "t7", "t8"]
  assert [e.row for e in shown] == [0, 1, 2, 6, 7, 8]
  assert "rank 9 of 9" in shown[-1].caption
  few = _evaluator(_ITEMS)
  assert len(few.examples(few.collect())) == 3


def test_no_text_at_all_is_an_error():
  with pytest.raises(UserError, match="none of the 2 studies has text"):
    _evaluator([(), ()], np.zeros((2, 2, 0))).collect()


def test_an_unknown_option_is_an_error():
  with pytest.raises(UserError, match="'own' or 'match'"):
    _evaluator(_ITEMS, options={"ranks_at": [1], "equal_texts": "all"})
