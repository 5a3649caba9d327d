"""One MRI series, whatever file it comes in, on the contract's grid.

    img.nii.gz, img.nii     volumes/nifti.py
    a folder of slices      volumes/dicom.py
    img.pt                  a tensor that the published scripts wrote

A tensor holds 0..255 after the rule "percentiles" of volume.INTENSITY and axes
in HLIP's order, but no affine: its plane, its spacing and which side is left
cannot be told. Its record says so: the orientation is UNKNOWN, the spacing NaN,
and the affine gives the file's own voxels instead of millimetres.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from data_pipelines.volumes import dicom
from data_pipelines.volumes import nifti
from data_pipelines.volumes import torch_file
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import volume as volume_lib
from itemclip_jax.data.volume import Volume

TENSOR = "img.pt"
NAMES = ("img.nii.gz", "img.nii", TENSOR)
MODALITY = "MR"          # DICOM's word for it
UNKNOWN = "???"          # directions of +d, +h, +w

_TOP = 255.0
_ROUNDING = 0.5          # beyond 0..255: half precision


@dataclasses.dataclass(frozen=True)
class Grid:
  """How every series of a set is stored."""
  resize: tuple[int, int, int]     # D, H, W before the crop
  shape: tuple[int, int, int]
  intensity: str = "percentiles"   # a key of volume.INTENSITY
  stack_two: bool = False          # 4-D files, see nifti.read_series


@dataclasses.dataclass(frozen=True)
class Series:
  """A series as it is stored.

  Attributes:
    volume: uint8, with its affine.
    orientation: directions of +d, +h, +w.
    spacing_mm: [3] of the file along those axes; NaN where it does not say.
    notes: what was mended in reading it.
  """
  volume: Volume
  orientation: str
  spacing_mm: np.ndarray
  notes: tuple[str, ...] = ()


def find_name(folder: pathlib.Path) -> str | None:
  """Which of `NAMES` a series has; the first that is there."""
  return next((n for n in NAMES if (folder / n).is_file()), None)


def find(folder: pathlib.Path) -> pathlib.Path:
  """The file of a series, or the folder itself where it holds slices."""
  if name := find_name(folder):
    return folder / name
  if not folder.is_dir() or not any(folder.iterdir()):
    raise SeriesError("the file is missing")
  return folder


def read(path: pathlib.Path, grid: Grid) -> Series:
  """Reads and conforms what `find` found.

  Raises:
    SeriesError, ValueError: it cannot be used; the text is the reason.
  """
  if path.is_dir():
    with _damage_told():
      headers = _one_series(path)
    return read_slices(headers, grid)
  with _damage_told():
    if path.suffix == ".pt":
      return _read_tensor(path, grid)
    source, code = nifti.read_series(path, stack_two=grid.stack_two)
  return _conformed(source, code, grid)


def read_slices(headers: Sequence[dicom.Header], grid: Grid) -> Series:
  """Reads and conforms the DICOM files of one series; errors as of `read`."""
  with _damage_told():
    found = dicom.read_series(headers, modality=MODALITY)
    source, code = nifti.to_plane(found.volume)
  return _conformed(source, code, grid, found.notes)


@contextlib.contextmanager
def _damage_told():
  try:
    yield
  except SeriesError:
    raise
  except Exception as error:  # damage has more forms than decoders name
    # Without its message, which may quote the header.
    raise SeriesError(f"unreadable ({type(error).__name__})") from error


def _conformed(source: Volume, code: str, grid: Grid,
               notes: tuple[str, ...] = ()) -> Series:
  stored = volume_lib.conform(source, resize_to=grid.resize, shape=grid.shape,
                              intensity=grid.intensity)
  return Series(stored, code, source.spacing_mm, notes)


def _read_tensor(path: pathlib.Path, grid: Grid) -> Series:
  if grid.intensity != "percentiles":
    raise SeriesError("its intensities are percentiles already, and "
                      f"--intensity={grid.intensity} wants raw ones")
  voxels = torch_file.read_tensor(path).astype(np.float32)
  if voxels.ndim == 4 and len(voxels) == 1:  # with the axis of channels
    voxels = voxels[0]
  if voxels.ndim != 3 or min(voxels.shape) < 2:
    raise SeriesError(f"shape {voxels.shape}, want three axes of at least 2")
  low, high = float(voxels.min()), float(voxels.max())
  if not (-_ROUNDING <= low < high <= _TOP + _ROUNDING):  # NaN as well
    raise SeriesError(f"values from {low:g} to {high:g}, want 0..{_TOP:g}")
  volume = Volume(voxels, np.eye(4))
  if volume.shape != grid.shape:
    volume = volume_lib.to_grid(
        volume, resize_to=grid.resize, shape=grid.shape)
  stored = np.rint(volume.voxels).clip(0, _TOP).astype(np.uint8)
  return Series(Volume(stored, volume.affine), UNKNOWN, np.full(3, np.nan))


def _one_series(folder: pathlib.Path) -> list[dicom.Header]:
  """The headers of a folder that holds the slices of one series."""
  headers, _ = dicom.find_headers(folder)
  if not headers:
    raise SeriesError(f"the folder holds no DICOM file and none of "
                      f"{', '.join(NAMES)}")
  groups = dicom.group(headers)
  usable = [g for g in groups if any(h.fault is None for h in g)]
  if len(usable) > 1:
    raise SeriesError(f"{len(usable)} series in one folder, want one")
  return (usable or groups)[0]
