"""Two models that are taught in turn, each seeing what the other says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from itemclip_jax.ops.intensity import Window
from itemclip_jax.train.step import init_state, make_train_step


class _Model:
  """One number, and what it says."""

  def init(self, keys, example):
    del example
    return {"params": {"logit_scale": jax.random.uniform(keys["params"])}}

  def apply(self, variables, view, *, train=False, rngs=None):
    del view, train, rngs
    return variables["params"]["logit_scale"]


@dataclasses.dataclass(frozen=True)
class _Follow:
  """Each model is drawn to where the other one stands."""

  def views(self, batch, *, step, rng):
    del step, rng
    return (batch,)

  def init_extra(self, make):
    return {"peer": make(1)}

  def loss(self, outputs, params, batch, *, step, rng):
    del params, step, rng
    return (outputs[0] - batch["peer"][0])**2, {
        "loss/total": jnp.zeros(()), "own": outputs[0],
        "peer": batch["peer"][0]}


@pytest.fixture(name="run", scope="module")
def _run():
  objective, tx = _Follow(), optax.sgd(0.1)
  state = init_state(_Model(), objective, tx, {}, seed=3)
  step = jax.jit(make_train_step(
      _Model(), objective, tx, window=Window(0.0, 1.0), dtype=jnp.float32,
      unknown_id=1))
  batch = {"volume": jnp.zeros((1, 1, 1, 1, 1)),
           "item_tokens": jnp.ones((1, 1, 1), jnp.int32),
           "item_mask": jnp.ones((1, 1), bool)}
  states, metrics = [state], []
  for _ in range(4):
    state, said = step(state, batch, jax.random.key(0))
    states.append(state)
    metrics.append(said)
  return states, metrics


def _value(params) -> float:
  return float(params["logit_scale"])


def test_they_begin_apart(run):
  (first, *_), _ = run
  assert _value(first.params) != _value(first.extra["peer"]["params"])


def test_one_moves_and_the_other_rests(run):
  states, metrics = run
  for n, (before, after) in enumerate(zip(states, states[1:])):
    mine, peer = _value(before.params), _value(before.extra["peer"]["params"])
    assert _value(after.params) == peer
    # The gradient does not flow into what the other one says.
    np.testing.assert_allclose(
        _value(after.extra["peer"]["params"]), mine - 0.2 * (mine - peer),
        rtol=1e-6)
    assert float(metrics[n]["own"]) == pytest.approx(mine)
    assert float(metrics[n]["peer"]) == pytest.approx(peer)


def test_after_two_steps_each_stands_where_it_began(run):
  (first, _, second, *_), _ = run
  gap = abs(_value(first.params) - _value(first.extra["peer"]["params"]))
  moved = abs(_value(second.params) - _value(first.params))
  np.testing.assert_allclose(moved, 0.2 * gap, rtol=1e-5)
