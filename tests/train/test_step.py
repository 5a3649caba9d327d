"""One step: what moves, what does not, and what is noticed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.data import loader, record
from itemclip_jax.parallel import multihost
from itemclip_jax.train import loop, optimizer, setup
from itemclip_jax.train import step as step_lib


@pytest.fixture(name="run", scope="module")
def _run(config, mesh, tmp_path_factory):
  return setup.make_run(config, mesh, tmp_path_factory.mktemp("step"),
                        training=True)


@pytest.fixture(name="state", scope="module")
def _state(run):
  return run.init()


@pytest.fixture(name="batch", scope="module")
def _batch(run, config):
  split = record.open_split(config.data.root, "train", ground_truth=False)
  return next(loader.train_loader(split, run.make_example,
                                  steps=run.total_steps))


@pytest.fixture(name="step", scope="module")
def _step(run, state):
  """The loop's step, which may be called on one state again and again."""
  compiled = loop.jit_step(run, state)

  def step(state, batch):
    with jax.set_mesh(run.mesh):
      return compiled(jax.tree.map(jnp.copy, state),
                      multihost.to_global(batch, run.mesh))
  return step


@pytest.fixture(name="after", scope="module")
def _after(step, state, batch):
  return step(state, batch)


def by_path(tree) -> dict[str, np.ndarray]:
  return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
          for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def test_the_step_counts_and_stays_finite(after, config):
  state, metrics = after
  assert int(state.step) == 1 and bool(state.finite)
  assert {"norm/grads", "norm/updates", "logit_scale"} <= metrics.keys()
  assert all(np.isfinite(v) for v in metrics.values())
  weighted = sum(
      getattr(config.loss, f"{name}_weight") * metrics[f"loss/{name}"]
      for name in ("ila", "kta", "iis", "mps"))
  np.testing.assert_allclose(  # float32, a sum of four
      metrics["loss/total"], weighted, rtol=1e-6)


def test_every_parameter_moves_but_the_table(state, after):
  old, new = by_path(state.params), by_path(after[0].params)
  still = {name for name in old if (old[name] == new[name]).all()}
  assert still == {"vision/spatial_position"}


def test_words_that_the_batch_does_not_hold_feel_no_gradient(after, batch):
  (first,) = [x for name, x in by_path(after[0].opt_state).items()
              if name.endswith("mu/text_tower/word/embedding")]
  moved = set(np.flatnonzero(np.abs(first).max(1)).tolist())
  used = set(np.unique(batch["item_tokens"][batch["item_mask"]]).tolist())
  assert moved == used - {0}  # 0 is padding


def test_a_step_is_a_pure_function_of_state_and_batch(
    step, state, batch, after):
  jax.tree.map(np.testing.assert_array_equal, step(state, batch), after)
  later = step(state.replace(step=state.step + 1), batch)[1]
  assert later["loss/ila"] != after[1]["loss/ila"]  # other draws


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_state_that_was_not_finite_once_stays_flagged(
    step, state, batch, poison):
  kernel = state.params["vision_proj"]["kernel"].at[0].set(poison)
  flagged, _ = step(state.replace(
      params=state.params | {"vision_proj": {"kernel": kernel}}), batch)
  assert not flagged.finite
  assert flagged.bad_step == state.step
  healed, metrics = step(state.replace(
      step=state.step + 1, bad_step=flagged.bad_step), batch)
  assert np.isfinite(metrics["loss/total"])
  assert not healed.finite and healed.bad_step == state.step


def test_padded_series_and_items_change_no_loss_and_no_gradient(
    step, state, batch, after):
  volume = np.where(batch["series_mask"][..., None, None, None],
                    batch["volume"], np.uint8(200))
  ids = np.where(batch["item_mask"][..., None], batch["item_tokens"], 7)
  assert (volume != batch["volume"]).any()
  assert (ids != batch["item_tokens"]).any()
  _, metrics = step(state, batch | {"volume": volume, "item_tokens": ids})
  for name in ("loss/total", "norm/grads"):
    np.testing.assert_allclose(  # float32, the same sums
        metrics[name], after[1][name], rtol=1e-6)


def test_a_frozen_text_tower_has_no_gradient(config, mesh, tmp_path):
  """Its LayerNorms move, nothing else of it is worked out."""
  config = dataclasses.replace(
      config, text=dataclasses.replace(config.text, frozen=True))
  run = setup.make_run(config, mesh, tmp_path, training=True)
  params = run.init().params
  split = record.open_split(config.data.root, "train", ground_truth=False)
  batch = next(loader.train_loader(split, run.make_example, steps=1))
  grads, _ = step_lib._gradients(
      run.model, run.objective, params, batch | {
          "volume": batch["volume"].astype(np.float32)}, 0, jax.random.key(0),
      peer=None, count=1,
      hold=lambda p: optimizer.hold_frozen(p, text_frozen=True))
  moved = {name for name, g in by_path(grads).items() if np.abs(g).any()}
  of_text = {name for name in moved if name.startswith("text_tower/")}
  assert of_text and all("norm" in name for name in of_text)
  assert "text_proj/kernel" in moved and "vision/patch/kernel" in moved
