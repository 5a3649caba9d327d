"""Each config really trains, by the command of the README, on embedded data."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines import datasets, prepare

ROOT = pathlib.Path(__file__).parents[2]
EMBEDDED = {"chest_ct": "chest", "remote_sensing": "scenes",
            "natural_images": "scenes"}  # the others: brain


@pytest.fixture(name="embedded", scope="module")
def _embedded(tmp_path_factory, tiny_set):
  """A small set of every kind, by its short name."""
  made = {"brain": tiny_set}
  for name, dataset, more in (
      ("chest", "phantom_chest", {}), ("scenes", "digit_scenes", {}),
      ("radiographs", "phantom_radiograph", {"expert_share": 0.1})):
    made[name] = tmp_path_factory.mktemp(name)
    prepare.build(datasets.make(dataset, num_train=16, num_valid=8, num_test=8,
                                **more), made[name], num_workers=1)
  return made


@pytest.fixture(name="environment", scope="module")
def _environment(tmp_path_factory):
  """`released` differs in numbers mostly: much is compiled once."""
  return os.environ | {
      "PYTHONPATH": str(ROOT),
      "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


@pytest.mark.parametrize("variant", ["smoke", "released,smoke"])
@pytest.mark.parametrize("name", [
    "brain_mri", "head_ct", "chest_ct", "remote_sensing", "natural_images"])
def test_it_takes_two_steps(embedded, environment, tmp_path, name, variant):
  root = embedded[EMBEDDED.get(name, "brain")]
  _train(root, environment, tmp_path, name, variant)


@pytest.mark.parametrize("data, name, variant", [
    ("scenes", "baselines", "siglip,smoke"),
    ("scenes", "baselines", "llip,smoke"),
    ("chest", "baselines", "hlip_dual,smoke"), ("chest", "fvlm", "smoke"),
    ("radiographs", "medfilip", "smoke"), ("radiographs", "eclip", "smoke"),
    ("radiographs", "eclip", "dacl,smoke")])
def test_so_do_other_systems(embedded, environment, tmp_path, data, name,
                             variant):
  _train(embedded[data], environment, tmp_path, name, variant)


def _train(root, environment, tmp_path, name, variant):
  done = subprocess.run(
      [sys.executable, "-m", "itemclip_jax.main",
       f"--config={ROOT}/configs/{name}.py:{variant}",
       f"--config.data.root={root}", f"--workdir={tmp_path}"],
      env=environment, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  final = json.loads((tmp_path / "final.json").read_text())
  assert final["step"] == 2 and np.isfinite(final["loss"])
