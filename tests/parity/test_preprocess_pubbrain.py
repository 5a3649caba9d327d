"""The Pub-Brain-5 loader: one scan to the grid of the model."""

from itemclip_jax.data import volume
from itemclip_jax.ops.intensity import standardise
from tests.parity import torch_names
from tests.parity.compare import assert_close
from tests.parity.preprocess_case import on_unit_grid

FAMILY = "preprocess_pubbrain"


def test_scans_agree(data):
  scans = torch_names.under(data, "in")
  low, high = int(data["cfg.crop_lo"]), int(data["cfg.crop_hi"])
  side, num_slices = int(data["cfg.resize"]), int(data["cfg.num_slices"])
  assert low == side - high, "the crop is not in the middle"
  assert scans
  for key, raw in scans.items():
    name = key.removesuffix(".raw")
    ours = volume.to_grid(
        on_unit_grid(raw), resize_to=(num_slices, side, side),
        shape=(num_slices, high - low, high - low))
    assert_close(standardise(ours.voxels, 0, 255)[None, None, None],
                 data[f"out.{name}.image"], name)
