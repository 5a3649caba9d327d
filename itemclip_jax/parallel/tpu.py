"""What we know of TPUs beyond what JAX asks them itself."""

import jax

# Bytes of fast memory by `device_kind`, of JAX's own table (`tpu_info`).
FAST_MEMORY = {"TPU v5 lite": 128 << 20, "TPU v6 lite": 128 << 20,
               "TPU v5": 64 << 20}


def compiler_options(mesh: jax.sharding.Mesh) -> dict[str, str] | None:
  """Options of `jax.jit` for a large program on the devices of a mesh.

  By default the compiler gives an operation an eighth of the fast memory. With
  half as much again a product takes larger tiles and 8 % less time by its own
  estimate; much more saves 2 % and multiplies the time of compiling.
  """
  if mesh.devices.flat[0].device_kind not in FAST_MEMORY:
    return None
  return {"xla_tpu_scoped_vmem_limit_kib": "24576"}
