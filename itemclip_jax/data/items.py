"""A report's findings -> K text slots and their mask.

Each text form (`text.form`) is a function of a study, the settings of the text
and a random generator (None: evaluation, nothing is drawn) that gives `Slots`;
those of items are here.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 and its public
code: training shuffles and cuts, evaluation keeps the order.
"""

import dataclasses
from typing import Literal

import numpy as np

from itemclip_jax.config import schema

PADDING = "Placeholder"  # what the published code writes into empty slots


@dataclasses.dataclass(frozen=True)
class Slots:
  """The texts of one study.

  Attributes:
    texts: K of them.
    mask: [K] bool, False = padding.
    source: [K] int32, the item of the record that is said; -1 = no single one.
    extra: further arrays of the example, first axis K.
  """
  texts: list[str]
  mask: np.ndarray
  source: np.ndarray
  extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def slots(study: dict, text: schema.Text,
          rng: np.random.Generator | None) -> Slots:
  """Items: shuffled in training, or joined by diverse sampling."""
  if rng is None or not text.diverse_max_merge:
    return Slots(*fill_slots(study["items"], text.max_items, rng,
                             padding=text.padding))
  # The draws of the slots come first, as they always did.
  fill_slots(study["items"], text.max_items, rng)
  K = text.max_items
  texts = diverse_sample(
      study["items"], K, rng, max_merge=text.diverse_max_merge,
      join_prob=text.diverse_prob, count=text.diverse_count,
      quirk=text.diverse_quirk)
  return Slots(texts, np.ones(K, bool), np.full(K, -1, np.int32))


def fill_slots(
    items: list[str],
    max_items: int,
    rng: np.random.Generator | None = None,
    *,
    padding: str = PADDING,
) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Shuffles (with `rng`), cuts and pads the items of one study.

  Returns:
    The texts of the K slots; their mask, [K] bool, real ones first; and which
    item each slot holds, [K] int32, -1 for padding.
  """
  order = np.arange(len(items)) if rng is None else rng.permutation(len(items))
  order = order[:max_items]
  empty = max_items - len(order)
  texts = [items[i] for i in order] + [padding] * empty
  source = np.concatenate([order, np.full(empty, -1)]).astype(np.int32)
  return texts, source >= 0, source


def diverse_sample(
    items: list[str],
    num_texts: int,
    rng: np.random.Generator,
    *,
    max_merge: int,
    join_prob: float,
    count: Literal["to_items", "to_max"] = "to_items",
    quirk: bool = False,
) -> list[str]:
  """Draws texts that join up to `max_merge` items (the 2-D domains).

  Each text is one random item, or r items joined by ". ": with `join_prob`
  neighbours in the order of the list, else drawn in any order.

  Args:
    items: of one picture, at least one.
    num_texts: K; so many are returned, and they may repeat one another.
    rng: source of all draws.
    max_merge: r is uniform from 1 to this number,
    count: but to no more than the items there are ("to_items", RSICD), or
      regardless of them ("to_max", Itemized-cc0.3M): then r neighbours are all
      items, and r items in any order may repeat.
    quirk: choose the start of neighbours as the published code does, one place
      short of the end: the last item is joined only where all are.
  """
  n = len(items)
  most = min(n, max_merge) if count == "to_items" else max_merge
  texts = []
  for _ in range(num_texts):
    r = int(rng.integers(1, most + 1))
    # The published code draws a single item without the quirk.
    if r > 1 and rng.random() < join_prob:
      chosen = _neighbours(n, r, rng, short=quirk)
    elif r <= n:
      chosen = rng.choice(n, r, replace=False)
    else:
      chosen = rng.integers(n, size=r)
    texts.append(". ".join(items[i] for i in chosen))
  return [texts[i] for i in rng.permutation(num_texts)]


def _neighbours(
    n: int, r: int, rng: np.random.Generator, *, short: bool) -> range:
  """r places in a row out of n; all of them where there are no more."""
  if r >= n:
    return range(n)
  start = int(rng.integers(n - r + (0 if short else 1)))
  return range(start, start + r)
