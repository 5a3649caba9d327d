"""Learning rate, decay, what never moves, and the limit of the scale."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from itemclip_jax.config import schema
from itemclip_jax.train import optimizer
from tests import tiny

BASE, WARMUP, TOTAL = 2e-3, 4, 12


@pytest.mark.parametrize("step, rate", [
    (0, BASE / 4), (1, BASE / 2), (3, BASE), (4, BASE), (8, BASE / 2),
    (6, BASE * (1 + math.cos(math.pi / 4)) / 2), (12, 0.0)])
def test_schedule_warms_up_and_falls_to_zero(step, rate):
  value = optimizer.schedule(BASE, WARMUP, TOTAL)(step)
  np.testing.assert_allclose(value, rate, atol=1e-9)  # float32 of 2e-3


@pytest.mark.parametrize("warmup, total", [(0, 5), (5, 5), (10, 5)])
def test_odd_schedules_stay_finite(warmup, total):
  rates = [float(optimizer.schedule(BASE, warmup, total)(s)) for s in range(6)]
  assert np.isfinite(rates).all() and 0 <= min(rates)
  assert max(rates) <= BASE * (1 + 1e-6)  # float32


@pytest.mark.parametrize("step", range(13))
def test_restarts_are_those_of_torch(step):
  """Torch's rate falls over T_0 = 4 steps and then starts anew."""
  rate = optimizer.schedule(BASE, 0, TOTAL, cycles=3, least=1e-4)
  theirs = 1e-4 + (BASE - 1e-4) * (1 + math.cos(math.pi * (step % 4) / 4)) / 2
  np.testing.assert_allclose(rate(step), theirs, rtol=1e-6)  # float32


def test_one_cycle_ends_at_the_least_rate():
  rate = optimizer.schedule(BASE, WARMUP, TOTAL, least=1e-4)
  np.testing.assert_allclose(rate(TOTAL), 1e-4, rtol=1e-6)   # float32
  np.testing.assert_allclose(rate(WARMUP), BASE, rtol=1e-6)


@pytest.mark.parametrize("path, ndim, frozen_text, expected", [
    ("vision/block0/mlp/fc1/kernel", 2, False, "decay"),
    ("vision/block0/mlp/fc1/bias", 1, False, "no_decay"),
    ("vision/block0/attention/query/bias", 2, False, "no_decay"),
    ("vision/block0/norm1/scale", 1, False, "no_decay"),
    ("item_attention/ln_query/scale", 1, False, "no_decay"),
    ("text_tower/word/embedding", 2, False, "decay"),
    ("vision/cls_token", 3, False, "decay"),
    ("logit_scale", 0, False, "no_decay"),
    ("logit_bias", 0, False, "no_decay"),
    ("vision/spatial_position", 4, False, "frozen"),
    ("text_tower/layer0_mlp/fc1/kernel", 2, True, "frozen"),
    ("text_tower/layer0_norm1/scale", 1, True, "no_decay"),
    ("text_proj/kernel", 2, True, "decay"),
])
def test_matrices_decay_and_the_rest_does_not(
    path, ndim, frozen_text, expected):
  assert optimizer.label(path, ndim, frozen_text) == expected


def _config(decay: float, **text) -> schema.Config:
  c = tiny.config(text=text) if text else tiny.config()
  return dataclasses.replace(
      c, optimizer=schema.Optimizer(learning_rate=BASE, weight_decay=decay),
      train=dataclasses.replace(c.train, warmup_steps=1))


PARAMS = {
    "vision": {"patch": {"kernel": jnp.full((2, 2), 3.0),
                         "bias": jnp.full((2,), 3.0)},
               "spatial_position": jnp.full((1, 1, 1, 6), 3.0)},
    "text_tower": {"word": {"embedding": jnp.full((3, 2), 3.0)},
                   "norm": {"scale": jnp.full((2,), 3.0)}},
    "logit_scale": jnp.asarray(3.0)}


def _update(config, gradient: float):
  tx = optimizer.make_optimizer(config, total_steps=10)
  grads = jax.tree.map(lambda x: jnp.full_like(x, gradient), PARAMS)
  updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  return optax.apply_updates(PARAMS, updates)


def test_without_a_gradient_only_matrices_shrink():
  new = _update(_config(decay=0.5), 0.0)
  shrunk = 3.0 * (1 - BASE * 0.5)
  for x in (new["vision"]["patch"]["kernel"],
            new["text_tower"]["word"]["embedding"]):
    np.testing.assert_allclose(x, shrunk, rtol=1e-6)  # float32
  for x in (new["vision"]["patch"]["bias"], new["logit_scale"],
            new["vision"]["spatial_position"],
            new["text_tower"]["norm"]["scale"]):
    np.testing.assert_array_equal(x, 3.0)


def test_sgd_steps_along_the_gradient_and_its_decay():
  config = _config(decay=0.5)
  config = dataclasses.replace(config, optimizer=dataclasses.replace(
      config.optimizer, name="sgd"))
  new = _update(config, 2.0)
  np.testing.assert_allclose(new["vision"]["patch"]["kernel"],
                             3.0 - BASE * (2.0 + 0.5 * 3.0), rtol=1e-6)
  np.testing.assert_allclose(new["vision"]["patch"]["bias"],
                             3.0 - BASE * 2.0, rtol=1e-6)
  np.testing.assert_array_equal(new["vision"]["spatial_position"], 3.0)


@pytest.mark.parametrize("wrong", [
    {"cycles": 0}, {"min_learning_rate": 1.0}, {"min_learning_rate": -1.0}])
def test_an_impossible_schedule_is_told(wrong):
  with pytest.raises(ValueError, match="optimizer.cycles="):
    schema.Optimizer(**wrong)


def test_the_position_table_never_moves_and_the_rest_does():
  new = _update(_config(decay=0.5), 1.0)
  np.testing.assert_array_equal(new["vision"]["spatial_position"], 3.0)
  moved = jax.tree.map(lambda x: bool((x != 3.0).all()), new)
  moved["vision"].pop("spatial_position")
  assert all(jax.tree.leaves(moved))


def test_a_frozen_text_tower_keeps_its_matrices():
  new = _update(_config(decay=0.5, frozen=True), 1.0)["text_tower"]
  np.testing.assert_array_equal(new["word"]["embedding"], 3.0)
  assert (new["norm"]["scale"] != 3.0).all()


@pytest.mark.parametrize("value, kept", [
    (-0.1, 0.0), (2.0, 2.0), (7.0, math.log(100))])
def test_the_scale_is_limited_to_one_hundred(value, kept):
  new = optimizer.clamp_scale({"logit_scale": jnp.asarray(value), "x": 7.0})
  np.testing.assert_allclose(new["logit_scale"], kept, rtol=1e-6)  # float32
  assert new["x"] == 7.0


def test_the_processor_of_heatmaps_moves_at_its_own_rate():
  config = tiny.config(
      vision={"tower": "vit", "volume_shape": (3, 32, 32), "patch": (3, 16, 16),
              "series_embedding": "none", "study_blocks": (),
              "heatmap_width": 8}, data={"max_series": 1},
      eclip={"processor_rate": 3.0})
  tx = optimizer.make_optimizer(config, 10)
  params = {"heatmap": {"patch": {"kernel": jnp.ones((2, 2))}},
            "vision": {"patch": {"kernel": jnp.ones((2, 2))}}}
  moved, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_allclose(moved["heatmap"]["patch"]["kernel"],
                             3 * moved["vision"]["patch"]["kernel"], rtol=1e-6)
