"""Device meshes: sizes that are left open, and those that do not fit."""

import jax
from jax.sharding import AxisType
import numpy as np
import pytest

from itemclip_jax.parallel import multihost
from itemclip_jax.parallel.mesh import make_mesh


@pytest.mark.parametrize("data, fsdp, shape", [
    (-1, 1, (8, 1)), (-1, 4, (2, 4)), (2, -1, (2, 4)), (4, 2, (4, 2))])
def test_an_open_size_takes_the_devices_left_over(data, fsdp, shape):
  mesh = make_mesh(data, fsdp)
  assert tuple(mesh.shape.items()) == (("data", shape[0]), ("fsdp", shape[1]))
  assert mesh.axis_types == (AxisType.Auto,) * 2


def test_a_mesh_may_use_some_of_the_devices():
  assert make_mesh(-1, 2, jax.devices()[:4]).shape["data"] == 2


@pytest.mark.parametrize("data, fsdp", [
    (3, 2), (-1, 3), (-1, -1), (0, -1), (-1, 0), (-2, -4), (16, 1)])
def test_sizes_that_do_not_tile_the_devices_are_told(data, fsdp):
  with pytest.raises(ValueError, match=(
      f"Mesh data={data}, fsdp={fsdp} does not tile 8 devices; set mesh.data")):
    make_mesh(data, fsdp)


def test_rows_of_a_batch_go_to_devices_in_order():
  mesh = make_mesh(2, 4)
  batch = {"volume": np.arange(32, dtype=np.uint8).reshape(16, 2),
           "normal": np.arange(16) % 2 == 0}
  placed = multihost.to_global(batch, mesh)
  for name, array in placed.items():
    assert array.dtype == batch[name].dtype
    order = list(mesh.devices.ravel())
    for shard in array.addressable_shards:
      rows = slice(2 * order.index(shard.device), None)
      np.testing.assert_array_equal(shard.data, batch[name][rows][:2])
    np.testing.assert_array_equal(multihost.to_host(placed)[name], batch[name])
