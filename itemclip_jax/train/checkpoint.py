"""Checkpoints: the train state, the data position, and what they belong to.

Written by Orbax in the background, under another name until they are whole.
Beside the state stand the resolved config and the preprocessing contract, so
that a checkpoint can be used without the run's other files and is refused where
it does not fit, and what validation measured.
"""

import math
import pathlib
import time

import jax
import orbax.checkpoint as ocp

from itemclip_jax.errors import UserError
from itemclip_jax.parallel import multihost, sharding

_policy = ocp.checkpoint_managers


class Checkpoints:
  """The checkpoints of one work directory; a context manager.

  Args:
    workdir: they lie in its folder "checkpoints".
    keep: how many of the newest stay; the best one stays beside them.
    metric: name of the validation metric whose least value is the best.
    read_only: never creates, cleans or saves, e.g. beside a run at work.
  """

  def __init__(self, workdir: pathlib.Path, keep: int = 2,
               metric: str = "loss/total", *, read_only: bool = False):
    self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
    self._metric = metric
    options = ocp.CheckpointManagerOptions(
        best_fn=self._rank, best_mode="min", read_only=read_only,
        create=not read_only, cleanup_tmp_directories=not read_only,
        preservation_policy=_policy.AnyPreservationPolicy([
            _policy.LatestN(keep),
            _policy.BestN(get_metric_fn=self._rank, reverse=True, n=1)]))
    self._manager = None
    if not read_only and multihost.is_main():
      self._put_aside()
    multihost.sync("checkpoints")
    if self._folder.exists() or not read_only:
      self._manager = ocp.CheckpointManager(
          self._folder, options=options, item_names=("state", "meta"))

  def _rank(self, measured: dict[str, float] | None) -> float:
    """The metric; the worst of all where it was not taken or is not finite."""
    value = (measured or {}).get(self._metric, math.inf)
    return value if math.isfinite(value) else math.inf

  def _put_aside(self):
    """Renames what lost files, e.g. in a copy that was cut off."""
    for folder in self._folder.glob("[0-9]*"):
      if folder.name.isdigit() and not _is_whole(folder):
        aside = folder.with_name(f"{folder.name}.incomplete.{time.time_ns()}")
        folder.rename(aside)
        print(f"The checkpoint {folder} is not whole; it is now {aside.name} "
              "and not used.")

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *error):
    self.close()

  def latest(self) -> int | None:
    """The newest whole checkpoint's step, or None."""
    return max(self._whole_steps(), default=None)

  def best(self) -> int | None:
    """The step whose validation metric is the least, or None."""
    ranks = {step: self._rank(self._manager.metrics(step))
             for step in self._whole_steps()}
    step = min(ranks, key=ranks.get, default=None)
    return None if step is None or math.isinf(ranks[step]) else step

  def _whole_steps(self) -> list[int]:
    steps = self._manager.all_steps() if self._manager else []
    return [s for s in steps if _is_whole(self._folder / str(s))]

  def save(self, step: int, state, meta: dict, measured: dict[str, float]):
    """Saves a finite state; does nothing where the step is already there.

    Args:
      step: updates done.
      state: a `TrainState`.
      meta: see `train.loop`.
      measured: validation metrics, {} where none were taken.

    Raises:
      FloatingPointError: a loss, gradient or parameter was not finite. Nothing
        is saved.
      RuntimeError: Orbax declined to save.
    """
    if not bool(jax.device_get(state.finite)):
      raise FloatingPointError(
          f"A loss, gradient or parameter before step {step} was not finite; "
          "the state is not saved and the last good checkpoint is "
          f"{self.latest()}.")
    if step == self.latest():
      return
    saved = self._manager.save(step, metrics=measured, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)))
    if not saved:
      raise RuntimeError(f"The checkpoint of step {step} was not written to "
                         f"{self._folder}; the newest is {self.latest()}.")

  def meta(self, step: int) -> dict:
    """Config, contract and data position of a checkpoint.

    Raises:
      UserError: it cannot be read.
    """
    return self._read(step, meta=ocp.args.JsonRestore())["meta"]

  def restore(self, step: int, abstract_state, mesh):
    """Reads a state into the layout of `mesh`.

    Raises:
      UserError: it cannot be read, or the stored tree has other names or
        shapes.
    """
    wanted = _laid_out(abstract_state, mesh)
    return self._read(step, state=ocp.args.StandardRestore(wanted))["state"]

  def restore_params(self, step: int, abstract_params: dict, mesh) -> dict:
    """Reads the parameters of a state, and nothing else of it.

    Raises:
      UserError: parameters are missing or of another shape.
    """
    folder, wanted = self._folder / str(step) / "state", {
        "params": _laid_out(abstract_params, mesh)}
    with ocp.PyTreeCheckpointer() as reader:
      # Orbax would pass over parameters that are not stored.
      stored = _shapes(reader.metadata(folder).item_metadata.tree["params"])
      if differ := [f"{name} {shape}, stored {stored.get(name, 'not at all')}"
                    for name, shape in _shapes(abstract_params).items()
                    if shape != stored.get(name)]:
        raise UserError(
            f"The checkpoint of step {step} in {self._folder} has other "
            f"parameters than the model: want {'; '.join(differ[:3])}. Use the "
            "software version that wrote it.")
      return reader.restore(folder, args=ocp.args.PyTreeRestore(
          item=wanted, partial_restore=True,
          restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
      ))["params"]

  def _read(self, step: int, **what):
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**what))
    # Orbax and TensorStore raise many types, their texts fill a screen.
    except Exception as error:
      reason = str(error).strip().splitlines() or [type(error).__name__]
      raise UserError(
          f"The checkpoint of step {step} in {self._folder} cannot be read "
          f"({reason[0][:200]}); delete its folder to go on from an older one, "
          "or use the software version that wrote it.") from error

  def close(self):
    """Waits for the last write."""
    if self._manager:
      self._manager.wait_until_finished()
      self._manager.close()


def _is_whole(folder: pathlib.Path) -> bool:
  """Whether a checkpoint's folder has its parts; no data is read."""
  return all((folder / part).exists() for part in (
      "_CHECKPOINT_METADATA", "meta/metadata", "state/_METADATA",
      "state/manifest.ocdbt"))


def _laid_out(abstract, mesh):
  """Shapes and types with the layout over `mesh`."""
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract, sharding.tree_shardings(abstract, mesh))


def _shapes(tree) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every leaf."""
  return {jax.tree_util.keystr(path, simple=True, separator="/"):
          tuple(x.shape)
          for path, x in jax.tree_util.tree_leaves_with_path(tree)}
