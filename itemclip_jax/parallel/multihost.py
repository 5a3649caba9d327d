"""Several processes: start-up, local rows -> global array, gather."""

import os

import jax
from jax.experimental import multihost_utils
import numpy as np

from itemclip_jax.parallel import sharding

# Environment variables under which `jax.distributed.initialize()` finds its
# peers by itself: TPU pods and Slurm job steps.
_CLUSTER_VARIABLES = ("TPU_WORKER_HOSTNAMES", "SLURM_STEP_NODELIST")


def initialize():
  """Joins the processes of a pod or job step; a no-op on one machine."""
  hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
  several = "," in hosts or int(os.environ.get("SLURM_NTASKS", "1")) > 1
  if several and any(v in os.environ for v in _CLUSTER_VARIABLES):
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


def is_main() -> bool:
  """True in the one process that writes files for people."""
  return jax.process_index() == 0
