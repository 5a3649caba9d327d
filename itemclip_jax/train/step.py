"""One training step, as a pure function."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import optax

from itemclip_jax.ops.intensity import standardise
from itemclip_jax.train.optimizer import clamp_scale


@flax.struct.dataclass
class TrainState:
  """All that a step reads and writes; exactly what a checkpoint holds.

  step: [] int32; finite: [] bool, False once any loss or gradient was not;
  extra: state of the objective beyond the model.
  """
  step: jax.Array
  finite: jax.Array
  params: dict
  opt_state: optax.OptState
  extra: dict


def make_train_step(model, objective, tx, *, window, dtype):
  """Returns `step(state, batch, key) -> (state, metrics)`.

  The same function is jitted by the loop and called un-jitted by the tests.

  Args:
    model: a `DualEncoder`.
    objective: see `objectives`.
    tx: the optimiser.
    window: (low, high) of the stored intensities.
    dtype: of the standardised volume.
  """
  def step(state: TrainState, batch: dict, key: jax.Array):
    key = jax.random.fold_in(key, state.step)
    batch = batch | {"volume": standardise(batch["volume"], *window, dtype)}

    def loss_fn(params):
      encode = functools.partial(model.apply, {"params": params}, train=True,
                                 rngs={"dropout": key})
      views = objective.views(batch, step=state.step, rng=key)
      outputs = tuple(encode(view) for view in views)
      return objective.loss(outputs, params, batch, step=state.step, rng=key)

    grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = clamp_scale(optax.apply_updates(state.params, updates))
    norm = optax.tree.norm(grads)
    metrics |= {"norm/grads": norm, "norm/updates": optax.tree.norm(updates)}
    finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss/total"])
    return state.replace(step=state.step + 1, finite=state.finite & finite,
                         params=params, opt_state=opt_state), metrics

  return step


def init_state(model, objective, tx, example: dict, seed: int) -> TrainState:
  """The state before the first step; a pure function of the seed."""
  params = model.init({"params": jax.random.key(seed)}, example)["params"]
  return TrainState(step=jnp.zeros((), jnp.int32), finite=jnp.ones((), bool),
                    params=params, opt_state=tx.init(params),
                    extra=objective.init_extra())
