"""Several processes: start-up, local rows -> global array, gather."""

import jax
from jax.experimental import multihost_utils
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.parallel import sharding


def initialize(peers: str = "none"):
  """Joins the processes of a run; call it before anything else of JAX.

  Args:
    peers: "none", a single process; "auto", JAX asks the TPU pod slice, Slurm
      or MPI; or "HOST:PORT,COUNT,INDEX": the address of process 0, the number
      of processes and which of them this one is.

  Raises:
    UserError: `peers` is none of these.
  """
  if peers == "none" or jax.distributed.is_initialized():
    return
  if peers == "auto":
    jax.distributed.initialize()
    return
  address, *numbers = peers.split(",")
  if ":" not in address or len(numbers) != 2 or not all(
      n.strip().isdigit() for n in numbers):
    raise UserError(f"--peers is {peers!r}; want none, auto, or "
                    "HOST:PORT,COUNT,INDEX such as 10.0.0.1:1234,2,0.")
  count, index = map(int, numbers)
  if index >= count:
    raise UserError(f"--peers={peers}: the index must be below the count of "
                    f"{count}; the first process is 0.")
  jax.distributed.initialize(address, count, index)


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


def gather(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict:
  """Every process's rows on every host, in the order of the global batch."""
  if jax.process_count() == 1:
    return batch
  return to_host(to_global(batch, mesh))


def local_rows(tree):
  """This process's rows of arrays whose first axis is the global batch."""
  def rows(x):
    shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}
    return np.concatenate([np.asarray(shards[k]) for k in sorted(shards)])
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return jax.tree.map(rows, tree)


def least(number: int) -> int:
  """The least of all processes' numbers."""
  return int(np.min(multihost_utils.process_allgather(np.int64(number))))


def sync(name: str):
  """Waits until every process is here, e.g. for a file that one writes."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def is_main() -> bool:
  """True in the one process that writes files for people."""
  return jax.process_index() == 0
