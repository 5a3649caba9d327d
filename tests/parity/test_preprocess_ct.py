"""Chest CT: window, padding and crop, trilinear resize, items.

The window is applied where training applies it, on the device; hence air is
padded as the lower end of the window.
"""

import re

import numpy as np

from data_pipelines.reports import is_normal_ct
from itemclip_jax.data import items as items_lib
from itemclip_jax.data import volume
from itemclip_jax.ops.intensity import standardise
from tests.parity.compare import assert_close
from tests.parity.preprocess_case import (
    assert_standardised_alike, on_unit_grid)

FAMILY = "preprocess_ct"


def _window(data) -> tuple[float, float]:
  """(low, high) in Hounsfield units; the file's and ours are one."""
  centre, width = volume.CHEST_WINDOW
  low, high = centre - width / 2, centre + width / 2
  assert (low, high) == (data["cfg.hu_min"], data["cfg.hu_max"])
  assert_standardised_alike(data)
  return low, high


def _cases(data):
  """Names and volumes in Hounsfield units."""
  matches = [re.fullmatch(r"in\.(.+)\.hu_int16", k) for k in data]
  cases = [(m[1], on_unit_grid(data[m[0]])) for m in matches if m]
  assert cases
  return cases


def _assert_agrees(data, ours: volume.Volume, key: str):
  ours = standardise(ours.voxels, *_window(data))
  assert_close(ours[None, None], data[key], key)


def test_evaluation_takes_the_middle(data):
  low, _ = _window(data)
  for name, hu in _cases(data):
    ours = volume.fit(hu, tuple(data["cfg.target"]), fill=low)
    _assert_agrees(data, ours, f"out.{name}.eval")


def test_training_pads_and_cuts_as_drawn(data):
  low, _ = _window(data)
  for name, hu in _cases(data):
    pad, start = data[f"out.{name}.train_draws_padD_padH_padW_"
                      "startD_startH_startW"].reshape(2, 3)
    ours = volume.fit(
        hu, tuple(data["cfg.target"]), offset=start - pad, fill=low)
    _assert_agrees(data, ours, f"out.{name}.train")


def test_resizing_agrees(data):
  for name, hu in _cases(data):
    ours = volume.resize(volume.clip_to_window(hu, volume.CHEST_WINDOW),
                         tuple(data["cfg.target"]), depth="linear")
    _assert_agrees(data, ours, f"out.{name}.resize_mode")


def test_a_volume_of_real_size_agrees(data):
  where = "out.realsize.eval"
  hu = np.random.RandomState(data["cfg.realsize_numpy_randomstate_seed"])
  hu = hu.randint(data["cfg.realsize_low"], data["cfg.realsize_high_exclusive"],
                  size=data["cfg.realsize_shape"]).astype(np.int16)
  low, high = _window(data)
  ours = volume.fit(
      on_unit_grid(hu), tuple(data["cfg.realsize_target"]), fill=low)
  ours = np.asarray(standardise(ours.voxels, low, high))
  assert (1, 1, *ours.shape) == tuple(data[f"{where}_shape"])
  assert_close(ours[3::8, 5::24, 7::24], data[f"{where}_subsampled_8_24_24"],
               "subsampled")
  corner = data[f"{where}_corner_2x3x3"]
  assert_close(ours[tuple(map(slice, corner.shape))], corner, "corner")
  for name in ("mean", "std"):  # of float32 voxels, though stored wider
    assert_close(getattr(np, name)(ours, dtype=np.float64),
                 data[f"{where}_{name}"].astype(np.float32), name)


def test_items_and_normal_flags_agree(data):
  for raw, padded, mask, normal in zip(
      data["cfg.report_items_raw"], data["cfg.report_items_lowercased_padded"],
      data["out.textmask"], data["out.normal_flag"], strict=True):
    items = str(raw).split("|")
    texts, ours, _ = items_lib.fill_slots(items, int(data["cfg.num_items"]))
    assert [t.lower() for t in texts] == str(padded).split("|")
    np.testing.assert_array_equal(ours, mask > 0)
    assert is_normal_ct(items) == normal
