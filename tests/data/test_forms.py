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
