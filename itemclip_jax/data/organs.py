"""Organs of a study: their texts, and crops that keep one whole.

A crop that cuts an organ takes it out of fVLM's loss, so crops anywhere would
leave out the large ones most of the time. "organ" therefore draws one of the
organs that the study has, each as likely, then one of the places where the crop
holds all of that organ's voxels, each as likely. Where none does, as with an
organ larger than the crop, the crop lies anywhere.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548, section 3.3; the
public code crops anywhere.
"""

from typing import Literal

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import items
from itemclip_jax.data.view import View
from itemclip_jax.errors import UserError


def slots(study: dict, text: schema.Text,
          rng: np.random.Generator | None) -> items.Slots:
  """One text an organ, in the order of organs.json; nothing is drawn.

  Raises:
    UserError: the study has no texts of organs, or not `text.max_items`.
  """
  del rng
  if "organ_texts" not in study:
    raise UserError(
        f"Study {study['study_id']!r} has no organs, but text.form='organs' "
        "reads them; build the set again with --organ_masks, or choose another "
        "form.")
  texts = list(study["organ_texts"])
  if len(texts) != text.max_items:
    raise UserError(
        f"text.max_items={text.max_items}, but the set has {len(texts)} "
        f"organs; with text.form='organs' set it to {len(texts)}.")
  R = len(texts)
  return items.Slots(
      texts, np.ones(R, bool), np.full(R, -1, np.int32),
      {"organ_normal": study["organ_normal"].astype(bool)})


def boxes(
    organ_mask: np.ndarray,  # [D, H, W] uint8, r + 1 on organ r
) -> dict[int, np.ndarray]:  # r -> [3, 2] int: first voxel, one behind the last
  """Where the organs lie that have a voxel."""
  found = {}
  for axis in range(3):
    planes = np.moveaxis(organ_mask, axis, 0)
    for i, plane in enumerate(planes.reshape(len(planes), -1)):
      for value in np.flatnonzero(np.bincount(plane, minlength=256)[1:]):
        box = found.setdefault(int(value), np.zeros((3, 2), int))
        if not box[axis, 1]:
          box[axis, 0] = i
        box[axis, 1] = i + 1
  return dict(sorted(found.items()))


def view(
    study: dict,
    shape: tuple[int, int, int],       # D, H, W wanted
    rng: np.random.Generator | None,   # None: the middle, never flipped
    *,
    mode: Literal["random", "organ"] = "organ",
    flip_rate: float = 0.0,            # of each axis
) -> View:
  """Draws what is seen of a study.

  What is too small is padded on both sides. A flip is no rotation, so left and
  right change places in the picture but not in the texts.

  Raises:
    UserError: volume and mask of organs differ in shape.
  """
  have = study["volume"].shape[1:]
  mask = study.get("organ_mask")
  if mask is not None and mask.shape != have:
    raise UserError(
        f"Study {study['study_id']!r} has {have} voxels but a mask of organs "
        f"of {mask.shape}; build the set again.")
  if rng is None:
    return View(shape)
  box = _drawn(mask, rng) if mode == "organ" and mask is not None else None
  offset = _offset(have, shape, box, rng)
  return View(shape, offset, tuple(rng.random(3) < flip_rate))


def crop(study: dict, shape: tuple[int, int, int],
         rng: np.random.Generator | None, *, air: float = 0.0, **options
         ) -> dict[str, np.ndarray]:
  """As `moved`, of the window that `view` draws with the options."""
  return _seen(study, view(study, shape, rng, **options), air)


def moved(
    study: dict,
    shape: tuple[int, int, int],
    offset: np.ndarray | None,          # as in volume.fit
    *,
    air: float = 0.0,                   # fills where the study is too small
) -> dict[str, np.ndarray]:
  """Volume [S, D, H, W], affine and masks of a window of a study."""
  return _seen(study, View(shape, offset), air)


def _seen(study: dict, seen: View, air: float) -> dict[str, np.ndarray]:
  have = study["volume"].shape[1:]
  out = {"volume": seen.stack(study["volume"], air),
         "affine": np.stack([seen.affine(affine, have) for affine
                             in study["affine"]]).astype(np.float32)}
  if "organ_mask" in study:
    (out["organ_mask"],) = seen.stack([study["organ_mask"]])
  if study.get("lesion_mask", out["volume"][:0]).size:
    out["lesion_mask"] = seen.stack(study["lesion_mask"])
  return out


def _drawn(organ_mask: np.ndarray, rng) -> np.ndarray | None:
  """The box of one of the organs; None where there is none."""
  found = list(boxes(organ_mask).values())
  return found[rng.integers(len(found))] if found else None


def _offset(have, want, box: np.ndarray | None, rng) -> np.ndarray:
  """Any place, or with a box any that holds it; padding on both sides."""
  slack = np.subtract(have, want)
  low, high = np.zeros(3, int), np.maximum(slack, 0)
  if box is not None and (box[:, 1] - box[:, 0] <= want).all():
    low = np.maximum(low, box[:, 1] - want)
    high = np.minimum(high, box[:, 0])
  middle = np.trunc(slack / 2).astype(int)
  # Where all of an axis is seen, low and high say nothing of the padding.
  seen = slack <= 0
  return np.where(seen, middle, rng.integers(
      np.where(seen, 0, low), np.where(seen, 0, high), endpoint=True))
