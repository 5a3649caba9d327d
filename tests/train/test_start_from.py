"""A run that starts from a finished model takes all of it but the optimiser."""

import dataclasses
import shutil

import jax
import pytest

from itemclip_jax.tools import release
from itemclip_jax.train import loop, setup, trained
from itemclip_jax.train.checkpoint import Checkpoints
from tests.train import runs
from tests.train.conftest import STEPS


@pytest.fixture(name="folder", scope="module")
def _folder(straight, tmp_path_factory):
  folder = tmp_path_factory.mktemp("released") / "model"
  release.release(straight, folder)
  return folder


def _from(config, start, **text):
  return dataclasses.replace(
      config, seed=7, text=dataclasses.replace(config.text, **text),
      train=dataclasses.replace(config.train, start_from=str(start)))


def _begin(config, mesh, workdir):
  origin = trained.origin(config, mesh, workdir)
  run = setup.make_run(config, mesh, workdir, training=True, origin=origin)
  with Checkpoints(workdir) as checkpoints:
    return run, loop.start(run, checkpoints, origin)


@pytest.mark.parametrize("kind", ["run", "release"])
def test_it_has_the_parameters_and_the_vocabulary_of_the_model(
    config, mesh, straight, folder, tmp_path, kind):
  start = {"run": straight, "release": folder}[kind]
  run, state = _begin(_from(config, start), mesh, tmp_path / "run")
  final = runs.read(straight, "final.json")
  assert loop.digest(state.params) == final["params_sha256"]
  runs.assert_same_bytes(tmp_path / "run", straight, "tokenizer.json")
  assert int(state.step) == 0
  fresh = run.init()
  assert loop.digest(state.opt_state) == loop.digest(fresh.opt_state)
  kinds = lambda tree: jax.tree.map(lambda x: (x.dtype, x.shape, x.sharding),
                                    tree)
  assert kinds(state) == kinds(fresh)
  assert loop.digest(fresh.params) != final["params_sha256"]


def test_it_trains_and_goes_on_without_the_model(
    config, mesh, folder, straight, tmp_path):
  start = tmp_path / "model"
  shutil.copytree(folder, start)
  # The same seed, so the same first studies as in the other run.
  settings = dataclasses.replace(_from(config, start), seed=config.seed)
  loop.train(settings, mesh, tmp_path / "run")
  losses = [runs.metrics(w) for w in (tmp_path / "run", straight)]
  assert losses[0][0] < losses[1][0]  # the other began untrained
  shutil.rmtree(start)
  gone = dataclasses.replace(_from(config, "gone"), seed=config.seed)
  again = loop.train(gone, mesh, tmp_path / "run")
  assert again["step"] == STEPS


def test_a_given_vocabulary_must_be_the_same(
    config, mesh, folder, tmp_path):
  given = tmp_path / "words.json"
  shutil.copyfile(folder / "tokenizer.json", given)
  run, _ = _begin(_from(config, folder, vocabulary=str(given)), mesh,
                  tmp_path / "run")
  assert run.make_example.tokenize.sha256
  assert not (tmp_path / "run" / "tokenizer.json").exists()
  given.write_text(given.read_text() + "\n")
  with pytest.raises(ValueError, match="another voc.*leave text.vocabulary em"):
    _begin(_from(config, folder, vocabulary=str(given)), mesh,
           tmp_path / "other")


@pytest.mark.parametrize("section, changes, message", [
    ("joint", {"num_heads": 2}, r"start_from=.* is another one: joint.nu"),
    ("train", {"start_from": "nowhere"}, "train.start_from: There is no")])
def test_what_does_not_fit_is_refused_before_anything_is_written(
    config, mesh, folder, tmp_path, section, changes, message):
  wrong = _from(config, folder)
  wrong = dataclasses.replace(wrong, **{
      section: dataclasses.replace(getattr(wrong, section), **changes)})
  with pytest.raises(ValueError, match=message):
    loop.train(wrong, mesh, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_other_volumes_are_refused(config, mesh, folder, tmp_path):
  start = tmp_path / "model"
  shutil.copytree(folder, start)
  path = start / "contract.json"
  path.write_text(path.read_text().replace('"uint8"', '"int16"'))
  with pytest.raises(ValueError, match="preprocessing differs: dtype is"):
    loop.train(_from(config, start), mesh, tmp_path / "run")
