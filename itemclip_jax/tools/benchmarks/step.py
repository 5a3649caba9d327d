"""One training step, whole: towers, losses, gradients, update.

    mfu = flops of the model / (seconds x rate of a matrix product)

The step is the loop's own, compiled for the devices that are here, on a batch
that is made up. Its flops are counted by `train.flops` in the same step without
recomputation; the rate is that of the best large product of the same process.
Where the time goes is read from XLA's profiler (`op_times`): `parts` are shares
of the step, `outside_matmul` what each part adds to them by operations that
hold no matrix product, `fused_with_matmul` by those that the compiler does
together with a product, such as a softmax: how much of them is the product is
not known. `parts_mfu` is the same ratio within a part.
"""

import collections
import dataclasses
import pathlib
import time

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.parallel import multihost
from itemclip_jax.tools import command
from itemclip_jax.tools.benchmarks import fresh, op_times
from itemclip_jax.train import flops as flops_lib
from itemclip_jax.train import loop
from itemclip_jax.train.ahead import dataless, parts, schedule

_SIDE = 2048          # of the square matrices whose product gives the rate
_LONGEST = 8          # operations that are named, those of all blocks as one
_KINDS = {"outside_matmul": "other", "fused_with_matmul": "fused"}


def define_flags():
  flags.DEFINE_integer("repeats", 5, "Steps that are timed; the least counts.",
                       lower_bound=1)
  try:
    return config_flags.DEFINE_config_file(
        "config", "configs/chest_ct.py:bench", "File of settings; its data set "
        "need not be there.", lock_config=True)
  # With a default, settings on the command line are looked up here already.
  except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    raise UserError(command.config_fault(error)) from error


def measure() -> dict:
  """By the flags; see the header."""
  return measured(schema.from_config_dict(flags.FLAGS.config),
                  repeats=flags.FLAGS.repeats)


def measured(config: schema.Config, *, repeats: int, side: int = _SIDE) -> dict:
  """What a step of `config` costs here."""
  mesh = mesh_lib.make_mesh(config.mesh.data, config.mesh.fsdp)
  machine = fresh.machine()      # before we load it ourselves
  rate = matmul_rate(side)
  counted, executed = _flops(dataless.plain(config), mesh), _flops(config, mesh)
  with jax.set_mesh(mesh):
    call, program = _compiled(config, mesh)
    call()
    seconds = [_timed(call) for _ in range(repeats)]
    ops = op_times.measure(call, program, repeats=max(1, repeats // 2))
  rate = max(rate, matmul_rate(side))
  total = sum(counted.values())
  return {
      "seconds": min(seconds), "seconds_all": seconds, "flops": total,
      "matmul_gflops": rate / 1e9, "mfu": total / min(seconds) / rate,
      "recomputation": sum(executed.values()) / total,
      **shares(ops, counted, config, rate),
      "profiled_seconds": sum(ops.values()),
      "peak_bytes": fresh.peak_bytes(), "sizes": _sizes(config),
      "device": mesh.devices.flat[0].device_kind, "machine": machine}


def shares(ops: dict[op_times.Op, float], counted: dict[str, int],
           config: schema.Config, rate: float) -> dict:
  """What `op_times.measure` found and `train.flops` counted, by part.

  Args:
    ops: operation -> seconds.
    counted: scope -> flops.
    config: the settings of the model.
    rate: flops a second of a matrix product.
  """
  total = sum(ops.values())
  kinds = collections.defaultdict(collections.Counter)
  for op, seconds in ops.items():
    for kind in ("all", op.kind):
      kinds[kind][parts.part(op.scope, config)] += seconds
  flops = collections.Counter()
  for scope, number in counted.items():
    # As the compiler writes it: behind the function, before the operation.
    flops[parts.part(f"jit(step)/{scope}/dot_general", config)] += number
  outside = collections.Counter()
  for op, seconds in ops.items():
    if op.kind == "other":
      outside[schedule.general(op.scope)] += seconds
  share = lambda found: {name: round(seconds / total, 4)
                         for name, seconds in found.most_common()}
  return {
      "parts": share(kinds["all"]),
      **{name: share(kinds[kind]) for name, kind in _KINDS.items()},
      "outside_matmul_all": round(kinds["other"].total() / total, 4),
      "parts_mfu": {name: round(flops[name] / rate / seconds, 3)
                    for name, seconds in kinds["all"].most_common()
                    if flops[name]},
      "longest_outside": [[scope, round(seconds / total, 4)] for scope, seconds
                          in outside.most_common(_LONGEST)]}


def matmul_rate(side: int) -> float:
  """Flops a second of the best of several products of square matrices."""
  x = jnp.ones((side, side), jnp.float32)
  product = jax.jit(lambda x: x @ x)
  call = lambda: jax.block_until_ready(product(x))
  call()
  return 2 * side**3 / min(_timed(call) for _ in range(8))


def _timed(call) -> float:
  began = time.perf_counter()
  call()
  return time.perf_counter() - began


def _flops(config: schema.Config, mesh) -> dict[str, int]:
  """Of a step, by scope; nothing is allocated."""
  run = dataless.make_run(config, mesh, pathlib.Path())
  state = run.abstract_state()
  with jax.set_mesh(mesh):
    return flops_lib.matmul_flops_by_scope(
        loop.jit_step(run, state), state, dataless.batch(run))


def _compiled(config: schema.Config, mesh):
  """A call that takes the next step and waits for it, and the program's text.

  Its state moves on: the step reuses the memory of the old one.
  """
  run = dataless.make_run(config, mesh, pathlib.Path())
  state, batch = run.init(), _batch(run)
  step = loop.jit_step(run, state).lower(state, batch).compile()

  def call():
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))

  return call, step.as_text()


def _batch(run) -> dict[str, jax.Array]:
  """Random voxels and words; nothing is padding."""
  rng = np.random.default_rng(0)

  def made(name, x):
    if x.dtype == bool:
      return np.full(x.shape, name not in ("normal", "expert"))
    limit = {"volume": 250, "item_tokens": run.config.text.vocab_size}
    return rng.integers(1, limit.get(name, 2), x.shape).astype(x.dtype)

  return multihost.to_global(
      {name: made(name, x) for name, x in dataless.batch(run).items()},
      run.mesh)


def _sizes(config: schema.Config) -> dict:
  vision, text = config.vision, config.text
  return {"rows": config.batch_rows, "series": config.data.max_series,
          "tokens": list(vision.grid), "width": vision.width,
          "depth": vision.depth, "items": text.max_items,
          "words": text.max_tokens, "text_width": text.width,
          "text_depth": text.depth, "remat": vision.remat,
          "scan": vision.scan, "attention": config.attention,
          "loss_block": config.loss.block}
