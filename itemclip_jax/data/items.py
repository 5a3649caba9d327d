"""A report's findings -> K item slots and their mask.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 and its public
code: training shuffles and cuts, evaluation keeps the order.
"""

from typing import Literal

import numpy as np

PADDING = "Placeholder"  # what the published code writes into empty slots


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
