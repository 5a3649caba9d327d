"""What a run will need and what there is, before anything is compiled."""

import math
import shutil

import jax
import numpy as np
import psutil

from itemclip_jax.errors import UserError
from itemclip_jax.ops import attention
from itemclip_jax.parallel import sharding

_SPARE_COPIES = 2  # of a checkpoint: the best one, and the one being written


def check(run, *, num_studies: int, num_valid: int, first_step: int) -> str:
  """Returns the line that every process prints.

  Args:
    run: a `train.setup.Run`.
    num_studies: of the training split.
    num_valid: of the validation split, 0 = no validation.
    first_step: where training begins or goes on.

  Raises:
    UserError: a device's memory or the disk is too small even for what is
      known beforehand.
  """
  train = run.config.train
  where = run.workdir / "checkpoints"
  memory, disk = memory_needed(run), disk_needed(run)
  have_memory = memory_present(jax.local_devices()[0])
  run.workdir.mkdir(parents=True, exist_ok=True)
  have_disk = shutil.disk_usage(run.workdir).free
  if memory > have_memory:
    raise UserError(
        f"State, gradients and batch take {_size(memory)} of each device, "
        f"which has {_size(have_memory)}; raise mesh.fsdp or lower "
        f"train.global_batch={train.global_batch}.")
  if disk > have_disk:
    raise UserError(
        f"The checkpoints of this run take {_size(disk)} and {where} has "
        f"{_size(have_disk)} free; free some, lower train.keep={train.keep} or "
        "choose another --workdir.")
  samples = run.total_steps * train.global_batch
  return "; ".join([
      f"process {jax.process_index() + 1} of {jax.process_count()}: "
      f"{jax.local_device_count()} of {jax.device_count()} devices "
      f"({jax.local_devices()[0].device_kind}, {_mesh(run.mesh)})",
      attention.describe(run.config.attention),
      f"memory a device: needs {_size(memory)} + activations, has "
      f"{_size(have_memory)}",
      f"disk: needs {_size(disk)}, has {_size(have_disk)}",
      f"steps {first_step} to {run.total_steps} of {train.global_batch} "
      f"samples, {samples / num_studies:.1f} epochs of {num_studies} studies",
      f"validation on {num_valid} studies" if num_valid else "no validation",
      f"a checkpoint every {train.save_every} steps in {where}"])


def memory_needed(run) -> int:
  """Bytes on one device: the state, its gradients and a batch as stored.

  A lower bound: what activations take on top is known after compiling.
  """
  state = run.abstract_state()
  sizes = jax.tree.map(
      lambda x, layout: math.prod(layout.shard_shape(x.shape))
      * x.dtype.itemsize, state, sharding.tree_shardings(state, run.mesh))
  total = sum(jax.tree.leaves(sizes))
  gradients = sum(jax.tree.leaves(sizes.params))
  return total + gradients + _batch_bytes(run) // run.mesh.size


def disk_needed(run) -> int:
  """Bytes of all checkpoints that lie side by side at the worst moment."""
  whole = sum(x.size * x.dtype.itemsize
              for x in jax.tree.leaves(run.abstract_state()))
  return whole * (run.config.train.keep + _SPARE_COPIES)


def memory_present(device) -> int:
  """Bytes that a device can give; on a CPU those free on this machine."""
  stats = device.memory_stats() or {}
  return stats.get("bytes_limit", psutil.virtual_memory().available)


def _batch_bytes(run) -> int:
  """The volumes; all else of a batch is small beside them."""
  config = run.config
  voxels = math.prod(config.vision.volume_shape) * config.data.max_series
  item = np.dtype(run.contract.dtype).itemsize
  return config.batch_rows * voxels * item


def _mesh(mesh) -> str:
  return " x ".join(f"{name} {size}" for name, size in mesh.shape.items())


def _size(num_bytes: int) -> str:
  """In the unit that leaves one to three digits before the point."""
  for unit in ("B", "kB", "MB", "GB"):
    if num_bytes < 1000:
      return f"{num_bytes:.3g} {unit}"
    num_bytes /= 1000
  return f"{num_bytes:.3g} TB"
