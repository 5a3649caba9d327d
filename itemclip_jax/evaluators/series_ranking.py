"""Which series of a study does an item look at, and does that one show it?

For every finding of a report, an *item*, the head-averaged attention of its own
words is summed over each series, and the series are put in order:

    series_ranking/top1, top3    a series that shows the item is the first, or
                                 among the first three
    series_ranking/mean_rank     the place, from 1, of the best of those series

"..._chance" is what any order has on average, exactly; of a study of three
series, `top3_chance` is 1. Series with equal attention share their places
(`metrics.series_rank`). Items that no series shows, or every one, have no rank:
their numbers are undefined. So are all where a data set does not say which
series show an item; the table then still holds the order and each series' share
of the attention.

Items are the first `text.max_items` of a report, as in training, and all where
the model was taught by other texts; equal ones count once.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement (there
two items of one study, without a number).
"""

import math

import numpy as np

from itemclip_jax.evaluators import measures, metrics
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.parallel import multihost

_SHOWN = 3   # items of the one study that is drawn

_ABOUT = ("study_id", "patient_id", "record", "slot", "item", "series")
# Column of the table -> ending of the number's name.
_NUMBERS = {"top1": "top1", "top1_chance": "top1_chance",
            "top3": "top3", "top3_chance": "top3_chance",
            "rank": "mean_rank", "rank_chance": "mean_rank_chance"}


class Evaluator:
  """One row per item."""
  REQUIRES = ("series_mask", "names")
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    self._undefined = 0

  def collect(self) -> Table:
    """Shows every study its own items."""
    studies = self._context.studies
    slots = {}                              # study -> {item: slot}
    for row in range(len(studies)):
      items = studies.items(row)[:self._context.config.text.items_seen]
      slots[row] = {item: items.index(item) for item in items}
    rows = []
    for row, weights in self._context.scorer.attention(
        studies, {row: tuple(of) for row, of in slots.items()}):
      example = studies.example(row)
      for (item, k), one in zip(slots[row].items(), weights, strict=True):
        shown = (example["item_visible"][k] if "item_visible" in example
                 else np.zeros_like(example["series_mask"]))
        rows.append(_place(one, shown, example["series_mask"]) | {
            "study_id": studies.study_id[row], "record": row, "slot": k,
            "patient_id": studies.patient_id[row], "item": item,
            "series": _order(one, example["names"], example["series_mask"])})
    self._undefined = sum(math.isnan(r["rank"]) for r in rows)
    if self._undefined and multihost.is_main():
      print(f"{self._context.name}: {self._undefined} of {len(rows)} items "
            "have no rank; the data set names no series that shows them, or "
            "all of them.")
    return {c: np.array([r[c] for r in rows]) for c in (*_ABOUT, *_NUMBERS)}

  def meta(self) -> dict:
    """How many items have no rank."""
    return {"undefined_items": self._undefined}

  def examples(self, table: Table) -> list[Example]:
    """Items of the first study that has several, ranked ones first."""
    records, counts = np.unique(table["record"], return_counts=True)
    ranked = np.isin(records, table["record"][~np.isnan(table["rank"])])
    if not (counts > 1).any():
      return []
    row = int(records[np.argmax((counts > 1) * (1 + ranked))])
    chosen = np.flatnonzero(table["record"] == row)
    chosen = chosen[np.argsort(np.isnan(table["rank"][chosen]), kind="stable")]
    texts = [str(table["item"][n]) for n in chosen[:_SHOWN]]
    which = [np.arange(len(texts)) if r == row else np.arange(0)
             for r in range(len(self._context.studies))]
    scores = self._context.scorer.pairs(
        self._context.studies, texts, which, normalise=True)[row]
    return [self._example(table, n, score)
            for n, score in zip(chosen, scores)]

  def _example(self, table, n: int, score: float) -> Example:
    row, k = int(table["record"][n]), int(table["slot"][n])
    example = self._context.studies.example(row)
    known = "item_visible" in example
    return Example(
        row=row, text=str(table["item"][n]), group="Which series it looks at",
        caption=f"Share of the attention: {table['series'][n]} (study "
                f"{table['study_id'][n]}).",
        score=float(score),
        lesion_mask=example["lesion_mask"] == k + 1 if known else None,
        visible=example["item_visible"][k] if known else None)


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Means over the items that have a rank."""
  del meta
  return measures.means(
      tuple(f"{name}/{ending}" for ending in _NUMBERS.values()),
      np.stack([np.asarray(table[c], float) for c in _NUMBERS], axis=1))


def expected_rank(shown: int, total: int) -> float:
  """Mean place of the best of `shown` series in a random order of `total`."""
  return (total + 1) / (shown + 1)


def expected_within(shown: int, total: int, k: int) -> float:
  """Chance that one of `shown` of `total` series is among the first k."""
  k = min(k, total)
  return 1 - math.comb(total - shown, k) / math.comb(total, k)


def _place(
    weights: np.ndarray,   # [S, d, h, w] attention of an item
    visible: np.ndarray,   # [S] bool, the series shows the item
    real: np.ndarray,      # [S] bool, False = padding
) -> dict[str, float]:
  """The numbers of one item, all NaN where it has no rank."""
  rank = metrics.series_rank(weights, visible, real)
  if math.isnan(rank):
    return dict.fromkeys(_NUMBERS, float("nan"))
  shown, total = int((visible & real).sum()), int(real.sum())
  return {"top1": float(rank <= 1),
          "top1_chance": expected_within(shown, total, 1),
          "top3": float(rank <= 3),
          "top3_chance": expected_within(shown, total, 3),
          "rank": rank, "rank_chance": expected_rank(shown, total)}


def _order(weights, names, real) -> str:
  """'<series> <share>, ...' of the real series, the most attended first."""
  total = weights.sum((1, 2, 3)) * real
  share = total / max(total.sum(), 1e-12)
  return ", ".join(f"{names[s]} {share[s]:.3f}"
                   for s in np.argsort(-share, kind="stable") if real[s])
