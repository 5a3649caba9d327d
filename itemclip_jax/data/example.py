"""One stored study -> the arrays of one model input.

    volume        [S, D, H, W]   as stored; the device standardises it
    series_mask   [S] bool       False = padded series
    series_names  [S, L] int32   character codes
    item_tokens   [K, T] int32   item_mask [K] bool    normal [] bool

further `organ_mask` [D, H, W] uint8 (r + 1 on organ r) for models with organs,
`heatmap` [H, W] uint8 and `expert` [] bool with `data.expert_batch`, and what
the form of the text adds (`organ_normal` [K] bool of organs; `triplets` for
labels);

and for evaluation also `labels` [F] and, where a set has ground truth,
`lesion_mask` [S, D, H, W] uint8 (item number + 1), `item_finding` [K] int32
(-1 = none), `item_visible` [K, S] bool; for people also `affine` [S, 4, 4] and
`names` [S], "" for padded series.

A picture is a study of one series without a name, whose depth is its colours:
D = 3, H and W as in `vision.volume_shape`, and the identity as affine.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import image, items, organs, reports, series_name
from itemclip_jax.data import tokens, triplets, volume
from itemclip_jax.data.view import View

# Items whose ground truth is kept where texts are not items.
_TRUE_ITEMS = 16
_FORMS = {"items": items.slots, "organs": organs.slots,
          "report": reports.report, "sentence": reports.sentence,
          "report_and_sentence": reports.report_and_sentence}


@dataclasses.dataclass(frozen=True)
class MakeExample:
  """Turns records into examples of one fixed shape per number of series."""
  config: schema.Config
  tokenize: tokens.Tokenizer
  air: float = 0.0            # pads volumes smaller than the model's
  vectors: triplets.Vectors | None = None  # of label texts, for soft targets

  def __call__(
      self,
      study: dict,
      num_series: int,                          # S of the batch
      rng: np.random.Generator | None = None,   # training; None: evaluation
      *,
      expert: bool = False,                     # with what an expert looked at
      room: Callable[..., np.ndarray] = np.empty,  # (shape, dtype) -> array
  ) -> dict[str, np.ndarray]:
    """Training shuffles series and items and drops what is over; see above.

    The volume is written into what `room` gives, and nowhere else before.
    """
    config = self.config
    if "image" in study:
      study = study | _picture_as_volume(
          study, config.vision.volume_shape[1:], rng, expert,
          config.data.crop_area)
    view = self._view(study, rng)
    order = np.arange(len(study["volume"]))
    if rng is not None:
      order = rng.permutation(order)
    order = order[:num_series]
    if config.data.series_fill == "repeat":
      order = repeat_to_fill(order, num_series, cut=True)
    length = config.vision.name_length
    slots = self._slots(study, rng)
    example = {
        "volume": self._volume(study["volume"], view, order, num_series, room),
        "series_mask": np.arange(num_series) < len(order),
        "series_names": _pad(np.stack([
            _name_codes(study["series_names"][i], length)
            for i in order]), num_series),
        "item_tokens": self.tokenize(slots.texts),
        "item_mask": slots.mask,
        "normal": np.bool_(study["normal"]),
        "example_mask": np.True_,
    } | slots.extra
    if config.joint.organs:
      (example["organ_mask"],) = view.stack([study["organ_mask"]])
    if config.data.expert_batch:
      none = np.zeros(example["volume"].shape[2:], np.uint8)
      example |= {"expert": np.bool_(expert),
                  "heatmap": study["heatmap"] if expert else none}
    if rng is None:
      source = slots.source
      if config.text.form != "items":   # the texts are no single items
        source = items.fill_slots(study["items"], _TRUE_ITEMS)[-1]
      example |= _truth(study, view, order, source, num_series)
    return example

  def _volume(self, stored, view, order, num_series, room) -> np.ndarray:
    """[num_series, ...]: the series of `order`, then zeros."""
    out = room((num_series, *view.shape), stored.dtype)
    for row, series in zip(out, order):
      view.copy(stored[series], row, self.air)
    out[len(order):] = 0
    return out

  def _view(self, study, rng) -> View:
    """What the model sees of the stored voxels."""
    config = self.config
    shape = config.vision.volume_shape
    have = study["volume"].shape[1:]
    if "image" in study:
      return View(shape)
    if config.data.crop != "fit":
      return organs.view(study, shape, rng, mode=config.data.crop,
                         flip_rate=config.data.flip_rate)
    if rng is None or have == shape:
      return View(shape)
    return View(shape, volume.random_offset(have, shape, rng))

  def _slots(self, study, rng) -> items.Slots:
    """The texts that `text.form` makes of a study."""
    if self.config.text.form == "triplets":
      make = triplets.MakeSlots(self.config.medfilip, self.vectors)
      return make(study, self.config.text, rng)
    return _FORMS[self.config.text.form](study, self.config.text, rng)


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


def _picture_as_volume(
    study: dict,
    size: tuple[int, int],             # H, W
    rng: np.random.Generator | None,
    expert: bool,
    area: tuple[float, float],         # of the picture, in training
) -> dict[str, np.ndarray]:
  """What a study of one series has and a picture has not."""
  picture = image.decode(study["image"].tobytes())
  if rng is not None and expert:
    heatmap = image.decode_mask(study["heatmap"].tobytes())
    volume, heatmap = image.random_crop_with_heatmap(
        picture, heatmap, size, rng, area=area)
    return {"volume": volume[None], "heatmap": heatmap}
  if rng is not None:
    return {"volume": image.random_crop(picture, size, rng, area=area)[None]}
  volume = image.centre_crop(picture, size)[None]
  out = {"volume": volume, "affine": np.eye(4, dtype=np.float32)[None]}
  if "lesion_mask" not in study or not study["lesion_mask"].size:
    return out
  mask = image.decode_mask(study["lesion_mask"].tobytes())
  mask = image.centre_crop_mask(mask, size)
  return out | {"lesion_mask": np.broadcast_to(mask, volume.shape),
                "item_visible": (study["item_finding"] >= 0)[:, None]}


def _name_codes(name: str, length: int) -> np.ndarray:
  """[length] int32; nothing but padding for a picture, which has no name."""
  return (series_name.codes(name, length) if name
          else np.zeros(length, np.int32))


def _truth(study, view, order, source, num_series) -> dict[str, np.ndarray]:
  """What evaluation compares with; empty ground truth becomes "none"."""
  have = study["volume"].shape[1:]
  affines = [view.affine(study["affine"][i], have) for i in order]
  example = {"labels": study["labels"],
             "affine": _pad(np.stack(affines).astype(np.float32), num_series),
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
      "lesion_mask": _pad(
          view.stack([study["lesion_mask"][i] for i in order]), num_series),
      "item_finding": finding.astype(np.int32),
      "item_visible": _pad((visible & real[:, None]).T, num_series).T,
  }


def _pad(x: np.ndarray, rows: int) -> np.ndarray:
  """Appends zeros along the first axis."""
  missing = rows - len(x)
  return np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) if missing else x
