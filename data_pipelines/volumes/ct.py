"""The Hounsfield contract of CT: what a number means, where a voxel lies.

All CT volumes get one array order, "SPL": depth from feet to head, rows from
front to back, columns from the patient's right to the left. That is how a
slice is looked at, and what the published chest CT loaders see.

    chest   Hounsfield units, int16, 3 x 1 x 1 mm, whole field of view
    head    three windows -> 0..255, uint8, HLIP's grid (volume.to_grid)

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
"""

import pathlib
import zlib
from typing import Literal

import nibabel as nib
from nibabel import orientations
import numpy as np

from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import volume as volume_lib
from itemclip_jax.data.volume import Volume

ORIENTATION = {"axial": "SPL"}
SPACING_MM = (3.0, 1.0, 1.0)            # of chest CT, D, H, W

# Air has a value of its own in Hounsfield units, and no other number of a
# scanner has the same: that is how a scale is recognised.
_AIR = (-1100.0, -900.0)
_AIR_SHARE = 1e-3        # of the voxels: less is chance
_TISSUE_FROM = -300.0    # something has to be more than lung
_BRIGHTEST = 4000.0      # 12 bits end at 3071, metal may go on
_BRIGHT_SHARE = 0.02
_BELOW_AIR_SHARE = 0.05  # but for one value, the padding around the image
_PADDING_SHARE = 0.6
_SAMPLE = 2_000_000      # voxels looked at, about


def to_canonical(
    volume: Volume, code: str = ORIENTATION["axial"]) -> Volume:
  """Flips and permutes axes until they run as `code` says; moves no voxel."""
  stored = orientations.io_orientation(volume.affine)
  change = orientations.ornt_transform(
      stored, orientations.axcodes2ornt(tuple(code)))
  return Volume(
      orientations.apply_orientation(volume.voxels, change),
      volume.affine @ orientations.inv_ornt_aff(change, volume.shape))


def require_axial(volume: Volume):
  """Raises where depth, the slice axis, runs nearest to left or back."""
  axis = orientations.io_orientation(volume.affine)[0, 0]
  if axis != 2:
    plane = ("sagittal", "coronal")[int(axis)]
    raise SeriesError(f"{plane} slices, want axial ones")


def implausible(hounsfield: np.ndarray) -> str | None:
  """Why these cannot be Hounsfield units of a patient in air, or None."""
  some = _sample(hounsfield).astype(np.float32)
  if not np.isfinite(some).all():
    return "values that are not finite"
  low, high = float(some.min()), float(some.max())
  seen = f"values from {low:.0f} to {high:.0f}"
  if np.mean((some >= _AIR[0]) & (some <= _AIR[1])) < _AIR_SHARE:
    return f"{seen}, but no air near -1000"
  if high < _TISSUE_FROM:
    return f"{seen}: air and nothing else"
  if np.mean(some > _BRIGHTEST) > _BRIGHT_SHARE:
    return f"{seen}: too many above {_BRIGHTEST:.0f}"
  below = some < _AIR[0]
  spread = np.mean(below & (some > low))
  if spread > _BELOW_AIR_SHARE or below.mean() > _PADDING_SHARE:
    return f"{seen}: {below.mean():.0%} are less than air"
  return None


def factors(
    stored: np.ndarray,   # [D, H, W] numbers of the file
    *,
    slope: float,
    intercept: float,
    scale: Literal["auto", "stored", "hounsfield"] = "auto",
) -> tuple[float, float]:
  """Returns the slope and intercept that make Hounsfield units of a file.

  The first release of CT-RATE holds the scanner's numbers, whose slope and
  intercept stand in a table; the second holds Hounsfield units, and the table
  still says the same. Rescaled twice, a volume is shifted by 1024 or 8192.

  Args:
    stored: as read.
    slope: of the table.
    intercept: of the table.
    scale: what the file holds: the scanner's numbers, Hounsfield units, or
      what looks right, Hounsfield units where both do.

  Raises:
    SeriesError: neither reading gives plausible Hounsfield units.
  """
  readings = {"hounsfield": (1.0, 0.0), "stored": (slope, intercept)}
  if scale != "auto":
    readings = {scale: readings[scale]}
  some, reasons = _sample(stored), []
  for name, (a, b) in readings.items():
    reason = implausible(volume_lib.hounsfield(some, slope=a, intercept=b))
    if reason is None:
      return a, b
    reasons.append(f"as {name}: {reason}")
  raise SeriesError(f"no Hounsfield units ({'; '.join(reasons)})")


def _sample(voxels: np.ndarray) -> np.ndarray:
  """Every n-th voxel along each axis."""
  step = max(1, int(np.ceil((voxels.size / _SAMPLE) ** (1 / voxels.ndim))))
  return voxels[(slice(None, None, step),) * voxels.ndim]


def read_nifti(path: pathlib.Path) -> tuple[Volume, bool]:
  """Reads a 3-D file in its own axis order.

  Returns:
    The volume as stored, the header's slope applied, and whether the header
    says where the patient is; if not, its affine is a guess.

  Raises:
    SeriesError: it cannot be read or is not 3-D.
  """
  try:
    image = nib.load(path)
    if image.ndim != 3 or min(image.shape) < 2:
      raise SeriesError(f"shape {image.shape}, want three axes of at least 2")
    voxels = np.asanyarray(image.dataobj)
  except FileNotFoundError as error:
    raise SeriesError("the file is missing") from error
  except (OSError, EOFError, ValueError, zlib.error,
          nib.filebasedimages.ImageFileError,
          nib.spatialimages.HeaderDataError) as error:
    raise SeriesError(
        f"not a readable NIfTI file ({type(error).__name__})") from error
  if voxels.dtype.kind not in "iuf":
    raise SeriesError(f"voxels of {voxels.dtype}, want numbers")
  placed = bool(image.header["qform_code"] or image.header["sform_code"])
  placed &= bool(abs(np.linalg.det(image.affine[:3, :3])) >= 1e-6)
  return Volume(voxels, image.affine), placed


def chest(
    volume: Volume,
    slope: float = 1.0,
    intercept: float = 0.0,
    *,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Volume:
  """Any grid -> Hounsfield units, int16, canonical order, one spacing."""
  volume = volume_lib.resample(to_canonical(volume), spacing_mm)
  # After the resampling, which it commutes with: a tenth of the voxels.
  return to_int16(Volume(volume_lib.hounsfield(
      volume.voxels, slope=slope, intercept=intercept), volume.affine))


def to_int16(volume: Volume) -> Volume:
  """Rounds to whole Hounsfield units."""
  limits = np.iinfo(np.int16)
  return Volume(
      np.rint(volume.voxels).clip(limits.min, limits.max).astype(np.int16),
      volume.affine)


def thinned(volume: Volume, depth: int) -> Volume:
  """The slices that HLIP's grid takes, in canonical order; float32."""
  volume = to_canonical(volume)
  return volume_lib.resize(volume, (depth, *volume.shape[1:]))


def head_view(
    volume: Volume,                    # Hounsfield units
    window: tuple[float, float],       # level, width
    *,
    resize_to: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> Volume:
  """One window -> 0..255, uint8, in canonical order on HLIP's grid."""
  level, width = window
  # The window first: resizing would blend bone into brain.
  view = volume_lib.clip_to_window(to_canonical(volume), window)
  view = Volume((view.voxels - np.float32(level - width / 2))
                * np.float32(255 / width), view.affine)
  view = volume_lib.to_grid(view, resize_to=resize_to, shape=shape)
  return Volume(np.rint(view.voxels).astype(np.uint8), view.affine)
