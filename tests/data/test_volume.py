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


def _tilted():
  """An oblique grid: every axis of the array moves all coordinates."""
  turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
  affine = np.eye(4)
  affine[:3, :3] = turn * (2.0, 0.8, 0.7)     # mm along d, h, w
  affine[:3, 3] = (-30.0, 40.0, 50.0)
  return affine


def _ramp(shape, affine):
  """Each voxel holds a linear function of its patient position."""
  index = np.stack(np.indices(shape), -1)
  position = index @ affine[:3, :3].T + affine[:3, 3]
  return (position @ (1.0, -2.0, 0.5)).astype(np.float32)


@pytest.mark.parametrize("step", [
    lambda v: volume.fit(v, (5, 14, 7)),
    lambda v: volume.fit(v, (5, 14, 7), offset=(2, 0, -1)),
    lambda v: volume.fit(v, (9, 8, 9), offset=(-2, 3, 0)),
    lambda v: volume.resize(v, (9, 7, 12), depth="linear"),
    lambda v: volume.resample(v, (3.0, 1.0, 1.0)),
    lambda v: volume.fit(volume.resample(v, (1.5, 0.5, 1.0)), (6, 6, 6))])
def test_a_ramp_in_the_patient_survives_every_step(step):
  source = Volume(_ramp((7, 11, 6), _tilted()), _tilted())
  out = step(source)
  wanted = _ramp(out.shape, out.affine)
  # Padding and the replicated border are no ramp: look where, in the source,
  # all voxels lie between its outermost centres.
  index = np.stack(np.indices(out.shape), -1)
  to_source = np.linalg.inv(source.affine) @ out.affine
  at = index @ to_source[:3, :3].T + to_source[:3, 3]
  inner = ((at > -1e-6) & (at < np.subtract(source.shape, 1) + 1e-6)).all(-1)
  assert inner.sum() >= 27
  np.testing.assert_allclose(out.voxels[inner], wanted[inner], atol=1e-4)


def test_hounsfield_units_keep_fractions_and_precision():
  stored = np.array([-2, 0, 3], np.int16)
  out = volume.hounsfield(stored, slope=np.float64(0.5), intercept=-1000.0)
  np.testing.assert_array_equal(out, [-1001.0, -1000.0, -998.5])
  assert out.dtype == np.float32
  wide = np.array([2**24 + 1], np.int32)      # no float32 holds this
  assert volume.hounsfield(wide, slope=1, intercept=0)[0] == 2**24 + 1


def test_window_clips_at_both_ends():
  hu = np.array([-2000, -1150, -1149, 0, 350, 351], np.int16)
  out = volume.clip_to_window(
      Volume(hu.reshape(1, 2, 3), np.eye(4)), volume.CHEST_WINDOW)
  np.testing.assert_array_equal(
      out.voxels.ravel(), [-1150, -1150, -1149, 0, 350, 350])
  assert out.voxels.dtype == np.float32


@pytest.mark.parametrize("offset, rows", [
    (None, [[-9, -9, -9], [2, 3, 4], [7, 8, 9], [-9, -9, -9], [-9, -9, -9]]),
    ((0, 0, 0), [[1, 2, 3], [6, 7, 8], [-9] * 3, [-9] * 3, [-9] * 3]),
    ((0, -3, 2), [[-9] * 3, [-9] * 3, [-9] * 3, [3, 4, 5], [8, 9, 10]]),
    ((0, -2, 1), [[-9] * 3, [-9] * 3, [2, 3, 4], [7, 8, 9], [-9] * 3])])
def test_fit_cuts_and_pads_where_told(offset, rows):
  x = np.arange(1, 11, dtype=np.int16).reshape(1, 2, 5)
  out = volume.fit(Volume(x, np.eye(4)), (1, 5, 3), offset=offset, fill=-9.0)
  np.testing.assert_array_equal(out.voxels[0], rows)
  assert out.voxels.dtype == np.int16


def test_middle_of_an_odd_remainder_lies_nearer_to_the_start():
  x = Volume(np.arange(1.0, 6.0).reshape(1, 1, 5), np.eye(4))
  for size, wanted in ((2, [2, 3]), (8, [0, 1, 2, 3, 4, 5, 0, 0])):
    out = volume.fit(x, (1, 1, size))
    np.testing.assert_array_equal(out.voxels.ravel(), wanted)


@pytest.mark.parametrize("offset", [(0, 0, -1), (0, 0, 3), (0, 1, 0),
                                    (0, -4, 0), (1, 0, 0)])
def test_offset_beyond_the_slack_is_an_error(offset):
  with pytest.raises(ValueError, match="both cuts and pads"):
    volume.fit(Volume(np.zeros((1, 2, 5)), np.eye(4)), (1, 5, 3),
               offset=offset)


def test_random_offsets_reach_every_place_and_both_ends():
  rng = np.random.default_rng(0)
  drawn = np.stack([volume.random_offset((5, 2, 3), (3, 5, 3), rng)
                    for _ in range(400)])
  seen = [np.unique(axis, return_counts=True) for axis in drawn.T]
  assert [s.tolist() for s, _ in seen] == [[0, 1, 2], [-3, -2, -1, 0], [0]]
  assert seen[0][1].min() > 100 and seen[1][1].min() > 70


def test_depth_is_interpolated_or_repeated():
  x = Volume(np.array([0.0, 2.0]).reshape(2, 1, 1), np.eye(4))
  for depth, wanted in (("linear", [0, 0.5, 1.5, 2]),
                        ("nearest", [0, 0, 2, 2])):
    out = volume.resize(x, (4, 1, 1), depth=depth)
    np.testing.assert_array_equal(out.voxels.ravel(), wanted)


def test_resampling_rounds_sizes_down_and_keeps_the_field_of_view():
  source = Volume(np.zeros((7, 11, 9), np.int16), _tilted())
  out = volume.resample(source, (3.0, 1.0, 1.0))
  assert out.shape == (4, 8, 6) and out.voxels.dtype == np.float32
  np.testing.assert_allclose(out.spacing_mm, [3.5, 1.1, 1.05])
  for end in (np.zeros(3), np.ones(3)):       # outer faces of the corner voxels
    np.testing.assert_allclose(
        _position(out.affine, end * out.shape - 0.5),
        _position(source.affine, end * source.shape - 0.5))


def test_a_volume_thinner_than_one_voxel_is_refused():
  with pytest.raises(ValueError, match="thinner than one voxel"):
    volume.resample(Volume(np.zeros((2, 9, 9)), np.eye(4)), (3.0, 1.0, 1.0))
