"""The training loss on the validation split, with the same draws every time."""

import dataclasses

import jax
import numpy as np

from itemclip_jax import objectives
from itemclip_jax.data import loader, record
from itemclip_jax.errors import UserError
from itemclip_jax.parallel import multihost
from itemclip_jax.train import setup
from itemclip_jax.train.step import make_valid_step


class Validation:
  """Call it with parameters; the answer is {} where there is no split."""

  def __init__(self, run: setup.Run, split: record.Split | None):
    self._run, self._split = run, split
    # Tokens are dropped in training only.
    loss = dataclasses.replace(run.config.loss, token_drop_rate=0.0)
    objective = objectives.make(
        dataclasses.replace(run.config, loss=loss), run.dtype)
    self._step = jax.jit(make_valid_step(
        run.model, objective, window=run.window, dtype=run.dtype))

  @classmethod
  def of(cls, run: setup.Run) -> "Validation":
    """Opens data.valid_split, if it is named.

    Raises:
      UserError: the set has no such split, or it is empty.
    """
    data = run.config.data
    if not data.valid_split:
      return cls(run, None)
    try:
      return cls(run, record.open_split(data.root, data.valid_split,
                                        ground_truth=False))
    except UserError as error:
      raise UserError(f"{error} Or set data.valid_split='' to train without "
                      "validation.") from error

  @property
  def num_studies(self) -> int:
    return len(self._split.source) if self._split else 0

  def __call__(self, params) -> dict[str, float]:
    """Means over the studies of every number that the objective reports.

    Batches are as large as in training, since the loss depends on it; the last
    one is filled with rows that its example_mask leaves out.
    """
    if not self._split:
      return {}
    run, size = self._run, self._run.config.train.global_batch
    keys = (*run.objective.REQUIRES, "example_mask")
    seed = jax.random.key(run.config.seed)
    rows, counts = [], []
    for number, batch in enumerate(loader.eval_batches(
        self._split, run.make_example, batch=size,
        process=jax.process_index(), num_processes=jax.process_count())):
      batch = multihost.to_global({k: batch[k] for k in keys}, run.mesh)
      rows.append(self._step(params, batch, jax.random.fold_in(seed, number)))
      counts.append(min(size, self.num_studies - number * size))
    rows = [multihost.to_host(row) for row in rows]
    return {name: float(np.average([row[name] for row in rows],
                                   weights=counts))
            for name in rows[0] if name.startswith(("loss/", "logit/"))}
