"""Opening a built set: every way to fail has a sentence of its own."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from itemclip_jax.data import record
from itemclip_jax.errors import UserError


def _contract(**changes):
  return record.Contract(**dict(
      modality="MRI", dtype="uint8", intensity="0..255",
      orientation={"axial": "IPR"}, resize=(4, 8, 8), shape=(4, 8, 8),
      dataset="x", records="studies/1.0.0", recipe={"seed": 0}) | changes)


def _write(root, *, num=2, **changes):
  raw = _contract().to_dict() | changes
  (root / "contract.json").write_text(json.dumps(raw))
  (root / "findings.json").write_text("{}")
  np.savez(root / "index.npz", **{
      f"train/{name}": np.zeros(num) for name in record.INDEX})


def test_contract_survives_json():
  raw = json.loads(json.dumps(_contract().to_dict()))
  assert record.Contract.from_dict(raw, "here") == _contract()


def test_contracts_of_two_sets_agree_whatever_the_sets_are_called():
  other = _contract(dataset="y", records="z", recipe={})
  _contract().require_same(other, here="checkpoint", there="data")


def test_different_voxels_are_refused_naming_both_sides():
  other = dataclasses.replace(_contract(), shape=(4, 6, 6))
  with pytest.raises(ValueError, match=(
      r"shape is \(4, 8, 8\) in the checkpoint but \(4, 6, 6\) in the data")):
    _contract().require_same(other, here="the checkpoint", there="the data")


def _study(**changes):
  return {"study_id": "s1", "volume": np.zeros((1, 4, 8, 8), np.uint8),
          "orientation": ["IPR"], "series_names": ["AX_T1"],
          "items": ["Mass."]} | changes


def test_a_study_of_the_contract_is_let_in():
  _contract().require_study(_study())


@pytest.mark.parametrize("changes, told", [
    ({"volume": np.zeros((1, 4, 6, 6), np.uint8)},
     r"\(4, 6, 6\) voxels a series, want \(4, 8, 8\)"),
    ({"volume": np.zeros((1, 4, 8, 8), np.int16)},
     r"voxels of int16, want uint8 \(0..255\)"),
    ({"orientation": ["LPS"]}, "orientation LPS, want IPR"),
    ({"series_names": [" "]}, "a series without a name"),
    ({"series_names": ["x" * 300]}, "name of 300 characters, .* at most 200"),
    ({"items": []}, "no items, want at least one"),
])
def test_a_study_that_breaks_the_contract_is_told(changes, told):
  with pytest.raises(ValueError, match=(
      f"Study 's1' is not what contract.json promises: .*{told}.*again with")):
    _contract().require_study(_study(**changes))


def test_missing_folder(tmp_path):
  with pytest.raises(UserError, match="There is no data set at"):
    record.open_split(tmp_path / "nowhere", "train")


def test_unfinished_build(tmp_path):
  _write(tmp_path)
  (tmp_path / "index.npz").unlink()
  with pytest.raises(UserError, match="unfinished.*index.npz"):
    record.open_split(tmp_path, "train")


def test_missing_split(tmp_path):
  _write(tmp_path)
  with pytest.raises(ValueError, match="no split 'test'; it has train"):
    record.open_split(tmp_path, "test")


def test_empty_split(tmp_path):
  _write(tmp_path, num=0)
  with pytest.raises(ValueError, match="holds no study"):
    record.open_split(tmp_path, "train")


def test_other_schema_version(tmp_path):
  _write(tmp_path, schema_version=0)
  with pytest.raises(ValueError, match="record schema 0, this code reads 1"):
    record.open_split(tmp_path, "train")


def test_neither_tensorflow_nor_torch_nor_jax_is_loaded():
  code = ("import sys, itemclip_jax.data.record, itemclip_jax.data.volume, "
          "data_pipelines.prepare, data_pipelines.datasets.phantom_brain; "
          "sys.exit(str({'tensorflow', 'torch', 'jax'} & set(sys.modules)) "
          "if {'tensorflow', 'torch', 'jax'} & set(sys.modules) else 0)")
  subprocess.run([sys.executable, "-c", code], check=True)
