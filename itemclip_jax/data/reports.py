"""A report as one text, one sentence of it, or both, in slots of their own.

    report                [prefix + the items joined by text.join]
    sentence              [prefix + one item at random]
    report_and_sentence   both, in this order

Training joins the items in random order; evaluation keeps theirs, and where a
sentence would be drawn it says the whole report. A study without items has
padding in every slot.

References: Zhao et al. 2025, https://arxiv.org/abs/2505.21862 (HLIP: permuted
items, sentence dropout, dual contrast); Lyu et al. 2025,
https://arxiv.org/abs/2512.11141 (CLIP and SigLIP on joined items).
"""

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data.items import Slots


def report(study: dict, text: schema.Text,
           rng: np.random.Generator | None) -> Slots:
  """One slot: all items."""
  return _slots(study, text, [_report(study["items"], text, rng)])


def sentence(study: dict, text: schema.Text,
             rng: np.random.Generator | None) -> Slots:
  """One slot: an item; for evaluation all of them."""
  return _slots(study, text, [_sentence(study["items"], text, rng)])


def report_and_sentence(study: dict, text: schema.Text,
                        rng: np.random.Generator | None) -> Slots:
  """Two slots."""
  return _slots(study, text, [_report(study["items"], text, rng),
                              _sentence(study["items"], text, rng)])


def _report(items: list[str], text: schema.Text, rng) -> tuple[str, int]:
  """The text and the number of its only item, -1 for several."""
  order = range(len(items)) if rng is None else rng.permutation(len(items))
  joined = text.prefix + text.join.join(items[i] for i in order)
  return joined, 0 if len(items) == 1 else -1


def _sentence(items: list[str], text: schema.Text, rng) -> tuple[str, int]:
  """As `_report`."""
  if rng is None or not items:
    return _report(items, text, rng)
  chosen = int(rng.integers(len(items)))
  return text.prefix + items[chosen], chosen


def _slots(study: dict, text: schema.Text,
           said: list[tuple[str, int]]) -> Slots:
  """Slots of texts, each with the number of its item."""
  if not study["items"]:
    said = [(text.padding, -1)] * len(said)
  texts, source = zip(*said)
  return Slots(list(texts), np.full(len(said), bool(study["items"])),
               np.array(source, np.int32))
