"""Micro-batches change memory and time, and no number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.parallel import sharding
from itemclip_jax.train import optimizer
from itemclip_jax.train import step as step_lib
from tests import tiny

# float64, for the gradient of a class token is the small sum of large numbers.
CLOSE = dict(rtol=1e-8, atol=1e-12)


@jax.enable_x64(True)
def stepped(count: int, objective: str = "itemized_clip", mesh=None, **more):
  """State after one step of 8 studies, and its metrics."""
  config = tiny.config(**more)
  config = dataclasses.replace(config, objective=objective)
  tx = optimizer.make_optimizer(config, 10)
  model, made = tiny.model(config), objectives.make(config, jnp.float64)
  state = step_lib.init_state(model, made, tx, tiny.init_example(config), 0)
  state = jax.tree.map(
      lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
  step = step_lib.make_train_step(model, made, tx, window=(0.0, 255.0),
                                  dtype=jnp.float64, unknown_id=1,
                                  micro_batches=count)
  batch = tiny.batch(config, size=8)
  if mesh is None:
    return jax.jit(step)(state, batch, jax.random.key(0))
  batch = jax.device_put(batch, sharding.batch_sharding(mesh))
  with jax.set_mesh(mesh):
    return jax.jit(step)(state, batch, jax.random.key(0))


def compare(ours, theirs):
  """Metrics, and the optimiser's first moments: a tenth of the gradients."""
  for name, value in theirs[1].items():
    np.testing.assert_allclose(ours[1][name], value, err_msg=name, **CLOSE)
  jax.tree.map(functools.partial(np.testing.assert_allclose, **CLOSE),
               ours[0].opt_state, theirs[0].opt_state)


@pytest.mark.parametrize("count", [2, 8])
def test_micro_batches_equal_one_big_batch(count):
  compare(stepped(count), stepped(1))


def test_micro_batches_equal_one_big_batch_on_several_devices():
  compare(stepped(2, mesh=mesh_lib.make_mesh(4, 1, jax.devices()[:4])),
          stepped(1))


@pytest.mark.parametrize("objective", ["clip", "flair"])
def test_micro_batches_serve_other_objectives(objective):
  more = {} if objective == "flair" else {
      "text": {"form": "report", "max_items": 1}}
  compare(stepped(2, objective, **more), stepped(1, objective, **more))


def test_rows_of_a_device_stay_on_it():
  """8 rows on 4 devices of 2: every micro-batch of 4 has one of each."""
  parts = sharding.split_rows(np.arange(8), 2)
  np.testing.assert_array_equal(parts, [[0, 2, 4, 6], [1, 3, 5, 7]])
  np.testing.assert_array_equal(sharding.join_rows(parts), np.arange(8))


def test_a_batch_that_does_not_split_is_refused():
  with pytest.raises(UserError, match="micro_batches=3 does not divide"):
    schema.from_config_dict(_raw(3))


def _raw(count: int):
  raw = schema.defaults()
  raw.train.update(global_batch=8, micro_batches=count)
  return raw
