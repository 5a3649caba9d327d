"""Class tokens between groups, by hand and against plain rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import groups
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.parallel import sharding


def test_cls_is_copied_to_finer_groups_and_averaged_to_coarser():
  mask = jnp.asarray([[True, True, False], [True, False, False]])
  regroup = lambda x, old, new: np.array(
      groups.regroup_cls(jnp.asarray(x), mask, old, new))
  # [study, series, slice, place, channel]; what a level does not read is 1e3.
  slices = np.zeros((2, 3, 2, 1, 2), np.float32)
  slices[0, 0, :, 0] = [[1, 2], [3, 6]]
  slices[0, 1, :, 0] = [[5, 0], [5, 0]]
  slices[0, 2] = 1e3  # padded: in no average
  series = regroup(slices, "slice", "series")
  np.testing.assert_array_equal(series[0, 0, :, 0], [[2, 4], [2, 4]])
  np.testing.assert_array_equal(series[0, 1, :, 0], [[5, 0], [5, 0]])
  series[:, :, 1:] = 1e3
  for level, x in (("series", series), ("slice", slices)):
    study = regroup(x, level, "study")
    np.testing.assert_array_equal(study[0].reshape(-1, 2), [[3.5, 2]] * 6)
  study = np.array(study)
  study[:, 1:] = study[:, :, 1:] = 1e3
  for level in ("series", "slice"):
    np.testing.assert_array_equal(
        regroup(study, "study", level)[0].reshape(-1, 2), [[3.5, 2]] * 6)
  np.testing.assert_array_equal(
      regroup(series, "series", "slice")[0, :2, :, 0],
      [[[2, 4], [2, 4]], [[5, 0], [5, 0]]])


@pytest.mark.parametrize("old, new", [
    ("slice", "study"), ("study", "slice"), ("series", "slice"),
    ("slice", "series"), ("study", "series")])
def test_levels_change_class_tokens_alone_on_any_devices(old, new):
  """Values and gradients, against rows that are put together plainly."""
  rng = np.random.default_rng(0)
  rows = groups.Rows(groups=2, tokens=3, places=2, filler=1)
  x, toward = jnp.asarray(rng.normal(size=(2, 4, 3, 2, 6, 5)), jnp.float32)
  mask = jnp.arange(3) < jnp.array([3, 2, 1, 3])[:, None]

  def plain(x):
    cls = groups.regroup_cls(x[..., 3:5, :], mask, old, new)
    return jnp.concatenate([x[..., :3, :], cls, x[..., 5:, :]], axis=-2)

  def ours(x, mask):
    return rows.regroup(x, mask, old, new)

  def both(run, *x):
    out, back = jax.vjp(run, *x)
    return out, back(toward)[0]

  wanted = both(plain, x)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
  jax.tree.map(close, both(ours, x, mask), wanted)
  mesh = mesh_lib.make_mesh(2, 2, jax.devices()[:4])
  with jax.set_mesh(mesh):
    spread = jax.device_put((x, mask), sharding.batch_sharding(mesh))
    run = jax.jit(functools.partial(both, ours)).lower(*spread).compile()
    jax.tree.map(close, run(*spread), wanted)
  assert "all-gather" not in run.as_text()
