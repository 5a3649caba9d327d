"""A 2-D MAE inflated to the 3-D tower, against the published conversion."""

import numpy as np

from itemclip_jax.interop import inflate
from itemclip_jax.models import layers
from itemclip_jax.models.hlip import Hlip
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close

FAMILY = "hlip_mae2d_to_3d"


def _cases(data) -> list[str]:
  return sorted({k.split(".")[1] for k in data if k.startswith("out.")})


def _model(data, case: str) -> Hlip:
  """The tower of one case; the file holds no heads, and any number will do."""
  given = torch_names.under(data, f"in.{case}")
  blocks = [int(k.split(".")[1]) for k in given if k.startswith("blocks.")]
  return Hlip(patch=tuple(map(int, data[f"cfg.{case}.patch3d"])),
              grid=tuple(map(int, data[f"cfg.{case}.grid3d"])),
              width=given["cls_token"].shape[-1],
              depth=1 + max(blocks, default=-1), num_heads=1)


def _complete(data, prefix: str, model: Hlip) -> dict[str, np.ndarray]:
  """The entries below `prefix` and zeros for those the file leaves out."""
  given = torch_names.under(data, prefix)
  return given | {name: np.zeros(shape, np.float32)
                  for name, shape in inflate.mae_shapes(model).items()
                  if name not in given and None not in shape}


def test_inflated_tower_agrees(data):
  for case in _cases(data):
    model = _model(data, case)
    # A name that our counterpart of theirs would not look at is no agreement.
    known = inflate.mae_shapes(model).keys() | {"spatial_posemb"}
    assert torch_names.under(data, f"out.{case}.ct").keys() <= known, case
    ours = inflate.hlip_from_mae(_complete(data, f"in.{case}", model), model)
    theirs = torch_names.hlip(_complete(data, f"out.{case}.ct", model),
                              num_heads=model.num_heads)
    assert_trees_close(ours, theirs, case)


def test_series_order_tables_agree(data):
  for case in _cases(data):
    theirs = torch_names.under(data, f"out.{case}.mri")
    assert theirs.keys() <= {"series_posemb"}, case
    for table in theirs.values():
      rows = int(data[f"cfg.{case}.mri_max_num_series"])
      ours = layers.sincos_1d(range(rows), table.shape[-1])
      assert_close(ours, table[0], f"{case} series_posemb")


def test_every_output_is_of_a_known_tower(data):
  for name in data:
    if name.startswith("out."):
      assert name.split(".")[2] in ("ct", "mri"), f"{name} is not compared."
