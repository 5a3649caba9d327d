"""How the items of a phantom's report are put together."""

from collections.abc import Callable, Sequence

import numpy as np

HARMLESS_RATE = 0.3      # studies with one more item that is no finding


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
  return options[rng.integers(len(options))]


def compose(
    rng: np.random.Generator,
    found: list,
    *,
    describe: Callable,          # (rng, one of found) -> item
    normal: str,                 # the only item where nothing is found
    harmless: Sequence[str],     # items that are no finding
) -> tuple[list[str], list[int]]:
  """The items of a study, and which item speaks of each finding."""
  if not found:
    return [normal], []
  items = [(k, describe(rng, one)) for k, one in enumerate(found)]
  if rng.random() < HARMLESS_RATE:
    items.append((None, pick(rng, harmless)))
  items = [items[i] for i in rng.permutation(len(items))]
  about = [k for k, _ in items]
  return [text for _, text in items], [
      about.index(k) for k in range(len(found))]
