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


def read_series(path: pathlib.Path) -> tuple[Volume, str]:
  """Reads one series; returns it and its orientation, e.g. "IPR".

  Oblique slices keep their exact affine and take the nearest plane.

  Raises:
    SeriesError: not a readable 3-D NIfTI file with a known position.
  """
  image = _load(path)
  stored_as = orientations.io_orientation(image.affine)
  code = ORIENTATION[_plane(image.affine, stored_as[:, 0].astype(int))]
  change = orientations.ornt_transform(
      stored_as, orientations.axcodes2ornt(code))
  # float32 holds every 16-bit value; the header's slope is applied here.
  raw = _voxels(image, np.float32)
  voxels = orientations.apply_orientation(raw, change)
  affine = image.affine @ orientations.inv_ornt_aff(change, image.shape)
  return Volume(voxels, affine), code


def read_labels(path: pathlib.Path) -> Volume:
  """Reads an integer label map in the axis order of its file."""
  image = _load(path)
  return Volume(_voxels(image, np.uint8), image.affine)


def _voxels(image: nib.Nifti1Image, dtype) -> np.ndarray:
  try:
    return np.asarray(image.dataobj, dtype=dtype)
  except (OSError, EOFError, ValueError, zlib.error) as error:
    raise SeriesError(f"unreadable voxels ({type(error).__name__})") from error


def _load(path: pathlib.Path) -> nib.Nifti1Image:
  try:
    image = nib.load(path)
  except FileNotFoundError as error:
    raise SeriesError("the file is missing") from error
  except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError,
          nib.spatialimages.HeaderDataError) as error:
    raise SeriesError(f"not a NIfTI file ({type(error).__name__})") from error
  if image.ndim != 3 or min(image.shape) < 2:
    raise SeriesError(f"shape {image.shape}, want three axes of at least 2")
  # Without either code the affine is a guess and left may be right.
  if not image.header["qform_code"] and not image.header["sform_code"]:
    raise SeriesError("neither qform nor sform says where the patient is")
  if not abs(np.linalg.det(image.affine[:3, :3])) >= 1e-6:  # NaN as well
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
