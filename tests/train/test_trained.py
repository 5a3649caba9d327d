"""A trained model is what training left, read from its run directory alone."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from itemclip_jax.train import loop, trained
from tests.train.conftest import STEPS


@pytest.fixture(name="workdir", scope="module")
def _workdir(config, mesh, tmp_path_factory):
  """A finished run."""
  workdir = tmp_path_factory.mktemp("trained")
  loop.train(config, mesh, workdir)
  return workdir


@pytest.fixture(name="model", scope="module")
def _model(workdir, mesh):
  return trained.load(workdir, mesh)


def _copy_with(workdir, path, edit):
  """A copy of a run whose checkpoint's meta was edited."""
  shutil.copytree(workdir, path)
  (file,) = path.glob(f"checkpoints/{STEPS}/meta/metadata")
  meta = json.loads(file.read_text())
  edit(meta)
  file.write_text(json.dumps(meta))
  return path


def test_parameters_are_those_of_the_last_step(workdir, model):
  final = json.loads((workdir / "final.json").read_text())
  assert model.step == final["step"] == STEPS
  assert loop.digest(model.params) == final["params_sha256"]


def test_an_older_step_can_be_asked_for(workdir, mesh, model):
  older = trained.load(workdir, mesh, step=STEPS // 2)
  assert older.step == STEPS // 2
  assert loop.digest(older.params) != loop.digest(model.params)


def test_no_data_set_is_needed(workdir, mesh, tmp_path, config):
  def forget(meta):
    meta["config"]["data"]["root"] = str(tmp_path / "nowhere")
  moved = trained.load(_copy_with(workdir, tmp_path / "run", forget), mesh)
  assert moved.config.vision == config.vision
  assert moved.contract.shape == config.vision.volume_shape


def test_pair_probability_is_the_sigmoid_of_the_objective(model):
  scale, bias = model.encoder.model.apply(
      {"params": model.params},
      method=lambda m: (jax.numpy.exp(m.log_scale), m.bias))
  cosine = np.array([-0.5, 0.0, 0.7])
  np.testing.assert_allclose(
      model.pair_probability(cosine),
      jax.nn.sigmoid(scale * cosine + bias),
      rtol=1e-5)  # float32


def test_a_folder_without_checkpoints_is_one_sentence(tmp_path, mesh):
  with pytest.raises(ValueError, match="There is no checkpoint in .*; name a"):
    trained.load(tmp_path, mesh)
  assert not list(tmp_path.iterdir())  # nor is one made there


@pytest.mark.parametrize("section, changes, error", [
    ("vision", {"depth": 3}, r"want vision/.* stored not at all"),
    ("text", {"mlp_width": 48}, r"want text_tower/.* 48\), stored \(.*\)"),
    ("loss", {"gain": 1}, "of another software version: Unknown")])
def test_a_model_that_differs_is_refused(
    workdir, mesh, tmp_path, section, changes, error):
  run = _copy_with(workdir, tmp_path / "run",
                   lambda meta: meta["config"][section].update(changes))
  with pytest.raises(ValueError, match=error):
    trained.load(run, mesh)


def test_another_vocabulary_is_refused(workdir, mesh, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(workdir, run)
  vocabulary = run / "tokenizer.json"
  vocabulary.write_text(vocabulary.read_text() + "\n")
  with pytest.raises(ValueError, match="trained with another vocabulary than"):
    trained.load(run, mesh)


def test_an_unknown_contract_is_refused(workdir, mesh, tmp_path, model):
  def renew(meta):
    meta["contract"] = dataclasses.asdict(model.contract) | {
        "schema_version": 99}
  run = _copy_with(workdir, tmp_path / "run", renew)
  with pytest.raises(ValueError, match="has record schema 99"):
    trained.load(run, mesh)
