"""Whole runs: interrupted, resumed, refused, on other devices, measured."""

import dataclasses
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import report
from itemclip_jax.train import checkpoint, evaluate, loop, setup
from tests.train.conftest import SAVE_EVERY, STEPS
from tests.train.runs import assert_same_bytes, checkpoints, metrics, read


def record_writes(monkeypatch, before=lambda workdir, step: None) -> list[int]:
  """Steps that are logged from now on; `before` may raise."""
  steps = []

  class Recorder(loop.writer_lib.Writer):
    def __init__(self, workdir, step):
      super().__init__(workdir, step)
      self._workdir = workdir

    def __call__(self, step, metrics, timing=None):
      if timing:  # no validation line
        before(self._workdir, step)
        steps.append(step)
      super().__call__(step, metrics, timing)

  monkeypatch.setattr(loop.writer_lib, "Writer", Recorder)
  return steps


class Interrupted(Exception):
  """Stands for whatever ends a process."""


def interrupt(workdir: pathlib.Path, step: int):
  """Ends the run behind the first save, once that is on disk."""
  if step < SAVE_EVERY + 1:
    return
  for _ in range(200):  # saved in the background: at most 10 s
    if (workdir / "checkpoints" / str(SAVE_EVERY)).exists():
      raise Interrupted
    time.sleep(0.05)


def test_a_run_leaves_what_is_promised(straight):
  final = read(straight, "final.json")
  assert set(final) == {"step", "loss", "params_sha256", "opt_state_sha256"}
  assert final["step"] == STEPS and np.isfinite(final["loss"])
  losses = metrics(straight)
  assert list(losses) == list(range(STEPS))
  assert losses[STEPS - 1] == final["loss"]
  assert list(metrics(straight, "valid/loss/total")) == [SAVE_EVERY, STEPS]
  assert checkpoints(straight) == [SAVE_EVERY, STEPS]
  assert read(straight, "config.json")["train"]["steps"] == STEPS


def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    straight, config, mesh, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    steps = record_writes(patch, interrupt)
    with pytest.raises(Interrupted):
      loop.train(config, mesh, tmp_path)
  assert steps == list(range(SAVE_EVERY + 1))
  assert not (tmp_path / "final.json").exists()

  steps = record_writes(monkeypatch)
  loop.train(config, mesh, tmp_path)
  assert steps == list(range(SAVE_EVERY, STEPS))  # not from the start
  assert read(tmp_path, "final.json") == read(straight, "final.json")
  assert_same_bytes(tmp_path, straight, "metrics.jsonl")


def test_going_on_elsewhere_continues_with_the_same_samples(
    straight, config, tmp_path, monkeypatch):
  """On other devices, with another number of loader threads."""
  seen, real = [], loop.loader.train_loader

  def recorded(*args, **kwargs):
    for batch in real(*args, **kwargs):
      seen.append({k: hash(v.tobytes()) for k, v in batch.items()})
      yield batch

  monkeypatch.setattr(loop.loader, "train_loader", recorded)
  shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
  shutil.copy(straight / "tokenizer.json", tmp_path)
  shutil.rmtree(tmp_path / "checkpoints" / str(STEPS))
  other = dataclasses.replace(
      config, data=dataclasses.replace(config.data, num_threads=1))
  loop.train(other, make_mesh(2, 2, jax.devices()[:4]), tmp_path)
  resumed, seen[:] = list(seen), []
  whole = setup.make_run(config, make_mesh(1, 1, jax.devices()[:1]), straight,
                         training=True)
  list(recorded(whole.split, whole.make_example, steps=STEPS))
  assert resumed == seen[SAVE_EVERY:]


def test_a_finished_run_is_left_as_it_is(straight, config, mesh, monkeypatch):
  before = (straight / "final.json").read_bytes(), metrics(straight)
  steps = record_writes(monkeypatch)
  again = loop.train(config, mesh, straight)
  assert not steps and again["step"] == STEPS
  assert ((straight / "final.json").read_bytes(), metrics(straight)) == before


def test_a_run_of_other_settings_is_refused_in_the_same_directory(
    straight, config, mesh):
  other = dataclasses.replace(
      config, seed=1, loss=dataclasses.replace(config.loss, kta_rate=0.1))
  with pytest.raises(ValueError, match=(
      "holds a run with other settings: loss.kta_rate was "
      f"{config.loss.kta_rate}, is 0.1; seed was 0, is 1. Choose another "
      "--workdir")):
    loop.train(other, mesh, straight)


def test_what_changes_no_number_may_change_between_two_starts(
    straight, config, mesh):
  other = dataclasses.replace(
      config, train=dataclasses.replace(config.train, log_every=3),
      data=dataclasses.replace(config.data, num_threads=1))
  assert loop.train(other, mesh, straight)["step"] == STEPS


def test_a_state_that_is_not_finite_is_never_saved(
    config, mesh, tmp_path, monkeypatch):
  make = loop.jit_step

  def poisoned(run, state):
    step_fn = make(run, state)
    def step(state, batch):
      state, found = step_fn(state, batch)
      return state.replace(
          bad_step=jnp.where(state.step < 2, -1, 1)), found
    return step

  monkeypatch.setattr(loop, "jit_step", poisoned)
  with pytest.raises(FloatingPointError, match="of step 1 was not finite"):
    loop.train(config, mesh, tmp_path)
  assert not checkpoints(tmp_path)
  assert not (tmp_path / "final.json").exists()


def test_four_devices_train_as_one_does(straight, config, mesh, tmp_path):
  four = make_mesh(2, 2, jax.devices()[:4])
  loop.train(config, four, tmp_path)
  losses = lambda workdir: list(metrics(workdir).values())
  # float32: the mean over devices adds up in another order.
  np.testing.assert_allclose(losses(tmp_path), losses(straight), rtol=1e-5)
  states = []
  for workdir in (tmp_path, straight):  # both are read on one device
    run = setup.make_run(config, mesh, workdir, training=True)
    stored = checkpoint.Checkpoints(workdir)
    states.append(stored.restore(STEPS, run.abstract_state(), mesh))
    stored.close()
  for (path, ours), theirs in zip(
      jax.tree_util.tree_leaves_with_path(states[0].params),
      jax.tree.leaves(states[1].params)):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    # AdamW blows rounding up where a gradient is small. The softmax does not
    # see a key's bias: there the gradient is nothing but rounding.
    if not name.endswith("attention/key/bias"):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5,
                                 err_msg=name)


@dataclasses.dataclass
class State:
  """As much of a train state as the loop itself reads."""
  step: int
  bad_step: int = -1


def test_the_order_of_events_is_save_fetch_update_log():
  events = []

  def data():
    for n in range(10):
      events.append(f"fetch {n}")
      yield n

  def step_fn(state, batch):
    events.append(f"update {batch}")
    return State(state.step + 1), {"loss/total": np.float32(batch)}

  state, last = loop.run_steps(
      State(0), data(), step_fn, put=lambda x: x, total_steps=3, log_every=2,
      save_every=2, writer=lambda step, *_: events.append(f"log {step}"),
      save=lambda step, state, due: events.append(f"save {step}={state.step}"),
      studies_of=lambda step: [])
  assert state.step == 3 and last["loss/total"] == 2.0
  assert events == [
      "fetch 0", "update 0", "log 0", "fetch 1", "update 1", "save 2=2",
      "fetch 2", "update 2", "log 2", "save 3=3"]


@pytest.mark.parametrize("log_every, save_every", [(2, 100), (100, 2)])
def test_what_is_not_finite_ends_the_run_with_its_step(log_every, save_every):
  """At the next log or save, whichever comes first; neither happens."""
  def step_fn(state, batch):
    bad = 5 if batch == 5 or state.bad_step >= 0 else -1
    return State(state.step + 1, bad), {"loss/total": np.float32(1)}

  with pytest.raises(FloatingPointError, match=(
      "of step 5 was not finite, with the studies s5, t5; nothing of it")):
    loop.run_steps(
        State(5), iter(range(5, 20)), step_fn, put=lambda x: x,
        total_steps=19, log_every=log_every, save_every=save_every,
        writer=None, save=None, studies_of=lambda step: [f"s{step}",
                                                         f"t{step}"])


def test_an_interruption_saves_between_two_steps():
  saved = []
  with pytest.raises(loop.Interrupted, match="asked before step 3 of 9"):
    loop.run_steps(
        State(0), iter(range(9)),
        lambda state, _: (State(state.step + 1), {"loss/total": 1.0}),
        put=lambda x: x, total_steps=9, log_every=1, save_every=2,
        writer=lambda *_: None,
        save=lambda step, state, due: saved.append((step, state.step, due)),
        studies_of=None, interrupted=lambda step: step == 3)
  assert saved == [(2, 2, True), (3, 3, False)]


def test_the_whole_path_ends_in_a_report(straight, config, mesh):
  evaluate.evaluate(config, mesh, straight)
  results = read(straight, "results.json")
  assert {"zeroshot_auc/mean_tcsim", "zeroshot_auc/mean_global",
          "zeroshot_auc/mean_untrained", "pointing/top1", "pointing/chance",
          "pointing/untrained", "pointing/series_top1",
          "segmentation/iou"} <= results.keys()
  about = results.pop("about")
  assert about["checkpoint"]["params_sha256"] == read(
      straight, "final.json")["params_sha256"]
  assert about["data"]["studies"] == 10
  for name, entry in results.items():
    assert {"value", "ci95", "n"} <= set(entry), name
    assert entry["value"] is None or 0.0 <= entry["value"] <= 1.0
  page = report.build(straight)
  assert page == straight / "report.html"
  assert report.number(results["pointing/chance"]["value"]) in page.read_text()


def test_measuring_without_a_checkpoint_is_told(straight, config, mesh,
                                                tmp_path):
  (tmp_path / "tokenizer.json").write_bytes(
      (straight / "tokenizer.json").read_bytes())
  with pytest.raises(ValueError, match="no latest checkpoint .* train first"):
    evaluate.evaluate(config, mesh, tmp_path)
