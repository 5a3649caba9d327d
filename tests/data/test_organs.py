"""Crops keep the organ that was drawn; texts of organs fill the slots."""

import types

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from itemclip_jax.data import organs
from itemclip_jax.errors import UserError

SHAPE = (7, 9, 8)
AFFINE = np.array([[0, 0, -2, 5], [0, -3, 0, 6], [4, 0, 0, 7], [0, 0, 0, 1.0]])


def study(*corners, shape=SHAPE, lesions=True) -> dict:
  """Organ r fills the box corners[r]; every voxel has its own number."""
  mask = np.zeros(shape, np.uint8)
  for r, box in enumerate(corners):
    mask[tuple(slice(*b) for b in box)] = r + 1
  volume = np.arange(1, mask.size + 1, dtype=np.int16).reshape(1, *shape)
  return {"study_id": "a", "volume": volume, "organ_mask": mask,
          "affine": AFFINE[None],
          "lesion_mask": (volume % 3).astype(np.uint8) if lesions
                         else volume[:0]}


def positions(volume, affine) -> dict[int, tuple]:
  """Number of a voxel -> mm in the patient."""
  index = np.argwhere(volume > 0)
  mm = index @ affine[:3, :3].T + affine[:3, 3]
  return {int(volume[tuple(i)]): tuple(np.round(m, 3))
          for i, m in zip(index, mm)}


@st.composite
def boxes_and_crops(draw):
  shape = tuple(draw(st.integers(3, 9)) for _ in range(3))
  box = []
  for n in shape:
    start = draw(st.integers(0, n - 1))
    box.append((start, draw(st.integers(start + 1, n))))
  want = tuple(draw(st.integers(1, 11)) for _ in range(3))
  return shape, box, want, draw(st.integers(0, 2**32 - 1))


@hypothesis.given(boxes_and_crops())
@hypothesis.settings(max_examples=150, deadline=None)
def test_a_crop_holds_the_whole_organ_if_it_can(case):
  shape, box, want, seed = case
  one = study(box, shape=shape)
  got = organs.crop(one, want, np.random.default_rng(seed), mode="organ",
                    flip_rate=0.5, air=-7)
  assert got["organ_mask"].shape == want == got["volume"].shape[1:]
  if all(b - a <= n for (a, b), n in zip(box, want)):
    assert (got["organ_mask"] == 1).sum() == (one["organ_mask"] == 1).sum()
  # Volume, masks and affine move together.
  inside = got["volume"] != -7
  number = got["volume"][0][inside[0]] - 1
  np.testing.assert_array_equal(got["organ_mask"][inside[0]],
                                one["organ_mask"].ravel()[number])
  np.testing.assert_array_equal(got["lesion_mask"][inside],
                                one["lesion_mask"].ravel()[number])
  assert not got["organ_mask"][~inside[0]].any()
  assert inside.sum() == np.prod(np.minimum(shape, want))
  there = positions(one["volume"][0], AFFINE)
  here = positions(np.where(inside, got["volume"], 0)[0], got["affine"][0])
  assert here.items() <= there.items()


def starts(mode, *corners, n=3000, want=(4, 9, 8)) -> np.ndarray:
  """How often a crop along the first axis starts at 0, 1, 2 and 3."""
  one, rng = study(*corners), np.random.default_rng(0)
  first = [organs.crop(one, want, rng, mode=mode)["volume"][0, 0, 0, 0]
           for _ in range(n)]
  return np.bincount((np.array(first) - 1) // 72, minlength=4) / n


def test_every_place_that_holds_the_organ_is_as_likely():
  box = ((2, 4), (0, 9), (0, 8))            # starts 0, 1 and 2 hold it
  np.testing.assert_allclose(starts("organ", box), [1/3, 1/3, 1/3, 0],
                             atol=0.03)      # 3.5 sigma of 3000 draws
  np.testing.assert_allclose(starts("random", box), [1/4] * 4, atol=0.03)


def test_every_organ_that_is_there_is_as_likely():
  """However many voxels it has; the second organ has none."""
  low, high = ((0, 1), (0, 9), (0, 8)), ((6, 7), (0, 1), (0, 1))
  none = ((0, 0), (0, 0), (0, 0))
  np.testing.assert_allclose(starts("organ", low, none, high),
                             [1/2, 0, 0, 1/2], atol=0.03)


def test_an_organ_too_large_or_none_lets_the_crop_lie_anywhere():
  for box in (((0, 5), (0, 9), (0, 8)), ((0, 0), (0, 0), (0, 0))):
    np.testing.assert_allclose(starts("organ", box), [1/4] * 4, atol=0.03)


def test_evaluation_takes_the_middle_unflipped():
  one = study(((0, 1), (0, 1), (0, 1)))
  got = organs.crop(one, (3, 11, 8), None, flip_rate=1.0, air=-1)
  np.testing.assert_array_equal(got["volume"][:, :, 1:-1],
                                one["volume"][:, 2:5])
  assert (got["volume"][:, :, [0, -1]] == -1).all()


def test_flips_come_at_their_rate_on_each_axis():
  one, rng = study(((0, 1), (0, 1), (0, 1))), np.random.default_rng(0)
  flipped = np.mean([
      np.diag(np.linalg.inv(AFFINE) @ organs.crop(
          one, SHAPE, rng, flip_rate=0.2)["affine"][0])[:3] < 0
      for _ in range(2000)], axis=0)
  np.testing.assert_allclose(flipped, 0.2, atol=0.03)
  mirrored = organs.crop(one, SHAPE, rng, flip_rate=1.0)
  np.testing.assert_array_equal(mirrored["volume"],
                                one["volume"][:, ::-1, ::-1, ::-1])


def test_studies_without_masks_are_cropped_as_well():
  one = study(lesions=False)
  del one["organ_mask"]
  got = organs.crop(one, (3, 3, 3), np.random.default_rng(0), mode="organ")
  assert got.keys() == {"volume", "affine"}


def test_a_mask_of_another_shape_is_refused():
  one = study() | {"organ_mask": np.zeros((7, 9, 7), np.uint8)}
  with pytest.raises(UserError, match=r"\(7, 9, 8\) voxels but a mask of "
                     r"organs of \(7, 9, 7\)"):
    organs.crop(one, (3, 3, 3), None)


def test_boxes_hold_every_voxel_and_no_more():
  one = study(((1, 3), (2, 9), (0, 1)), ((0, 0),) * 3, ((6, 7),) * 3)
  one["organ_mask"][5, 0, 7] = 1            # apart from the rest
  got = organs.boxes(one["organ_mask"])
  assert {r: b.tolist() for r, b in got.items()} == {
      0: [[1, 6], [0, 9], [0, 8]], 2: [[6, 7]] * 3}
  assert organs.boxes(np.zeros((2, 2, 2), np.uint8)) == {}


def test_slots_are_the_organs_in_order():
  one = {"study_id": "a", "organ_texts": ["x", "y"],
         "organ_normal": np.array([1, 0], np.uint8)}
  text = types.SimpleNamespace(max_items=2)
  for rng in (None, np.random.default_rng(0)):
    got = organs.slots(one, text, rng)
    assert got.texts == ["x", "y"] and got.mask.tolist() == [True, True]
    assert got.source.tolist() == [-1, -1]
    assert got.extra["organ_normal"].dtype == bool
    assert got.extra["organ_normal"].tolist() == [True, False]


def test_slots_must_be_as_many_as_the_organs():
  one = {"study_id": "a", "organ_texts": ["x", "y"],
         "organ_normal": np.ones(2, np.uint8)}
  with pytest.raises(UserError, match="max_items=3, but the set has 2 organs"):
    organs.slots(one, types.SimpleNamespace(max_items=3), None)
  with pytest.raises(UserError, match="'a' has no organs.*--organ_masks"):
    organs.slots({"study_id": "a"}, types.SimpleNamespace(max_items=2), None)
