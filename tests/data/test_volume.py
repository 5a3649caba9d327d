"""Volumes: intensity, resampling, and that the affine follows every step."""

import numpy as np
import pytest

from itemclip_jax.data import volume
from itemclip_jax.data.volume import Volume


def _affine():
  affine = np.diag([-5.0, -2.0, 1.5, 1.0])  # (d, h, w) -> RAS mm
  affine[:3, :3] = affine[[2, 1, 0], :3]    # d along S, h along A, w along R
  affine[:3, 3] = (-30.0, 40.0, 50.0)
  return affine


def _position(affine, index):
  return (affine @ [*index, 1.0])[:3]


def test_percentiles_become_0_and_255():
  x = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
  out = volume.rescale(x)
  assert out.min() == 0 and out.max() == 255
  assert (out == 0).sum() == 6 and (out == 255).sum() == 6  # 0.5 % each


@pytest.mark.parametrize("value, reason", [(3.0, "constant"),
                                           (np.nan, "not finite")])
def test_volumes_without_information_are_refused(value, reason):
  with pytest.raises(ValueError, match=reason):
    volume.rescale(np.full((2, 3, 4), value))


def test_same_grid_changes_no_voxel():
  x = np.random.default_rng(0).uniform(size=(3, 4, 4)).astype(np.float32)
  out = volume.resize(Volume(x, np.eye(4)), (3, 4, 4))
  np.testing.assert_array_equal(out.voxels, x)
  np.testing.assert_array_equal(out.affine, np.eye(4))


def test_a_ramp_in_the_plane_stays_a_ramp_in_patient_space():
  D, H, W = 4, 10, 16
  x = np.broadcast_to(np.arange(W, dtype=np.float32), (D, H, W))
  out = volume.resize(Volume(x, np.eye(4)), (4, 10, 24))
  at = [_position(out.affine, (0, 0, w))[2] for w in range(1, 23)]
  np.testing.assert_allclose(out.voxels[0, 0, 1:23], at, atol=1e-5)


def test_a_marker_in_the_patient_is_found_through_the_stored_affine():
  x = np.zeros((12, 40, 30), np.float32)
  where = (7, 25, 9)
  x[where] = 1000.0
  x[7, 24:27, 8:11] += 500.0                # keeps the maximum in resampling
  source = Volume(x, _affine())
  out = volume.conform(source, resize_to=(12, 60, 60), shape=(12, 48, 48))
  found = np.unravel_index(out.voxels.argmax(), out.shape)
  error = _position(out.affine, found) - _position(source.affine, where)
  # Half a stored voxel in the plane, half a slice across it.
  assert np.all(np.abs(error) <= np.array([1.0, 1.0, 2.5]) + 1e-6), error


def test_padding_keeps_positions():
  x = np.zeros((2, 5, 9), np.float32)
  x[1, 3, 4] = 1
  out = volume.pad_to_square(Volume(x, _affine()))
  found = np.unravel_index(out.voxels.argmax(), out.shape)
  np.testing.assert_allclose(_position(out.affine, found),
                             _position(_affine(), (1, 3, 4)))


def test_crop_larger_than_the_volume_is_an_error():
  with pytest.raises(ValueError, match="resize to at least"):
    volume.centre_crop(Volume(np.zeros((2, 3, 4)), np.eye(4)), (2, 4, 4))


def test_labels_follow_the_patient_not_the_array():
  labels = np.zeros((6, 8, 10), np.uint8)
  labels[2, 3, 4] = 7
  source = Volume(labels, _affine())
  flip = np.diag([1.0, 1.0, -1.0, 1.0])
  flip[2, 3] = 9                            # the same grid, columns reversed
  out = volume.sample_labels(
      source, shape=(6, 8, 10), affine=source.affine @ flip)
  np.testing.assert_array_equal(out, labels[:, :, ::-1])
  outside = volume.sample_labels(
      source, shape=(2, 2, 2), affine=source.affine + 1000 * np.eye(4)[:, 3:])
  assert not outside.any()


def test_median_rule_keeps_tissue_whatever_the_lesion():
  rng = np.random.default_rng(0)
  head = np.zeros((20, 20, 20), np.float32)
  head[4:16, 4:16, 4:16] = rng.normal(400.0, 10.0, (12, 12, 12))
  for size in (2, 6):                 # 0.1 % and 2.7 % of the volume
    ill = head.copy()
    ill[6:6 + size, 6:6 + size, 6:6 + size] = 1200.0
    well, seen = (volume.rescale(x, "median") for x in (head, ill))
    tissue = (head > 0) & (ill < 1200)
    np.testing.assert_allclose(seen[tissue], well[tissue], rtol=0.02)
    assert (seen[ill == 1200] == 255).all()
  np.testing.assert_allclose(np.median(well[head > 0]), 127.5, rtol=0.01)
