"""Attention laid over a file lies where the token lies in the patient."""

import nibabel as nib
import numpy as np
import pytest

from data_pipelines.volumes import nifti
from itemclip_jax.data import volume
from itemclip_jax.tools.figures import slices
from itemclip_jax.tools.study_files import overlay

PATCH, GRID = (2, 4, 4), (3, 3, 4)
SHAPE = tuple(p * g for p, g in zip(PATCH, GRID))

# axes of the file, its voxels, mm along them: axial, coronal, sagittal
FILES = {"axial": ("LAS", (20, 24, 9), (1.5, 1.5, 5.0)),
         "coronal": ("LSP", (24, 20, 9), (1.5, 1.5, 4.0)),
         "sagittal": ("PIR", (20, 20, 7), (1.2, 1.2, 6.0))}


def _affine(axes, spacing, turn_degrees=0.0):
  """Of a file whose axes run to `axes`, then turned about the RAS x axis."""
  out = np.zeros((4, 4))
  for axis, (letter, mm) in enumerate(zip(axes, spacing)):
    row = next(i for i, pair in enumerate(slices.DIRECTIONS) if letter in pair)
    out[row, axis] = mm if letter in "RAS" else -mm
  out[:, 3] = 31.0, -17.0, 8.0, 1.0
  c, s = np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees))
  turn = np.eye(4)
  turn[1:3, 1:3] = [[c, -s], [s, c]]
  return turn @ out


def _stored(path, plane, turn_degrees, resize=SHAPE):
  """Writes a file of noise; returns it and what the model would see of it."""
  axes, shape, spacing = FILES[plane]
  voxels = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
  nib.save(nib.Nifti1Image(voxels, _affine(axes, spacing, turn_degrees)), path)
  series, code = nifti.read_series(path)
  assert code == nifti.ORIENTATION[plane]
  return nib.load(path), volume.conform(series, resize_to=resize, shape=SHAPE)


@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
@pytest.mark.parametrize("plane", FILES)
def test_a_token_lies_in_the_file_where_it_lies_in_the_patient(
    tmp_path, plane, turn_degrees):
  image, stored = _stored(tmp_path / "img.nii.gz", plane, turn_degrees)
  for token in ((0, 0, 0), (2, 0, 3), (1, 1, 2)):
    attention = np.zeros(GRID, np.float32)
    attention[token] = 1.0
    values = overlay.on_grid(attention, PATCH, stored.affine,
                             shape=image.shape, grid_affine=image.affine)
    box = overlay.box_on_grid(overlay.token_box(token, PATCH), stored.affine,
                              shape=image.shape, grid_affine=image.affine)
    hot = np.argwhere(values > 0.5 * values.max()).mean(0)
    assert all(a - 0.5 <= x <= b - 0.5 for x, (a, b) in zip(hot, box))


@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
@pytest.mark.parametrize("plane", FILES)
def test_attention_falls_linearly_from_the_centre_of_a_token(
    tmp_path, plane, turn_degrees):
  image, stored = _stored(tmp_path / "img.nii.gz", plane, turn_degrees)
  token = (1, 1, 2)                  # none of its sides is the volume's
  attention = np.zeros(GRID, np.float32)
  attention[token] = 1.0
  values = overlay.on_grid(attention, PATCH, stored.affine, shape=image.shape,
                           grid_affine=image.affine)
  centre = stored.affine @ [*overlay.token_centre(token, PATCH), 1]
  voxel = np.rint(np.linalg.solve(image.affine, centre)).astype(int)
  # What remains between voxel and centre, along the axes of the tokens.
  off = np.linalg.solve(stored.affine, image.affine @ voxel - centre)[:3]
  assert values[tuple(voxel[:3])] == pytest.approx(
      np.prod(1 - np.abs(off) / PATCH), abs=1e-5)  # float32
  box = overlay.box_on_grid(overlay.token_box(token, PATCH), stored.affine,
                            shape=image.shape, grid_affine=image.affine)
  assert all(a <= x < b for x, (a, b) in zip(voxel, box))


def test_on_the_stored_grid_it_is_the_interpolation_of_the_pictures(tmp_path):
  _, stored = _stored(tmp_path / "img.nii.gz", "axial", 20.0)
  attention = np.random.default_rng(1).uniform(size=GRID)
  values = overlay.on_grid(attention, PATCH, stored.affine, shape=SHAPE,
                           grid_affine=stored.affine)
  np.testing.assert_allclose(
      values, slices.upsample(attention, PATCH, list(range(SHAPE[0]))),
      rtol=1e-5)  # float32


def test_what_the_crop_cut_off_is_zero_and_the_rest_is_not(tmp_path):
  image, stored = _stored(tmp_path / "img.nii.gz", "axial", 0.0,
                          resize=(SHAPE[0], 2 * SHAPE[1], SHAPE[2]))
  values = overlay.on_grid(np.ones(GRID), PATCH, stored.affine,
                           shape=image.shape, grid_affine=image.affine)
  index = np.stack(np.meshgrid(*map(np.arange, image.shape), [1.0],
                               indexing="ij"), -1)[..., 0, :]
  at = index @ np.linalg.solve(stored.affine, image.affine).T
  shown = ((at[..., :3] > -0.5) & (at[..., :3] < np.subtract(SHAPE, 0.5))
           ).all(-1)
  assert 0.3 < shown.mean() < 0.7   # half of the rows are cut
  np.testing.assert_array_equal(values, shown)


def test_a_viewer_finds_the_original_geometry_and_no_name_of_a_patient(
    tmp_path):
  original = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16),
                             _affine("LAS", (1.0, 1.0, 5.0), 20.0))
  original.header.set_xyzt_units("mm", "sec")
  original.set_sform(original.affine, "talairach")
  original.set_qform(original.affine, "scanner")
  original.header.set_slope_inter(2.0, -10.0)
  original.header["db_name"] = b"Jane Doe"
  original.header.extensions.append(
      nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
  values = np.random.default_rng(0).uniform(size=(3, 4, 5))
  overlay.write(tmp_path / "a.nii", values, like=original, affine=np.eye(4),
                largest=2.0)
  made = nib.load(tmp_path / "a.nii")
  np.testing.assert_allclose(made.get_fdata(), values, rtol=1e-6)  # float32
  np.testing.assert_array_equal(made.get_sform(), original.get_sform())
  np.testing.assert_array_equal(made.get_qform(), original.get_qform())
  for code in ("qform_code", "sform_code", "xyzt_units"):
    assert made.header[code] == original.header[code]
  assert b"Jane" not in (tmp_path / "a.nii").read_bytes()
