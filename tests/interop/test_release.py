"""A released model is the checkpoint that it was made of, and nothing else."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from itemclip_jax.interop import torch_io
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import release as release_lib
from itemclip_jax.train import setup, trained
from itemclip_jax.train.checkpoint import Checkpoints
from tests import tiny

FILES = {"model.safetensors", "config.json", "contract.json", "tokenizer.json",
         "README.md"}


@pytest.fixture(name="mesh", scope="module")
def _mesh():
  return make_mesh(1, 1, jax.devices()[:1])


@pytest.fixture(name="workdir", scope="module")
def _workdir(tiny_set, mesh, tmp_path_factory):
  """A run that saved its initial state as step 3 and was evaluated."""
  workdir = tmp_path_factory.mktemp("run")
  run = setup.make_run(tiny.config(tiny_set), mesh, workdir, training=True)
  with Checkpoints(workdir) as checkpoints:
    checkpoints.save(3, run.init(), {
        "config": dataclasses.asdict(run.config), "data": run.position(3),
        "contract": run.contract.to_dict()}, {})
  value = {"value": 0.75, "ci95": [0.7, 0.8], "n": 10}
  (workdir / "results.json").write_text(json.dumps({
      "zeroshot_auc/mean_tcsim": value, "zeroshot_auc/tcsim/cyst": value}))
  return workdir


@pytest.fixture(name="folder", scope="module")
def _folder(workdir, tmp_path_factory):
  folder = tmp_path_factory.mktemp("released") / "model"
  release_lib.release(workdir, folder)
  return folder


def test_it_loads_as_the_run_does(workdir, folder, mesh):
  ours, theirs = trained.load(folder, mesh), trained.load(workdir, mesh)
  assert {f.name for f in folder.iterdir()} == FILES
  assert ours.step == theirs.step == 3
  assert ours.contract == theirs.contract
  for part in ("vision", "text", "joint", "loss"):
    assert getattr(ours.config, part) == getattr(theirs.config, part)
  kinds = lambda p: jax.tree.map(lambda x: (x.dtype, x.shape, x.sharding), p)
  assert kinds(ours.params) == kinds(theirs.params)
  jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
  texts = ["Large cyst in the left frontal lobe.", "Study is unremarkable."]
  features = [m.encoder.texts(m.params, m.tokenizer(texts))
              for m in (ours, theirs)]
  jax.tree.map(np.testing.assert_array_equal, *features)


def test_it_takes_the_layout_of_the_mesh(folder):
  params = trained.load(folder, make_mesh(1, 2, jax.devices()[:2])).params
  kernel = params["text_tower"]["layer0_mlp"]["fc1"]["kernel"]
  assert not kernel.sharding.is_fully_replicated


def test_a_release_of_a_release_is_the_same(folder, tmp_path):
  again = tmp_path / "model"
  release_lib.release(folder, again, step=3)
  for name in ("config.json", "contract.json", "tokenizer.json"):
    assert (again / name).read_bytes() == (folder / name).read_bytes(), name
  weights = [f / "model.safetensors" for f in (again, folder)]
  assert torch_io.read_metadata(weights[0]) == torch_io.read_metadata(
      weights[1])
  jax.tree.map(np.testing.assert_array_equal,
               *map(torch_io.read_state, weights))


def test_it_names_no_place_of_this_machine(folder, tiny_set, workdir):
  for path in folder.iterdir():
    content = path.read_bytes()
    assert str(tiny_set).encode() not in content, path
    assert str(workdir.parent).encode() not in content, path


def test_the_card_tells_what_was_shown_and_measured(folder):
  card = (folder / "README.md").read_text()
  assert "| zeroshot_auc/mean_tcsim | 0.750 | 0.700 to 0.800 | 10 |" in card
  assert "zeroshot_auc/tcsim/cyst" not in card
  assert '| modality | "MRI" |' in card and "not a medical device" in card


def test_an_existing_folder_is_left_alone(workdir, tmp_path):
  with pytest.raises(ValueError, match="exists already; name a new folder"):
    release_lib.release(workdir, tmp_path)
  assert not list(tmp_path.iterdir())


def _weights(**changes):
  def edit(folder):
    path = folder / "model.safetensors"
    meta, state = torch_io.read_metadata(path), torch_io.read_state(path)
    torch_io.write_state(path, {**state, **changes.get("state", {})},
                         meta | changes.get("meta", {}))
  return edit


def _config(folder):
  raw = json.loads((folder / "config.json").read_text())
  raw["vision"]["depth"] = 3
  (folder / "config.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("edit, message", [
    (lambda f: (f / "contract.json").unlink(), "lacks contract.json. Get the"),
    (lambda f: (f / "tokenizer.json").open("a").write("\n"),
     "trained with another vocabulary"),
    (_config, "lacks vision/block2/.* and 12 more"),
    (_weights(state={"extra": np.zeros(1)}), "unexpected extra"),
    (_weights(state={"logit_bias": np.zeros(2)}), r"logit_bias has shape \(2,"),
    (_weights(meta={"release": "2"}), "has release format 2, this software")])
def test_what_is_not_whole_is_one_sentence(
    folder, mesh, tmp_path, edit, message):
  copy = tmp_path / "model"
  shutil.copytree(folder, copy)
  edit(copy)
  with pytest.raises(ValueError, match=message):
    trained.load(copy, mesh)


def test_another_step_is_refused(folder, mesh):
  with pytest.raises(ValueError, match="is of step 3; there is no step 4"):
    trained.load(folder, mesh, step=4)
