"""The domain configs really train: two steps of each, released preset too."""

import json

import jax
import numpy as np
import pytest

from configs import brain_mri, chest_ct
from itemclip_jax.config import schema
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import loop
from tests.train import tiny_ct


def _train(raw, root, workdir):
  raw.data.root = str(root)
  raw.data.num_threads = 1
  config = schema.from_config_dict(raw)
  loop.train(config, make_mesh(1, 1, jax.devices()[:1]), workdir)
  return json.loads((workdir / "final.json").read_text())


@pytest.mark.parametrize("variant", ["smoke", "released,smoke"])
def test_brain_mri_takes_two_steps(tiny_set, tmp_path, variant):
  final = _train(brain_mri.get_config(variant), tiny_set, tmp_path)
  assert final["step"] == 2 and np.isfinite(final["loss"])


def test_chest_ct_takes_two_steps_from_hounsfield_units(tmp_path):
  tiny_ct.build(tmp_path / "data")
  raw = chest_ct.get_config("released,smoke")
  raw.data.valid_split = ""
  final = _train(raw, tmp_path / "data", tmp_path / "run")
  assert final["step"] == 2 and np.isfinite(final["loss"])
