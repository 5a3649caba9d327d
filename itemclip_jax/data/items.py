"""A report's findings -> K item slots and their mask.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 and its public
code: training shuffles and cuts, evaluation keeps the order.
"""

import numpy as np

PADDING = "Placeholder"  # what the published code writes into empty slots


def fill_slots(
    items: list[str],
    max_items: int,
    rng: np.random.Generator | None = None,
) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Shuffles (with `rng`), cuts and pads the items of one study.

  Returns:
    The texts of the K slots; their mask, [K] bool, real ones first; and which
    item each slot holds, [K] int32, -1 for padding.
  """
  order = np.arange(len(items)) if rng is None else rng.permutation(len(items))
  order = order[:max_items]
  empty = max_items - len(order)
  texts = [items[i] for i in order] + [PADDING] * empty
  source = np.concatenate([order, np.full(empty, -1)]).astype(np.int32)
  return texts, source >= 0, source


def diverse_sample(
    items: list[str],
    num_texts: int,
    max_merge: int,
    join_prob: float,
    rng: np.random.Generator,
) -> list[str]:
  """Draws texts that join up to `max_merge` items (the 2-D domains).

  Each text is one random item, or r items joined by ". ": with `join_prob`
  neighbours in the list, else a random choice. Where the published code can
  never start a run of neighbours at the last place, ours can.
  """
  n = len(items)
  texts = []
  for _ in range(num_texts):
    r = int(rng.integers(1, min(n, max_merge) + 1))
    if rng.random() < join_prob:
      start = int(rng.integers(n - r + 1))
      chosen = range(start, start + r)
    else:
      chosen = rng.permutation(n)[:r]
    texts.append(". ".join(items[i] for i in chosen))
  return texts
