"""The training loop: host-side order of events, and nothing else."""

import dataclasses
import hashlib
import json
import time

import grain
import jax
import numpy as np
import tqdm

from itemclip_jax.config import schema
from itemclip_jax.data import loader, record
from itemclip_jax.parallel import multihost, sharding
from itemclip_jax.train import setup, writer as writer_lib
from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.step import make_train_step


def run_steps(state, data: grain.DatasetIterator, step_fn, *, put, total_steps,
              log_every, save_every, writer, save, studies_of):
  """Advances `state` to `total_steps` and returns it and the last metrics.

  Order within a step: save, fetch, update, log. Saving comes before the fetch,
  so a checkpoint's parameters and data position always agree.
  """
  first, metrics, waited = int(state.step), {}, 0.0
  began = time.perf_counter()
  progress = tqdm.tqdm(total=total_steps, initial=first, unit="step",
                       desc="compile", disable=not multihost.is_main())
  for step in range(first, total_steps + 1):
    if step == total_steps or (step % save_every == 0 and step > first):
      save(step, state)
    if step == total_steps:
      progress.close()
      return state, metrics

    fetch = time.perf_counter()
    batch = put(next(data))
    waited += time.perf_counter() - fetch
    with jax.profiler.StepTraceAnnotation("train", step_num=step):
      state, metrics = step_fn(state, batch)

    if step == first:
      jax.block_until_ready(metrics)  # so that the bar counts steps only
      progress.unpause()
      progress.set_description("train")
    progress.update()
    if step % log_every == 0 or step == total_steps - 1:
      # The only sync point of the loop, but for the first step's.
      metrics = {k: float(v) for k, v in multihost.to_host(metrics).items()}
      if not np.isfinite(metrics["loss/total"]):
        raise FloatingPointError(
            f"The loss of step {step} is {metrics['loss/total']}, with the "
            f"studies {', '.join(studies_of(step))}; nothing of it is saved. "
            "Look at these studies or lower optimizer.learning_rate, and start "
            "again: the last checkpoint is good.")
      took = time.perf_counter() - began
      writer(step, metrics | {"time/elapsed_s": took,
                              "time/data_wait_s": waited})
      progress.set_postfix(loss=f"{metrics['loss/total']:.3f}")


def train(config: schema.Config, mesh, workdir) -> dict:
  """Trains to the last step, going on from the newest checkpoint.

  Returns what `final.json` holds.
  """
  run = setup.make_run(config, mesh, workdir, training=True)
  checkpoints = Checkpoints(workdir, config.train.keep)
  latest = checkpoints.latest()
  if latest is None:
    state = run.init()
  else:
    setup.require_fit(run, checkpoints.meta(latest), latest)
    state = checkpoints.restore(latest, run.abstract_state(), mesh)
  split = record.open_split(config.data.root, config.data.train_split,
                            ground_truth=False)
  data = loader.train_loader(
      split, run.make_example, steps=run.total_steps,
      process=jax.process_index(), num_processes=jax.process_count(),
      first_step=int(state.step))

  def save(step, state):
    checkpoints.save(step, state, {
        "config": dataclasses.asdict(config), "data": {"next_index": step},
        "contract": run.contract.to_dict()})

  order = loader.order_of(split, config)
  main = multihost.is_main()
  writer = writer_lib.Writer(workdir, int(state.step)) if main else (
      writer_lib.Silent())
  with jax.set_mesh(mesh):
    state, metrics = run_steps(
        state, data, jit_step(run, state),
        put=lambda batch: multihost.to_global(batch, mesh),
        total_steps=run.total_steps, log_every=config.train.log_every,
        save_every=config.train.save_every, writer=writer, save=save,
        studies_of=lambda step: split.index["study_id"][order.batch(step)[0]])
  checkpoints.close()
  writer.close()
  final = {"step": int(state.step), "loss": metrics.get("loss/total"),
           "params_sha256": digest(state.params),
           "opt_state_sha256": digest(state.opt_state)}
  if not metrics:  # the last step was done before: its loss stands in the log
    final["loss"] = writer_lib.last_loss(workdir)
  path = workdir / "final.json"
  if main and not (path.exists() and json.loads(path.read_text()) == final):
    writer_lib.write_json(path, final)  # else: newer results stay newer
  return final


def jit_step(run: setup.Run, state):
  """The compiled step; the old state's memory is reused."""
  step = make_train_step(run.model, run.objective, run.tx, window=run.window,
                         dtype=run.dtype)
  layout = sharding.tree_shardings(state, run.mesh)
  key = jax.random.key(run.config.seed)
  return jax.jit(lambda state, batch: step(state, batch, key),
                 out_shardings=(layout, sharding.replicated(run.mesh)),
                 donate_argnums=0)


def digest(tree) -> str:
  """SHA-256 over the leaves in path order."""
  sha = hashlib.sha256()
  tree = multihost.to_host(tree)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    sha.update(jax.tree_util.keystr(path, simple=True, separator="/").encode())
    sha.update(np.ascontiguousarray(leaf).tobytes())
  return sha.hexdigest()
