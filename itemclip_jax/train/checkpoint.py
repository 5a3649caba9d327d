"""Checkpoints: the train state, the data position, and what they belong to.

Written by Orbax in the background. Beside the state stand the resolved config
and the preprocessing contract, so that a checkpoint can be used without the
run's other files and is refused where it does not fit.
"""

import pathlib

import jax
import orbax.checkpoint as ocp

from itemclip_jax.parallel import sharding


class Checkpoints:
  """The checkpoints of one work directory."""

  def __init__(self, workdir: pathlib.Path, keep: int = 2):
    self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
    self._manager = ocp.CheckpointManager(
        self._folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True),
        item_names=("state", "meta"))

  def latest(self) -> int | None:
    """The newest whole checkpoint's step, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state, meta: dict):
    """Saves a finite state; does nothing where the step is already there.

    Raises:
      FloatingPointError: a loss or gradient was not finite. Nothing is saved.
      RuntimeError: Orbax declined to save.
    """
    if not bool(jax.device_get(state.finite)):
      raise FloatingPointError(
          f"A loss or gradient before step {step} was not finite; the state is "
          "not saved and the last good checkpoint is "
          f"{self.latest()}. Lower optimizer.learning_rate or look at the data "
          "of the steps since then.")
    if step == self.latest():
      return
    saved = self._manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)))
    if not saved:
      raise RuntimeError(f"The checkpoint of step {step} was not written to "
                         f"{self._folder}; the newest is {self.latest()}.")

  def meta(self, step: int) -> dict:
    """Config, contract and data position of a checkpoint."""
    return self._manager.restore(
        step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

  def restore(self, step: int, abstract_state, mesh):
    """Reads a state into the layout of `mesh`.

    Raises:
      ValueError: the stored tree has other names or shapes.
    """
    layout = sharding.tree_shardings(abstract_state, mesh)
    wanted = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        abstract_state, layout)
    return self._manager.restore(step, args=ocp.args.Composite(
        state=ocp.args.StandardRestore(wanted)))["state"]

  def close(self):
    """Waits for the last write."""
    self._manager.wait_until_finished()
    self._manager.close()
