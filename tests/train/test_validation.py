"""Validation with every checkpoint, and the best one."""

import dataclasses
import json
import shutil

import pytest

from itemclip_jax.train import checkpoint, evaluate, loop, setup, validate
from tests.train.conftest import SAVE_EVERY, STEPS
from tests.train.runs import checkpoints, metrics


def test_the_best_checkpoint_can_be_measured(
    straight, config, mesh, tmp_path, capsys):
  """Marks the older checkpoint as the better one."""
  shutil.copytree(straight, tmp_path / "run")
  metric = (tmp_path / "run" / "checkpoints" / str(SAVE_EVERY) / "metrics"
            / "metrics")
  metric.write_text(json.dumps(json.loads(metric.read_text())
                               | {"loss/total": 0.0}))
  for which, step in (("best", SAVE_EVERY), ("latest", STEPS)):
    chosen = dataclasses.replace(config, eval=dataclasses.replace(
        config.eval, checkpoint=which, evaluators=("zeroshot_auc",)))
    evaluate.evaluate(chosen, mesh, tmp_path / "run")
    assert f"Step {step}, 10 studies of split 'test':" in (
        capsys.readouterr().out)


def test_a_metric_that_nobody_measures_is_told_and_nothing_lost(
    config, mesh, tmp_path):
  train = dataclasses.replace(config.train, best_metric="loss/auc")
  with pytest.raises(ValueError, match=(
      "measures .*loss/total.* but not train.best_metric='loss/auc'; name ")):
    loop.train(dataclasses.replace(config, train=train), mesh, tmp_path)
  assert checkpoints(tmp_path) == [SAVE_EVERY]
  loop.train(config, mesh, tmp_path)  # may be mended
  assert checkpoints(tmp_path) == [SAVE_EVERY, STEPS]


def test_validation_is_the_loss_of_the_whole_split(straight, config, mesh):
  """Repeats it by hand from the stored state; 8 studies are one batch."""
  run = setup.make_run(config, mesh, straight, training=True)
  with checkpoint.Checkpoints(straight, read_only=True) as checkpoints:
    state = checkpoints.restore(STEPS, run.abstract_state(), mesh)
  measured = validate.Validation.of(run)(state.params)
  assert measured["loss/total"] == pytest.approx(
      metrics(straight, "valid/loss/total")[STEPS], rel=1e-6)
  s = config.loss
  assert measured["loss/total"] == pytest.approx(
      s.ila_weight * measured["loss/ila"] + s.kta_weight * measured["loss/kta"]
      + s.iis_weight * measured["loss/iis"]
      + s.mps_weight * measured["loss/mps"], rel=1e-5)


def test_a_split_that_fills_no_batch_is_validated_without_its_padding(
    straight, config, mesh):
  """10 studies in batches of 8: the mean counts every study once."""
  data = dataclasses.replace(config.data, valid_split="test")
  run = dataclasses.replace(
      setup.make_run(config, mesh, straight, training=False),
      config=dataclasses.replace(config, data=data))
  validation = validate.Validation.of(run)
  params = run.init().params
  seen = []
  step = validation._step
  validation._step = lambda *args: seen.append(step(*args)) or seen[-1]
  measured = validation(params)
  first, last = (float(x["loss/total"]) for x in seen)
  assert measured["loss/total"] == pytest.approx((8 * first + 2 * last) / 10)
