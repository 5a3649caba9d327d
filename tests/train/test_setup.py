"""What does not fit together is refused before anything is compiled."""

import dataclasses
import json
import math

import pytest

from itemclip_jax.ops import intensity
from itemclip_jax.train import settings, setup
from tests.train import runs
from tests.train.conftest import STEPS


@pytest.fixture(name="run", scope="module")
def _run(config, mesh, tmp_path_factory):
  return setup.make_run(config, mesh, tmp_path_factory.mktemp("run"),
                        training=True)


def _meta(run) -> dict:
  """As a checkpoint gives it back: through JSON."""
  return json.loads(json.dumps({"config": dataclasses.asdict(run.config),
                                "data": run.position(STEPS),
                                "contract": run.contract.to_dict()}))


def test_voxels_are_standardised_as_their_modality_wants(run):
  window = lambda **changes: setup.intensity_window(
      dataclasses.replace(run.contract, **changes))
  assert window() == (0.0, 255.0, 0.449, 0.226)
  assert window(modality="CT", window=(-400.0, 1500.0)) == (
      -1150.0, 350.0, 0.449, 0.226)
  assert window(modality="RGB") == intensity.RGB


def test_its_own_checkpoint_fits(run):
  setup.require_fit(run, _meta(run), STEPS)


def test_a_checkpoint_of_another_model_is_refused(run):
  meta = _meta(run)
  meta["config"]["vision"]["width"] = 96
  with pytest.raises(ValueError, match=(
      "of another model: vision.width was 96, is ")):
    setup.require_fit(run, meta, STEPS)


def test_an_older_checkpoint_has_the_defaults_of_what_it_lacks(run):
  meta = _meta(run)
  del meta["config"]["vision"]["tower"], meta["config"]["train"]["start_from"]
  setup.require_fit(run, meta, STEPS)
  del meta["config"]["vision"]["depth"]  # 2 in this run, by default 12
  with pytest.raises(ValueError, match="another model: vision.depth was 12, i"):
    setup.require_fit(run, meta, STEPS)


def _with(config, **values):
  """The config with settings such as text_pretrained="x" changed."""
  for name, value in values.items():
    section, _, key = name.partition("_")
    config = dataclasses.replace(config, **{section: dataclasses.replace(
        getattr(config, section), **{key: value})})
  return config


def test_where_a_run_began_is_no_other_model(run):
  moved = _with(run.config, text_pretrained="a", vision_pretrained="b",
                text_vocabulary="c", train_start_from="d")
  setup.require_fit(dataclasses.replace(run, config=moved), _meta(run), STEPS)
  settings.claim(run.workdir, moved)
  assert runs.read(run.workdir, "config.json")["text"]["pretrained"] == "a"
  settings.claim(run.workdir, run.config)


def test_how_a_model_is_computed_may_change_when_it_goes_on(run):
  """Where memory runs out, a run goes on with less of it."""
  leaner = _with(run.config, vision_remat="block", vision_remat_keeps=("qkv",),
                 vision_scan=True, text_scan=True, text_remat="block",
                 train_micro_batches=2, loss_block=3)
  leaner = dataclasses.replace(leaner, attention="chunked")
  setup.require_fit(dataclasses.replace(run, config=leaner), _meta(run), STEPS)
  settings.claim(run.workdir, leaner)
  settings.claim(run.workdir, run.config)


def test_a_directory_of_an_older_version_goes_on(run):
  path = run.workdir / "config.json"
  stored = runs.read(run.workdir, "config.json")
  del stored["loss"]["uwp_factor"]  # at its default in this run
  path.write_text(json.dumps(stored))
  settings.claim(run.workdir, run.config)
  assert runs.read(run.workdir, "config.json")["loss"]["uwp_factor"] == 1.5
  with pytest.raises(ValueError, match="settings: loss.uwp_factor was 1.5"):
    settings.claim(run.workdir, _with(run.config, loss_uwp_factor=2.0))


def test_a_checkpoint_of_other_volumes_is_refused(run):
  meta = _meta(run)
  meta["contract"]["intensity"] = "something else"
  with pytest.raises(ValueError, match="preprocessing differs: intensity is"):
    setup.require_fit(run, meta, STEPS)


def test_a_checkpoint_of_another_vocabulary_is_refused(run):
  meta = _meta(run)
  meta["data"]["vocabulary_sha256"] = "other"
  with pytest.raises(ValueError, match="trained with another vocabulary than"):
    setup.require_fit(run, meta, STEPS)


def test_going_on_with_other_studies_is_refused(run):
  setup.require_same_data(run, _meta(run), STEPS)
  meta = _meta(run)
  meta["data"]["studies_sha256"] = "other"
  with pytest.raises(ValueError, match="holds other training studies than"):
    setup.require_same_data(run, meta, STEPS)


def test_no_data_folder_is_one_sentence(config, mesh, tmp_path):
  nowhere = dataclasses.replace(
      config, data=dataclasses.replace(config.data, root=""))
  with pytest.raises(ValueError, match="data.root is empty; set"):
    setup.make_run(nowhere, mesh, tmp_path, training=True)


def test_an_objective_says_what_the_batch_lacks(run, config):
  with pytest.raises(ValueError, match="needs .'normal'., which the data set"):
    setup.require_keys(run.objective, {
        k: 0 for k in run.objective.REQUIRES if k != "normal"}, config)


def test_prior_is_the_log_odds_of_a_positive_pair(config):
  batch = config.train.global_batch
  # Two items a study against one drawn from each of the others.
  assert setup.prior_bias(config, [2, 2]) == pytest.approx(
      math.log(2 / (batch - 1)))
