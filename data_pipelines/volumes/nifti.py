"""A NIfTI file -> one series with its acquisition axis as depth.

HLIP's rule for brain MRI: axes run to the patient's right, back and feet, and
the axis of the largest spacing becomes the depth. The order in the plane is
then fixed for each plane, so that heads stand upright and the patient's left
is on the left:

    plane      depth to    rows to     columns to
    axial      feet (I)    back (P)    right (R)
    coronal    back (P)    feet (I)    right (R)
    sagittal   right (R)   feet (I)    back (P)

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
"""

import pathlib
import zlib

import nibabel as nib
from nibabel import orientations
import numpy as np

from itemclip_jax.data.volume import Volume

# plane -> directions of +d, +h, +w
ORIENTATION = {"axial": "IPR", "coronal": "PIR", "sagittal": "RIP"}

# patient axis (R, A, S) along which the slices are stacked -> plane
_PLANES = ("sagittal", "coronal", "axial")

# Spacings within this factor of the largest count as equal: a 3-D acquisition,
# which becomes axial.
_SAME_SPACING = 0.99


class SeriesError(Exception):
  """This series cannot be stored; the text is the reason in the log."""


def read_series(
    path: pathlib.Path, *, stack_two: bool = False) -> tuple[Volume, str]:
  """Reads one series; returns it and its orientation, e.g. "IPR".

  Oblique slices keep their exact affine and take the nearest plane.

  Args:
    path: of the file.
    stack_two: take a 4-D file as well, its volumes 0 and 1 one behind the other
      along the depth; the affine is that of volume 0.

  Raises:
    SeriesError: not a readable 3-D NIfTI file with a known position.
  """
  image = _load(path, num_axes=(3, 4) if stack_two else (3,))
  # float32 holds every 16-bit value; the header's slope is applied here.
  if image.ndim == 3:
    return to_plane(Volume(_voxels(image.dataobj, np.float32), image.affine))
  raw = _voxels(image.dataobj, np.float32, slice(2))
  parts = [to_plane(Volume(raw[..., i], image.affine))
           for i in range(raw.shape[-1])]
  (first, code), voxels = parts[0], [part.voxels for part, _ in parts]
  return Volume(np.concatenate(voxels), first.affine), code


def to_plane(volume: Volume) -> tuple[Volume, str]:
  """Turns the axes as HLIP's rule has them; moves no voxel."""
  stored_as = orientations.io_orientation(volume.affine)
  code = ORIENTATION[_plane(volume.affine, stored_as[:, 0].astype(int))]
  change = orientations.ornt_transform(
      stored_as, orientations.axcodes2ornt(code))
  affine = volume.affine @ orientations.inv_ornt_aff(change, volume.shape)
  return Volume(
      orientations.apply_orientation(volume.voxels, change), affine), code


def read_labels(path: pathlib.Path) -> Volume:
  """Reads an integer label map in the axis order of its file."""
  image = _load(path)
  return Volume(_voxels(image.dataobj, np.uint8), image.affine)


def _voxels(stored, dtype, last: slice | None = None) -> np.ndarray:
  """Reads the file's numbers, or those of a part of the last axis."""
  try:
    return np.asarray(stored if last is None else stored[..., last], dtype)
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise SeriesError(f"unreadable voxels ({type(error).__name__})") from error


def _load(
    path: pathlib.Path, num_axes: tuple[int, ...] = (3,)) -> nib.Nifti1Image:
  try:
    image = nib.load(path)
  except FileNotFoundError as error:
    raise SeriesError("the file is missing") from error
  except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError,
          nib.spatialimages.HeaderDataError) as error:
    raise SeriesError(f"not a NIfTI file ({type(error).__name__})") from error
  if image.ndim not in num_axes or min(image.shape[:3]) < 2:
    raise SeriesError(f"shape {image.shape}, want three axes of at least 2")
  # Without either code the affine is a guess and left may be right.
  if not image.header["qform_code"] and not image.header["sform_code"]:
    raise SeriesError("neither qform nor sform says where the patient is")
  if (not abs(np.linalg.det(image.affine[:3, :3])) >= 1e-6  # NaN as well
      or np.isnan(orientations.io_orientation(image.affine)).any()):
    raise SeriesError("the affine is singular")
  return image


def _plane(affine: np.ndarray, patient_axis: np.ndarray) -> str:
  """Names the plane whose normal is the axis of the largest spacing.

  Args:
    affine: [4, 4] of the file.
    patient_axis: [3] in {0, 1, 2}, the axis of R, A, S nearest to each.
  """
  spacing = np.linalg.norm(affine[:3, :3], axis=0)
  return _PLANES[max(
      patient_axis[spacing >= _SAME_SPACING * spacing.max()])]
