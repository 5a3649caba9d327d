"""Closeness of ours and theirs, in the units of the golden files."""

import jax
import numpy as np

# Relative to the largest magnitude of the array: single entries may cancel.
TOLERANCE = {np.dtype("float64"): 1e-9, np.dtype("float32"): 1e-4}


def assert_close(ours, theirs, what: str, *, floor: float = 0.0):
  """Compares within the tolerance of the file's dtype.

  Entries of both must agree to TOLERANCE relative to their own size plus, for
  entries that cancel to almost nothing, relative to the array's largest one or
  to `floor`.
  """
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  assert ours.shape == theirs.shape, (
      f"{what}: shape {ours.shape}, golden {theirs.shape}")
  dtype = theirs.dtype if theirs.dtype in TOLERANCE else np.dtype("float64")
  tolerance = TOLERANCE[dtype]
  scale = max(_largest(theirs), floor, 1e-12)
  np.testing.assert_allclose(ours, theirs, rtol=tolerance,
                             atol=tolerance * scale, err_msg=what)


def assert_trees_close(ours: dict, theirs: dict, what: str):
  """`assert_close` for every leaf; both trees must have the same paths.

  A hundredth of the largest entry of all leaves is the floor: gradients that
  are zero by symmetry (a key's bias cancels in a softmax) are rounding errors.
  """
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  flat = lambda t: {name(p): x
                    for p, x in jax.tree_util.tree_leaves_with_path(t)}
  ours, theirs = flat(ours), flat(theirs)
  assert ours.keys() == theirs.keys(), f"{what}: {ours.keys() ^ theirs.keys()}"
  floor = max(map(_largest, theirs.values())) / 100
  for key, value in theirs.items():
    assert_close(ours[key], value, f"{what}/{key}", floor=floor)


def _largest(x: np.ndarray) -> float:
  return float(np.max(np.abs(x), initial=0.0))
