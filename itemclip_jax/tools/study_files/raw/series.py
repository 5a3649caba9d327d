"""One series that was read, and the original that it came from."""

import dataclasses
import pathlib
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from data_pipelines.volumes import dicom
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume
from itemclip_jax.tools.study_files.raw import files

_MAX_FILES = 5000        # beside a slice: more than a study has
_ANY_TILT = 90.0         # degrees; who read the voxels has judged it


@dataclasses.dataclass(frozen=True)
class Origin:
  """The original of a series.

  Attributes:
    path: its file, or the folder of its slices.
    geometry: shape and affine [4, 4] (index -> RAS mm) of its own grid: that
      of the NIfTI file, or (slice, row, column); None: not known.
    dicom: its slices in that order; () where it is no DICOM.
  """
  path: pathlib.Path
  geometry: tuple[tuple[int, int, int], np.ndarray] | None = None
  dicom: tuple[pathlib.Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Series:
  """One series; the volume [D, H, W] is as a record stores it."""
  name: str
  volume: Volume
  origin: Origin


def left_out(name: str, reason) -> str:
  """The note on a series that cannot be used."""
  return f"Series {name} is left out: {reason}."


def origin(found: files.Found) -> Origin:
  """The original of a series that was read."""
  return _of_stack(found.headers) if found.headers else _of_file(found.path)


def find_origin(path: pathlib.Path) -> Origin | None:
  """The original that a record names by its file, folder or first slice.

  Returns None where it cannot be told any more.
  """
  try:
    if path.is_dir():
      headers, _ = dicom.find_headers(path)
      groups = [g for g in dicom.group(headers) if any(not h.fault for h in g)]
      return _of_stack(groups[0]) if len(groups) == 1 else None
    first = dicom.read_header(path)
    if first is None:
      return _of_file(path)
    beside = [p for p in path.parent.iterdir() if p.is_file()]
    if len(beside) > _MAX_FILES:
      return None
    headers = filter(None, map(dicom.read_header, sorted(beside)))
    return _of_stack([h for h in headers if h.series == first.series])
  except (OSError, SeriesError, nib.filebasedimages.ImageFileError):
    return None


def _of_stack(headers: Sequence[dicom.Header]) -> Origin:
  """Raises SeriesError where the slices are no stack."""
  modality = next((h.modality for h in headers if not h.fault), "")
  slices, affine, _ = dicom.arrange(
      headers, modality=modality, max_tilt=_ANY_TILT)
  return Origin(slices[0].path.parent, ((len(slices), *slices[0].size), affine),
                tuple(s.path for s in slices))


def _of_file(path: pathlib.Path) -> Origin:
  if not path.name.endswith(files.NIFTI):
    return Origin(path)
  image = nib.load(path)
  # Without either code the affine is a guess.
  placed = image.header["qform_code"] or image.header["sform_code"]
  return Origin(path, (image.shape[:3], image.affine) if placed else None)
