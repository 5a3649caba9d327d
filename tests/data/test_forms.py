"""What the text forms and the optional features add to an example."""

import numpy as np
import pytest

from itemclip_jax.data import example
from tests import tiny

ITEMS = ["A nodule.", "An effusion.", "A fracture."]


def _study(**more):
  rng = np.random.default_rng(0)
  return {"study_id": "a", "volume": rng.integers(
      0, 255, (1, 24, 48, 48), dtype=np.uint8),
          "affine": np.eye(4, dtype=np.float32)[None], "items": ITEMS,
          "series_names": ["AX_T1"], "normal": False,
          "labels": np.zeros(2, np.int8),
          "lesion_mask": rng.integers(0, 4, (1, 24, 48, 48), dtype=np.uint8),
          "item_visible": np.ones((3, 1), np.uint8),
          "item_finding": np.array([4, 5, 6], np.int32)} | more


class _Tokens:
  """Keeps the texts instead of their pieces."""

  def __call__(self, texts):
    self.texts = texts
    return np.zeros((len(texts), 4), np.int32)


def _make(**changes):
  return example.MakeExample(tiny.config(**changes), _Tokens())


@pytest.mark.parametrize("form, slots", [
    ("report", 1), ("sentence", 1), ("report_and_sentence", 2)])
def test_a_report_is_one_text_and_its_items_are_still_judged(form, slots):
  make = _make(text={"form": form, "max_items": slots, "join": " "})
  made = make(_study(), 1)
  assert made["item_tokens"].shape[0] == made["item_mask"].sum() == slots
  assert make.tokenize.texts == [" ".join(ITEMS)] * slots
  assert made["item_finding"][:4].tolist() == [4, 5, 6, -1]
  np.testing.assert_array_equal(made["item_visible"][:3, 0], True)


def test_a_sentence_is_one_of_the_items():
  make = _make(text={"form": "sentence", "max_items": 1})
  said = set()
  for seed in range(40):
    make(_study(), 1, np.random.default_rng(seed))
    said |= set(make.tokenize.texts)
  assert said == set(ITEMS)


def test_masks_of_organs_move_with_the_volume():
  mask = np.zeros((24, 48, 48), np.uint8)
  mask[10:14, 20:30, 20:30] = 1
  volume = np.where(mask, 200, 0).astype(np.uint8)[None]
  make = _make(joint={"organs": 1}, vision={
      "volume_shape": (24, 32, 32), "patch": (12, 16, 16)})
  made = make(_study(volume=volume, organ_mask=mask), 1,
              np.random.default_rng(0))
  np.testing.assert_array_equal(made["organ_mask"] == 1,
                                made["volume"][0] == 200)
  assert made["organ_mask"].any()


def test_only_experts_rows_have_a_heatmap():
  make = _make(data={"expert_batch": 8})
  made = make(_study(heatmap=np.zeros(0, np.uint8)), 1,
              np.random.default_rng(0))
  assert not made["expert"] and not made["heatmap"].any()
  assert made["heatmap"].shape == (48, 48)


@pytest.mark.parametrize("number", [0, 1, 3, 9])
def test_any_number_of_labels_has_one_shape(number):
  """So nothing is compiled anew, however many labels a batch holds."""
  text = {"form": "triplets", "max_items": 4}
  names = ["nodule", "effusion", "edema", "hernia", "fracture", "cyst",
           "lesion", "opacity", "emphysema"][:number]
  make = _make(text=text, medfilip={"targets": "hard"})
  made = make(_study(severity=[""] * number, location=["left"] * number,
                     category=names), 1, np.random.default_rng(0))
  assert made["item_mask"].sum() == min(number, 4)
  shapes = {k: v.shape for k, v in made.items()}
  assert shapes["item_tokens"][0] == shapes["item_category"][0] == 4
  assert shapes["item_label"] == shapes["item_mask"] == (4,)


def test_an_organ_without_voxels_changes_no_shape():
  make = _make(text={"form": "organs", "max_items": 2}, joint={"organs": 2})
  texts = {"organ_texts": ["Lung shows a nodule.", "Heart is large."],
           "organ_normal": np.array([0, 1], np.uint8)}
  both, one = np.zeros((2, 24, 48, 48), np.uint8)
  both[:2], both[2:4], one[:2] = 1, 2, 1
  shapes = [{k: v.shape for k, v in make(
      _study(organ_mask=mask, **texts), 1, np.random.default_rng(0)).items()}
            for mask in (both, one, np.zeros_like(one))]
  assert shapes[0] == shapes[1] == shapes[2]
