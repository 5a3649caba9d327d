"""Several processes: start-up, local rows -> global array, gather."""

import os

import jax
from jax.experimental import multihost_utils
import numpy as np

from itemclip_jax.parallel import sharding

def initialize():
  """Joins the processes of a pod slice or job; a no-op on one machine.

  On a TPU pod slice and in a Slurm step JAX finds the peers by itself. Asked
  for by ITEMCLIP_MULTIHOST=1: a single host of a pod looks just the same.
  """
  if os.environ.get("ITEMCLIP_MULTIHOST") == "1":
    jax.distributed.initialize()


def to_global(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict:
  """Turns this process's rows into arrays of the whole batch.

  Args:
    batch: arrays whose first axis is this process's share of the batch.
    mesh: the mesh whose devices the rows are spread over.
  """
  layout = sharding.batch_sharding(mesh)
  return {k: jax.make_array_from_process_local_data(layout, v)
          for k, v in batch.items()}


def to_host(tree):
  """Fetches whole arrays to every host, whatever their layout."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return jax.tree.map(
      lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def sync(name: str):
  """Waits until every process is here, e.g. for a file that one writes."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def is_main() -> bool:
  """True in the one process that writes files for people."""
  return jax.process_index() == 0
