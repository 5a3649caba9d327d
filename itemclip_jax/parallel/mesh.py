"""Builds the device mesh; the only call to `jax.make_mesh` in the project."""

import jax
from jax.sharding import AxisType

from itemclip_jax.errors import UserError

AXES = ("data", "fsdp")


def make_mesh(data: int = -1, fsdp: int = 1, devices=None) -> jax.sharding.Mesh:
  """Returns a `(data, fsdp)` mesh; a size of -1 takes the devices left over.

  Axes are `Auto`: the compiler propagates layouts. JAX's own default is
  `Explicit`, under which a batch-by-batch similarity matrix is a type error.

  Raises:
    UserError: the two sizes do not tile the devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [data, fsdp]
  if sizes.count(-1) == 1:
    sizes[sizes.index(-1)] = len(devices) // max(-data * fsdp, 1)
  if sizes[0] * sizes[1] != len(devices) or min(sizes) < 1:
    raise UserError(f"Mesh data={data}, fsdp={fsdp} does not tile "
                    f"{len(devices)} devices; set mesh.data and mesh.fsdp.")
  return jax.make_mesh(sizes, AXES, devices=devices,
                       axis_types=(AxisType.Auto,) * 2)
