"""Orientation: wherever the file keeps its axes, the head ends up upright."""

import nibabel as nib
import numpy as np
import pytest

from data_pipelines.volumes import nifti

# plane -> spacing along R, A, S, and where (d, h, w) of the corner voxel that
# is most left, front and top of the patient must be stored.
PLANES = {"axial": (1.0, 1.0, 5.0), "coronal": (1.0, 5.0, 1.0),
          "sagittal": (5.0, 1.0, 1.0)}


def _file(path, axes, spacing, marker_ras):
  """A volume whose only bright voxel has the given R, A, S index."""
  x = np.zeros((6, 7, 8), np.float32)
  x[marker_ras] = 100
  affine = np.diag([*spacing, 1.0])
  affine[:3, 3] = (-11.0, -22.0, -33.0)
  change = nib.orientations.ornt_transform(
      nib.orientations.axcodes2ornt("RAS"),
      nib.orientations.axcodes2ornt(axes))
  nib.save(nib.Nifti1Image(
      nib.orientations.apply_orientation(x, change),
      affine @ nib.orientations.inv_ornt_aff(change, x.shape)), path)
  return affine @ [*marker_ras, 1.0]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LSA", "PIR", "SAL"])
@pytest.mark.parametrize("plane", PLANES)
def test_left_is_left_and_head_is_up(tmp_path, plane, axes):
  path = tmp_path / "img.nii.gz"
  left_front_top = (0, 6, 7)
  position = _file(path, axes, PLANES[plane], left_front_top)
  volume, code = nifti.read_series(path)
  assert code == nifti.ORIENTATION[plane]
  # Depth, rows and columns run to feet, back, right - or begin at left, so
  # this corner comes first on every axis.
  assert np.unravel_index(volume.voxels.argmax(), volume.shape) == (0, 0, 0)
  np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], position)
  assert volume.spacing_mm[0] == 5.0


def test_oblique_slices_keep_their_exact_affine(tmp_path):
  turn = np.radians(20)
  affine = np.diag([1.0, 1.0, 4.0, 1.0])
  affine[1:3, 1:3] = [[np.cos(turn), -4 * np.sin(turn)],
                      [np.sin(turn), 4 * np.cos(turn)]]
  x = np.zeros((5, 6, 7), np.float32)
  x[1, 2, 3] = 1
  nib.save(nib.Nifti1Image(x, affine), tmp_path / "img.nii.gz")
  volume, code = nifti.read_series(tmp_path / "img.nii.gz")
  found = np.unravel_index(volume.voxels.argmax(), volume.shape)
  assert code == "IPR"
  np.testing.assert_allclose(volume.affine @ [*found, 1],
                             affine @ [1, 2, 3, 1], atol=1e-5)


def test_header_slope_is_applied(tmp_path):
  image = nib.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4),
                          np.eye(4))
  image.header.set_slope_inter(2.0, -10.0)
  nib.save(image, tmp_path / "img.nii.gz")
  stored = nib.load(tmp_path / "img.nii.gz").get_fdata()
  volume, _ = nifti.read_series(tmp_path / "img.nii.gz")
  np.testing.assert_allclose(np.sort(volume.voxels, None),
                             np.sort(stored, None), rtol=1e-6)


def _broken(kind, path):
  if kind == "4-D":
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.float32), np.eye(4)),
             path)
  elif kind == "no position":
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), None)
    nib.save(image, path)
  elif kind == "no image":
    path.write_bytes(b"hello")


@pytest.mark.parametrize("kind, reason", [
    ("4-D", "want three axes"), ("no position", "neither qform nor sform"),
    ("no image", "not a NIfTI file"), ("missing", "file is missing")])
def test_series_that_cannot_be_trusted_are_refused(tmp_path, kind, reason):
  path = tmp_path / "img.nii.gz"
  _broken(kind, path)
  with pytest.raises(nifti.SeriesError, match=reason):
    nifti.read_series(path)
