"""The training loop: host-side order of events, and nothing else."""

import contextlib
import dataclasses
import hashlib
import json
import time

import jax
import numpy as np
import tqdm

from itemclip_jax.config import schema
from itemclip_jax.data import loader
from itemclip_jax.errors import UserError
from itemclip_jax.parallel import multihost, sharding, tpu
from itemclip_jax.train import preflight, setup, trained
from itemclip_jax.train import writer as writer_lib
from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.interruption import Interrupted, Interruption
from itemclip_jax.train.step import make_train_step
from itemclip_jax.train.validate import Validation


def run_steps(state, data, step_fn, *, put, total_steps, log_every, save_every,
              writer, save, studies_of, interrupted=lambda step: False):
  """Advances `state` to `total_steps` and returns it and the last metrics.

  Order within a step: save, fetch, update, log. Saving comes before the fetch,
  so a checkpoint's parameters and data position always agree.

  Args:
    state: a `TrainState`; its step says where to begin.
    data: iterator over this process's batches from that step on.
    step_fn: (state, batch) -> (state, metrics).
    put: batch of this process -> global batch.
    total_steps: where to end.
    log_every: steps between two calls of `writer(step, metrics, timing)`.
    save_every: steps between two calls of `save(step, state, due)`; `due` is
      False where only an interruption asks for it.
    writer: see `writer.Writer`.
    save: see `save_every`.
    studies_of: step -> ids of its studies, for an error's text.
    interrupted: step -> whether to save and end before it.

  Raises:
    FloatingPointError: a step was not finite.
    Interrupted: `interrupted` said so.
  """
  first, metrics, clock = int(state.step), {}, _Clock()
  with tqdm.tqdm(total=total_steps, initial=first, unit="step", desc="compile",
                 disable=not multihost.is_main()) as progress:
    for step in range(first, total_steps + 1):
      stop = step < total_steps and interrupted(step)
      due = step == total_steps or step % save_every == 0
      if step > first and (due or stop):
        _require_finite(state, studies_of)
        with clock.paused():
          save(step, state, due)
      if stop:
        raise Interrupted(f"Ended as asked before step {step} of "
                          f"{total_steps}; what was done is saved, start the "
                          "same command again to go on.")
      if step == total_steps:
        break

      with clock.waiting():
        batch = put(next(data))
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        state, metrics = step_fn(state, batch)

      if step == first:
        jax.block_until_ready(metrics)  # so that the bar counts steps only
        progress.unpause()
        progress.set_description("train")
      progress.update()
      if step % log_every == 0 or step == total_steps - 1:
        # The only sync point of the loop, but for the first step's.
        _require_finite(state, studies_of)
        metrics = {k: float(v) for k, v in multihost.to_host(metrics).items()}
        timing = clock.lap(step + 1 - first)
        writer(step, metrics, timing)
        progress.set_postfix(loss=f"{metrics['loss/total']:.3f}",
                             wait=f"{timing['time/data_wait_share']:.0%}")
  return state, metrics


def _require_finite(state, studies_of):
  bad = int(state.bad_step)
  if bad >= 0:
    raise FloatingPointError(
        f"The loss, a gradient or a parameter of step {bad} was not finite, "
        f"with the studies {', '.join(studies_of(bad))}; nothing of it is "
        "saved. Look at these studies or lower optimizer.learning_rate, and "
        "start again: the last checkpoint is good.")


class _Clock:
  """Seconds of the loop, and how many of them it waited for data."""

  def __init__(self):
    self._began = self._lap = time.perf_counter()
    self._waited, self._paused, self._steps = 0.0, 0.0, 0

  @contextlib.contextmanager
  def waiting(self):
    before = time.perf_counter()
    yield
    self._waited += time.perf_counter() - before

  @contextlib.contextmanager
  def paused(self):
    """Time that is no step's: validating and saving."""
    before = time.perf_counter()
    yield
    self._paused += time.perf_counter() - before

  def lap(self, steps: int) -> dict[str, float]:
    """Means since the last call; `steps` counts from the loop's start."""
    now = time.perf_counter()
    took = now - self._lap - self._paused
    count = steps - self._steps
    timing = {"time/elapsed_s": now - self._began,
              "time/step_s": took / count,
              "time/data_wait_s": self._waited / count,
              "time/data_wait_share": self._waited / took}
    self._lap, self._steps = now, steps
    self._waited = self._paused = 0.0
    return timing


def train(config: schema.Config, mesh, workdir) -> dict:
  """Trains to the last step, going on from the newest checkpoint.

  Without one it begins, with the parameters of `train.start_from` if given.

  Returns what `final.json` holds.

  Raises:
    Interrupted: SIGTERM or Ctrl-C; the state is saved.
    UserError: data, settings, checkpoint and work directory do not fit.
    FloatingPointError: a step was not finite.
  """
  with Interruption() as interruption:
    origin = trained.origin(config, mesh, workdir)
    run = setup.make_run(config, mesh, workdir, training=True, origin=origin)
    validation = Validation.of(run)
    with Checkpoints(workdir, config.train.keep,
                     config.train.best_metric) as checkpoints:
      state, metrics = _train(run, checkpoints, validation, interruption,
                              origin)
  final = {"step": int(state.step), "loss": metrics.get("loss/total"),
           "params_sha256": digest(state.params),
           "opt_state_sha256": digest(state.opt_state)}
  if not metrics:  # the last step was done before: its loss stands in the log
    final["loss"] = writer_lib.last_loss(workdir)
  path = workdir / "final.json"
  if multihost.is_main() and not (
      path.exists() and json.loads(path.read_text()) == final):
    writer_lib.write_json(path, final)  # else: newer results stay newer
  return final


def _train(run: setup.Run, checkpoints: Checkpoints, validation,
           interruption: Interruption, origin: trained.Trained | None):
  """Opens what the loop needs, runs it, closes it."""
  config, batches = run.config, loader.batches_of(run.split, run.config)
  state = start(run, checkpoints, origin)
  first = int(state.step)
  print(preflight.check(run, num_studies=len(run.split.source),
                        num_valid=validation.num_studies, first_step=first),
        flush=True)
  data = loader.train_loader(
      run.split, run.make_example, steps=run.total_steps,
      process=jax.process_index(), num_processes=jax.process_count(),
      first_step=first)
  writer = (writer_lib.Writer(run.workdir, first) if multihost.is_main()
            else writer_lib.Silent())

  def save(step, state, due):
    measured = validation(state.params) if due else {}
    if measured:
      writer(step, {f"valid/{k}": v for k, v in measured.items()})
    writer.sync()  # a checkpoint never knows more than the log
    checkpoints.save(step, state, {
        "config": dataclasses.asdict(config), "data": run.position(step),
        "contract": run.contract.to_dict()}, measured)
    if measured and config.train.best_metric not in measured:
      raise UserError(
          f"Validation measures {', '.join(measured)} but not train.best_metric"
          f"={config.train.best_metric!r}; name one of these and start again, "
          f"what was done up to step {step} is saved.")

  with jax.set_mesh(run.mesh), contextlib.closing(writer):
    return run_steps(
        state, data, jit_step(run, state),
        put=lambda batch: multihost.to_global(batch, run.mesh),
        total_steps=run.total_steps, log_every=config.train.log_every,
        save_every=config.train.save_every, writer=writer, save=save,
        studies_of=lambda s: run.split.index["study_id"][
            [row.record for row in batches.rows(s)]],
        interrupted=interruption.asked)


def start(run: setup.Run, checkpoints: Checkpoints,
          origin: trained.Trained | None = None):
  """The newest checkpoint's state, or the initial one.

  The first step reuses the memory of the state, so of `origin.params` too.
  """
  latest = checkpoints.latest()
  if latest is None:
    return run.init(origin.params if origin else None)
  meta = checkpoints.meta(latest)
  setup.require_fit(run, meta, latest)
  setup.require_same_data(run, meta, latest)
  return checkpoints.restore(latest, run.abstract_state(), run.mesh)


def make_step(run: setup.Run):
  """The train step of a run."""
  return make_train_step(
      run.model, run.objective, run.tx, window=run.window, dtype=run.dtype,
      unknown_id=run.make_example.tokenize.unknown_id,
      text_frozen=run.config.text.frozen,
      micro_batches=run.config.train.micro_batches)


def jit_step(run: setup.Run, state):
  """The compiled step; the old state's memory is reused."""
  step = make_step(run)
  layout = sharding.tree_shardings(state, run.mesh)

  def train_step(state, batch):
    # The key is made here: an array would have to be where the devices are.
    return step(state, batch, jax.random.key(run.config.seed))

  return jax.jit(train_step,
                 out_shardings=(layout, sharding.replicated(run.mesh)),
                 donate_argnums=0,
                 compiler_options=tpu.compiler_options(run.mesh))


def digest(tree) -> str:
  """SHA-256 over the leaves in path order."""
  sha = hashlib.sha256()
  tree = multihost.to_host(tree)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    sha.update(jax.tree_util.keystr(path, simple=True, separator="/").encode())
    sha.update(np.ascontiguousarray(leaf).tobytes())
  return sha.hexdigest()
