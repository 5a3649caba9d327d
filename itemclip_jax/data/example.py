"""One stored study -> the arrays of one model input.

    volume        [S, D, H, W]   as stored; the device standardises it
    series_mask   [S] bool       False = padded series
    series_names  [S, L] int32   character codes
    item_tokens   [K, T] int32   item_mask [K] bool    normal [] bool

and for evaluation also `labels` [F] and, where a set has ground truth,
`lesion_mask` [S, D, H, W] uint8 (item number + 1), `item_finding` [K] int32
(-1 = none), `item_visible` [K, S] bool; for people also `affine` [S, 4, 4] and
`names` [S], "" for padded series.
"""

import dataclasses

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import items, series_name, tokens


@dataclasses.dataclass(frozen=True)
class MakeExample:
  """Turns records into examples of one fixed shape per number of series."""
  config: schema.Config
  tokenize: tokens.Tokenizer

  def __call__(
      self,
      study: dict,
      num_series: int,                          # S of the batch
      rng: np.random.Generator | None = None,   # training; None: evaluation
  ) -> dict[str, np.ndarray]:
    """Training shuffles series and items and drops what is over; see above."""
    order = np.arange(len(study["volume"]))
    if rng is not None:
      order = rng.permutation(order)
    order = order[:num_series]
    if self.config.data.series_fill == "repeat":
      order = repeat_to_fill(order, num_series, cut=True)
    text, length = self.config.text, self.config.vision.name_length
    slots, item_mask, source = items.fill_slots(
        study["items"], text.max_items, rng)
    if rng is not None and text.diverse_max_merge:
      slots = items.diverse_sample(
          study["items"], text.max_items, text.diverse_max_merge,
          text.diverse_prob, rng)
      item_mask = np.ones(text.max_items, bool)
    example = {
        "volume": _pad(study["volume"][order], num_series),
        "series_mask": np.arange(num_series) < len(order),
        "series_names": _pad(np.stack([
            series_name.codes(study["series_names"][i], length)
            for i in order]), num_series),
        "item_tokens": self.tokenize(slots),
        "item_mask": item_mask,
        "normal": np.bool_(study["normal"]),
        "example_mask": np.True_,
    }
    if rng is None:
      example |= _truth(study, order, source, num_series)
    return example


def repeat_to_fill(
    order: np.ndarray,  # [n] int, series in the order of their slots
    num_series: int,
    *,
    cut: bool,
) -> np.ndarray:        # [>= num_series] int; [num_series] where `cut`
  """Repeats the series in whole rounds until there are `num_series`.

  The published code fills with repeats what our batches pad under a mask. In
  training it cuts what is over (`cut`); in evaluation it does not, so that all
  series count alike: 3 series fill 10 slots with 4 rounds, 12 slots.

  Source: HLIP, Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
  """
  filled = np.tile(order, -(-num_series // len(order)))
  return filled[:num_series] if cut else filled


def _truth(study, order, source, num_series) -> dict[str, np.ndarray]:
  """What evaluation compares with; empty ground truth becomes "none"."""
  example = {"labels": study["labels"],
             "affine": _pad(study["affine"][order], num_series),
             "names": np.array(
                 [study["series_names"][i] for i in order]
                 + [""] * (num_series - len(order)), dtype="U64")}
  if "lesion_mask" not in study or not study["lesion_mask"].size:
    return example
  real = source >= 0
  pick = np.where(real, source, 0)
  visible = study["item_visible"].astype(bool)[pick][:, order]
  finding = np.where(real, study["item_finding"][pick], -1)
  return example | {
      "lesion_mask": _pad(study["lesion_mask"][order], num_series),
      "item_finding": finding.astype(np.int32),
      "item_visible": _pad((visible & real[:, None]).T, num_series).T,
  }


def _pad(x: np.ndarray, rows: int) -> np.ndarray:
  """Appends zeros along the first axis."""
  missing = rows - len(x)
  return np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) if missing else x
