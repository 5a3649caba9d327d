"""The only file that names mesh axes. Models speak in logical axes.

Two tables: the logical axes of activations, and the parameters by path. A
parameter rule names the axis that should be split over `fsdp`; where that axis
does not divide, the largest axis that does is split, else the parameter is
replicated. `describe` lists the decision for every path.
"""

import math
import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

# Logical axis of an activation -> mesh axes.
ACTIVATION_RULES = {"batch": ("data", "fsdp"), "heads": None, "embed": None}

# Regex over "a/b/c" parameter paths -> axis to split; the first match wins.
# None = replicate: small vectors gain nothing from being split.
PARAM_RULES = (
    (r"(query|key|value)/kernel$", 0),                   # [E, A, F]
    (r"out/kernel$", 2),                                 # [A, F, E]
    (r"conv\d?/kernel$", 2),                             # [h, w, in, out]
    (r"embedding$", 1),                                  # [rows, width]
    (r"kernel$", 0),                                     # [in, out]
    (r"(cls_token|spatial_position)$", None),
    (r"(bias|scale|mean|var|logit_scale|logit_bias)$", None),
)


def constrain(x: jax.Array, logical: tuple[str | None, ...]) -> jax.Array:
  """Pins an activation's layout, where there is one: not in `over_rows`."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or AxisType.Manual in mesh.axis_types:
    return x
  spec = P(*(ACTIVATION_RULES[a] if a else None for a in logical))
  return jax.lax.with_sharding_constraint(x, spec)


def over_rows(f, num_whole: int = 0):
  """`f(*arrays)` on every device's own rows, as a kernel must be called.

  First axes are those of the batch, of arguments and of results, but for the
  last `num_whole` arguments, which every device has whole. The compiler cannot
  split a kernel by itself; without a mesh `f` is returned as it is.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return f
  rows = P(ACTIVATION_RULES["batch"])

  def split(*arrays):
    specs = (rows,) * (len(arrays) - num_whole) + (P(),) * num_whole
    return jax.shard_map(f, in_specs=specs, out_specs=rows,
                         check_vma=False)(*arrays)
  return split


def over_rows_that_divide(f):
  """`over_rows`, but `f` as it is where rows are here or do not divide."""
  def run(*arrays):
    size = jax.sharding.get_abstract_mesh().size
    alone = rows_are_here() or len(arrays[0]) % size
    return (f if alone else over_rows(f))(*arrays)
  return run


def rows_are_here() -> bool:
  """Nothing that is traced is split over devices by the compiler."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1 or AxisType.Manual in mesh.axis_types


def platform() -> str:
  """Of the devices that a program is traced for: "cpu", "gpu" or "tpu"."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.abstract_device is None:
    return jax.default_backend()
  return mesh.abstract_device.platform


def split_rows(tree, count: int):
  """[B, ...] -> [count, B / count, ...]: every count-th row together.

  Rows of a device stay on it: it holds neighbours, and of these every part
  takes its share.
  """
  return jax.tree.map(lambda x: x.reshape(
      len(x) // count, count, *x.shape[1:]).swapaxes(0, 1), tree)


def join_rows(tree):
  """What `split_rows` took apart."""
  return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(
      -1, *x.shape[2:]), tree)


def param_spec(path: str, shape: tuple[int, ...], fsdp: int) -> P:
  """Returns the layout of one parameter.

  Raises:
    ValueError: no rule matches the path.
  """
  for pattern, axis in PARAM_RULES:
    if re.search(pattern, path):
      break
  else:
    raise ValueError(
        f"No sharding rule matches parameter {path!r}. Add one to "
        "PARAM_RULES; replication must be written down, not assumed.")
  if axis is None or fsdp == 1:
    return P()
  by_size = sorted(range(len(shape)), key=lambda a: -shape[a])
  for candidate in [axis, *by_size]:
    if shape[candidate] % fsdp == 0:
      return P(*(["fsdp" if a == candidate else None
                  for a in range(len(shape))]))
  return P()


def tree_shardings(tree, mesh: jax.sharding.Mesh):
  """Maps a train state or parameters (abstract or real) to NamedShardings.

  Optimiser moments mirror the parameter paths, so the same rules hold for
  them; scalars (step, counts) are replicated.
  """
  fsdp = mesh.shape["fsdp"]

  def leaf(path, x):
    if math.prod(x.shape) <= 1:
      return NamedSharding(mesh, P())
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return NamedSharding(mesh, param_spec(name, x.shape, fsdp))

  return jax.tree_util.tree_map_with_path(leaf, tree)


def describe(tree, fsdp: int) -> str:
  """One line a parameter: path, shape, layout."""
  lines = []
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    spec = P() if math.prod(x.shape) <= 1 else param_spec(name, x.shape, fsdp)
    lines.append(f"{name} {tuple(x.shape)} {tuple(spec)}")
  return "\n".join(lines)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The layout of what every device holds whole."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The layout of a batch: first axis over all devices."""
  return NamedSharding(mesh, P(ACTIVATION_RULES["batch"]))
