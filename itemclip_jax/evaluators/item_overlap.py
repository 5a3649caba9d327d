"""Do the items of one study look at different places, and is none left behind?

An *item* is one finding of a report. Of each study, over its own items:

    item_overlap/mams    mAMS, mean attention-map similarity: the cosine of two
                         different items' head-averaged maps over all tokens of
                         the study, without the zero slot; mean over all pairs.
                         Lower = better separated
    item_overlap/mll     MLL, the least of the items' TCSims (the cosine of an
                         item with what it pools). Higher = better
    item_overlap/own_tcsim     their mean

and the mean of that over studies. Both are plain numbers; the paper tabulates
MLL times 100. Tokens and items are normalised before the attention, the rule of
the zero-shot scores: maps and TCSims then come from one and the same attention.

Items are the first `text.max_items` of a report, as in training, and all where
the model was taught by other texts; equal ones count once. A study of one item
has no pair and so no mAMS; one without items is left out. Both are counted.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import numpy as np

from itemclip_jax.evaluators import measures
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.parallel import multihost

_NUMBERS = ("mams", "mll", "own_tcsim")


class Evaluator:
  """One row per study that has an item."""
  REQUIRES = ()
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    self._counts = {"studies_without_items": 0, "studies_of_one_item": 0}

  def collect(self) -> Table:
    """Compares every study with its own items."""
    studies, most = self._context.studies, self._context.config.text.items_seen
    items = [tuple(dict.fromkeys(studies.items(row)[:most]))
             for row in range(len(studies))]
    tcsim = self._tcsim(items)
    overlap = {row: map_similarity(weights) for row, weights
               in self._context.scorer.attention(studies, {
                   row: own for row, own in enumerate(items) if len(own) > 1})}
    rows = [row for row, own in enumerate(items) if own]
    self._counts = {"studies_without_items": len(items) - len(rows),
                    "studies_of_one_item": sum(len(i) == 1 for i in items)}
    if any(self._counts.values()) and multihost.is_main():
      none, one = self._counts.values()
      print(f"{self._context.name}: {none} of {len(items)} studies have no "
            f"item and are left out; {one} have one, and so no mAMS.")
    worst = {row: int(np.argmin(tcsim[row])) for row in rows}
    return {
        "study_id": studies.study_id[rows],
        "patient_id": studies.patient_id[rows],
        "num_items": np.array([len(items[row]) for row in rows], int),
        "item": np.array([items[row][worst[row]] for row in rows], str),
        "mams": np.array([overlap.get(row, np.nan) for row in rows], float),
        "mll": np.array([tcsim[row][worst[row]] for row in rows], float),
        "own_tcsim": np.array([tcsim[row].mean() for row in rows], float),
    }

  def _tcsim(self, items: list[tuple[str, ...]]) -> list[np.ndarray]:
    """Of each study with its own items."""
    number = {text: i for i, text in enumerate(
        dict.fromkeys(text for own in items for text in own))}
    if not number:
      return [np.zeros(0) for _ in items]
    return self._context.scorer.pairs(
        self._context.studies, list(number),
        [np.array([number[text] for text in own], int) for own in items],
        normalise=True)

  def meta(self) -> dict:
    """The rule, and how many studies are not in each mean."""
    return {"normalise": True} | self._counts

  def examples(self, table: Table) -> list[Example]:
    """Nothing to draw."""
    del table
    return []


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Means over studies."""
  del meta
  return measures.means(
      tuple(f"{name}/{number}" for number in _NUMBERS),
      np.stack([np.asarray(table[c], float) for c in _NUMBERS], axis=1))


def map_similarity(weights: np.ndarray) -> float:
  """Mean cosine of all pairs of n attention maps [n, ...].

  A map without any attention has no direction; its pairs are left out. NaN
  without a pair.
  """
  maps = weights.reshape(len(weights), -1).astype(float)
  maps = maps[maps.any(1)]
  if len(maps) < 2:
    return float("nan")
  maps /= np.linalg.norm(maps, axis=1, keepdims=True)
  return float((maps @ maps.T)[np.triu_indices(len(maps), 1)].mean())
