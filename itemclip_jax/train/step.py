"""One training step, as a pure function."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import optax

from itemclip_jax.ops.intensity import standardise
from itemclip_jax.train import micro_batches as micro
from itemclip_jax.train.optimizer import (
    MAX_LOG_SCALE, clamp_scale, hold_frozen)


@flax.struct.dataclass
class TrainState:
  """All that a step reads and writes; exactly what a checkpoint holds.

  step: [] int32; bad_step: [] int32, the first step whose loss, gradients or
  new parameters were not finite, -1 = none; extra: state of the objective
  beyond the model: {}, or {"peer": {"params", "opt_state"}} of a second model
  that is taught in turn. `params` are those that the next step moves.
  """
  step: jax.Array
  bad_step: jax.Array
  params: dict
  opt_state: optax.OptState
  extra: dict

  @property
  def finite(self) -> jax.Array:
    """[] bool; False for ever once a step was bad."""
    return self.bad_step < 0


def make_train_step(model, objective, tx, *, window, dtype, unknown_id,
                    text_frozen=False, micro_batches=1):
  """Returns `step(state, batch, key) -> (state, metrics)`.

  The same function is jitted by the loop and called un-jitted by the tests.

  Args:
    model: a `DualEncoder`.
    objective: see `objectives`.
    tx: the optimiser.
    window: an `ops.intensity.Window`.
    dtype: of the standardised volume.
    unknown_id: word piece of what the vocabulary does not know.
    text_frozen: the optimiser leaves the text tower alone; no gradients of it.
    micro_batches: parts of a batch that the towers see one after another.
  """
  hold = functools.partial(hold_frozen, text_frozen=text_frozen)
  limits = getattr(objective, "log_scale_range", (0.0, MAX_LOG_SCALE))

  def step(state: TrainState, batch: dict, key: jax.Array):
    key = jax.random.fold_in(key, state.step)
    batch = batch | {
        "volume": standardise(batch["volume"], *window, dtype=dtype)}

    peer = state.extra.get("peer")
    grads, metrics = _gradients(
        model, objective, state.params, batch, state.step, key,
        peer=peer and peer["params"], hold=hold, count=micro_batches)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = clamp_scale(optax.apply_updates(state.params, updates), limits)
    norms = _norms(grads) | {"norm/updates": optax.tree.norm(updates),
                             "norm/params": optax.tree.norm(params)}
    finite = jnp.isfinite(jnp.stack(
        [metrics["loss/total"], *norms.values()])).all()
    bad = jnp.where(finite, -1, state.step)
    metrics |= norms | {"text/unknown_rate": unknown_rate(batch, unknown_id)}
    state = state.replace(
        step=state.step + 1, params=params, opt_state=opt_state,
        bad_step=jnp.where(state.finite, bad, state.bad_step))
    return (_swapped(state) if peer else state), metrics

  return step


def make_valid_step(model, objective, *, window, dtype):
  """Returns `step(params, batch, key) -> metrics`: the loss, nothing moves."""
  def step(params: dict, batch: dict, key: jax.Array):
    batch = batch | {
        "volume": standardise(batch["volume"], *window, dtype=dtype)}
    return _loss(model, objective, params, batch, 0, key, train=False)[1]

  return step


def _gradients(model, objective, params, batch, step, key, *, peer, hold,
               count):
  """Of all parameters but those that `hold` stops; metrics of the loss."""
  if count == 1:
    return jax.grad(
        lambda p: _loss(model, objective, hold(p), batch, step, key,
                        train=True, peer=peer), has_aux=True)(params)

  def encode(params, views, key):
    return _encode(model, hold(params), views, key, train=True)

  views = objective.views(batch, step=step, rng=key)
  if peer is not None:
    batch = batch | {"peer": micro.encoded(
        lambda part, _: _encode(model, peer, part, key, train=False),
        views, key, count=count)}
  return micro.gradients(
      encode, lambda outputs, p: objective.loss(
          outputs, hold(p), batch, step=step, rng=key),
      params, views, key, count=count)


def _encode(model, params, views, key, *, train: bool) -> tuple:
  """Outputs of every view."""
  return tuple(model.apply({"params": params}, view, train=train,
                           rngs={"dropout": key}) for view in views)


def _loss(model, objective, params, batch, step, key, *, train: bool,
          peer=None):
  """Encodes what the objective wants to see and hands it over.

  What the second model of parameters `peer` sees is `batch["peer"]`.
  """
  views = objective.views(batch, step=step, rng=key)
  outputs = _encode(model, params, views, key, train=train)
  if peer is not None:
    batch = batch | {"peer": jax.lax.stop_gradient(
        _encode(model, peer, views, key, train=False))}
  return objective.loss(outputs, params, batch, step=step, rng=key)


def _swapped(state: TrainState) -> TrainState:
  """The two models change places: the other one is taught next."""
  peer = state.extra["peer"]
  return state.replace(
      params=peer["params"], opt_state=peer["opt_state"],
      extra=state.extra | {"peer": {"params": state.params,
                                    "opt_state": state.opt_state}})


def _norms(grads: dict) -> dict[str, jax.Array]:
  """Of all gradients, and of those of every part of the model."""
  parts = {f"norm/grads/{name}": optax.tree.norm(part)
           for name, part in grads.items() if isinstance(part, dict)}
  return {"norm/grads": optax.tree.norm(grads)} | parts


def unknown_rate(batch: dict, unknown_id: int) -> jax.Array:
  """Share of [UNK] among the word pieces of the real items."""
  ids = batch["item_tokens"]                                   # [B, K, T]
  real = batch["item_mask"][..., None] & (ids != 0)
  return jnp.sum((ids == unknown_id) & real) / jnp.maximum(real.sum(), 1)


def init_state(model, objective, tx, example: dict, seed: int) -> TrainState:
  """The state before the first step; a pure function of the seed."""
  def make(number: int) -> dict:
    key = jax.random.key(seed)
    if number:                 # another model than the first
      key = jax.random.fold_in(key, number)
    params = model.init({"params": key}, example)["params"]
    return {"params": params, "opt_state": tx.init(params)}

  return TrainState(step=jnp.zeros((), jnp.int32),
                    bad_step=jnp.full((), -1, jnp.int32), **make(0),
                    extra=objective.init_extra(make))
