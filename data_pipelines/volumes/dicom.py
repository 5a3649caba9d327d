"""A folder of DICOM files -> CT series in Hounsfield units.

Where a slice lies is read from ImagePositionPatient and ImageOrientationPatient
alone: SliceThickness, SpacingBetweenSlices, InstanceNumber and the names of the
files are often wrong. Whatever cannot be trusted is left out with a reason.

Privacy: of a header only the tags below are parsed, and of those only geometry
(in the affine) leaves this file. Reasons count slices and tell numbers, never a
text of the header but the modality, nor the name of a file.

Source: DICOM PS3.3, C.7.6.2 (image plane) and C.11.1 (modality LUT).
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import pydicom
from pydicom import errors as pydicom_errors

from data_pipelines.volumes import dicom_pixels
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume

MIN_SLICES = 3           # with fewer, nobody can tell that one is missing
MAX_TILT_DEGREES = 5.0   # of the stack against the normal of its slices

_NOTED_TILT = 0.1        # degrees; less is rounding of the positions
_EVEN_GAPS = 0.1         # deviation of a gap, in parts of the median one
_ROUNDING_MM = 1e-3      # positions are texts of at most 16 characters
_SAME_PLACE = 0.02       # in parts of the median gap: nearer slices coincide
_PARALLEL = 1e-3         # largest difference of direction cosines

_TAGS = (
    "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"   # and its multi-frame kin


@dataclasses.dataclass(frozen=True)
class Header:
  """What sorting needs to know of one file; stays within the process."""
  path: pathlib.Path
  study: str                 # identifiers: to group by, not to be stored
  series: str
  modality: str
  fault: str | None          # why the file is no slice of a volume; then
  size: tuple[int, int] = (0, 0)          # none of these: rows, columns
  pixel_mm: np.ndarray | None = None      # [2] between rows, between columns
  position: np.ndarray | None = None      # [3] LPS mm of the first pixel
  axes: np.ndarray | None = None          # [2, 3] of +column and of +row, LPS


@dataclasses.dataclass(frozen=True)
class Series:
  """One stack of slices; depth along its normal, from feet, right or front.

  Attributes:
    volume: float32 Hounsfield units, affine (slice, row, column) -> RAS mm.
    source: its first file.
    notes: what was mended, e.g. a duplicate slice.
  """
  volume: Volume
  source: pathlib.Path
  notes: tuple[str, ...]


def read_header(path: pathlib.Path) -> Header | None:
  """Returns None where the file is not DICOM."""
  with dicom_pixels.quiet():  # anonymised identifiers break the norm
    try:
      tags = pydicom.dcmread(path, stop_before_pixels=True,
                             specific_tags=list(_TAGS))
      # Geometry that a file lacks or garbles is told by its fault.
      fault = _fault(tags)
      place = {} if fault else {
          "size": (int(tags.Rows), int(tags.Columns)),
          "pixel_mm": _floats(tags.PixelSpacing, 2),
          "position": _floats(tags.ImagePositionPatient, 3),
          "axes": _floats(tags.ImageOrientationPatient, 6).reshape(2, 3)}
      return Header(
          path, str(tags.get("StudyInstanceUID", "")),
          str(tags.get("SeriesInstanceUID", "")),
          str(tags.get("Modality", "")), fault, **place)
    except pydicom_errors.InvalidDicomError:
      return None
    except (OSError, EOFError, ValueError, TypeError, AttributeError,
            NotImplementedError) as error:
      return Header(path, "", "", "",
                    f"a damaged header ({type(error).__name__})")


def find_headers(
    folder: pathlib.Path) -> tuple[list[Header], list[pathlib.Path]]:
  """Headers of all DICOM files below `folder`, and the files that are none."""
  headers, others = [], []
  for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    header = read_header(path)
    if header is None:
      others.append(path)
    else:
      headers.append(header)
  return headers, others


def group(headers: Iterable[Header]) -> list[list[Header]]:
  """Headers of one series each, in the order of their first file."""
  series = collections.defaultdict(list)
  for header in headers:
    # Files of different folders are copies or belong to different exports.
    series[header.series, header.path.parent].append(header)
  return list(series.values())


def read_ids(
    paths: Sequence[pathlib.Path]) -> list[tuple[str, str] | None]:
  """(study, patient) of each file, None where it names none.

  Only for public sets whose identifiers are made up: nothing else may put them
  into a record.
  """
  found = []
  for path in paths:
    try:
      with dicom_pixels.quiet():
        tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[
            "StudyInstanceUID", "PatientID"])
      study = str(tags.get("StudyInstanceUID", ""))
      found.append((study, str(tags.get("PatientID") or study))
                   if study else None)
    except (OSError, EOFError, ValueError, pydicom_errors.InvalidDicomError):
      found.append(None)
  return found


def arrange(
    headers: Sequence[Header],
    *,
    modality: str = "CT",
    max_tilt: float = MAX_TILT_DEGREES,
) -> tuple[list[Header], np.ndarray, tuple[str, ...]]:
  """The slices of one series in order, their affine, and what was mended.

  The affine [4, 4] is that of (slice, row, column) -> RAS mm.

  Raises:
    SeriesError: they are no volume of that modality that can be trusted.
  """
  slices, notes = _usable(headers, modality)
  _require_alike(slices)
  slices, order_notes = _ordered(slices)
  affine, geometry_notes = _affine(slices, max_tilt)
  return slices, affine, (*notes, *order_notes, *geometry_notes)


def read_series(headers: Sequence[Header], **options) -> Series:
  """Reads and stacks the slices; arguments and errors are those of `arrange`.
  """
  slices, affine, notes = arrange(headers, **options)
  voxels = np.stack([dicom_pixels.read(s.path) for s in slices])
  return Series(Volume(voxels, affine), slices[0].path, notes)


def _fault(tags: pydicom.Dataset) -> str | None:
  kinds = [str(kind).strip().upper() for kind in tags.get("ImageType") or ()]
  if str(tags.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
    return "a secondary capture"
  if "LOCALIZER" in kinds or "SCOUT" in kinds:
    return "a localiser"
  if not tags.get("Rows") or not tags.get("Columns"):
    return "no image"
  if int(tags.get("NumberOfFrames") or 1) > 1:
    return "several frames in one file; export one file a slice"
  if int(tags.get("SamplesPerPixel") or 1) != 1 or not str(
      tags.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
    return "a colour image"
  for name in ("ImagePositionPatient", "ImageOrientationPatient",
               "PixelSpacing"):
    if not tags.get(name):
      return f"no {name}"
  if min(_floats(tags.PixelSpacing, 2)) <= 0:
    return "a PixelSpacing that is not positive"
  axes = _floats(tags.ImageOrientationPatient, 6).reshape(2, 3)
  if np.abs(axes @ axes.T - np.eye(2)).max() > _PARALLEL * 10:
    return "an ImageOrientationPatient that is no pair of right-angled axes"
  return None


def _floats(values, count: int) -> np.ndarray:
  numbers = np.array([float(v) for v in values])
  if len(numbers) != count or not np.isfinite(numbers).all():
    raise ValueError(f"{len(numbers)} numbers, want {count} finite ones")
  return numbers


def _usable(
    headers: Sequence[Header], modality: str
) -> tuple[list[Header], list[str]]:
  if other := {h.modality or "unknown" for h in headers
               if not h.fault and h.modality != modality}:
    raise SeriesError(f"modality {', '.join(sorted(other))}, want {modality}")
  faults = collections.Counter(h.fault for h in headers if h.fault)
  told = [f"{_files(count)}: {fault}" for fault, count in faults.items()]
  slices = [h for h in headers if not h.fault]
  if not slices:
    raise SeriesError("; ".join(told))
  if len(slices) < MIN_SLICES:
    raise SeriesError("; ".join([
        f"{_files(len(slices))} in the series, want at least {MIN_SLICES}",
        *told]))
  return slices, [f"left out {line}" for line in told]


def _require_alike(slices: list[Header]):
  """Raises unless all slices have one size, spacing and orientation."""
  sizes = collections.Counter(s.size for s in slices)
  if len(sizes) > 1:
    raise SeriesError("mixed sizes: " + ", ".join(
        f"{_files(n)} of {h} x {w}" for (h, w), n in sizes.most_common()))
  for what, name, far in (("axes", "orientations", _PARALLEL),
                          ("pixel_mm", "pixel spacings", _PARALLEL)):
    first = getattr(slices[0], what)
    others = sum(np.abs(getattr(s, what) - first).max() > far for s in slices)
    if others:
      raise SeriesError(f"mixed {name}: {others} of {len(slices)} slices "
                        "differ from the first one")


def _ordered(slices: list[Header]) -> tuple[list[Header], list[str]]:
  """Sorts along the normal; drops copies, refuses what else coincides."""
  normal = _normal(slices[0])
  at = np.array([normal @ s.position for s in slices])
  # Files in another order must give the same volume, hence the second key.
  order = sorted(range(len(at)), key=lambda i: (at[i], slices[i].path.name))
  at, slices = at[order], [slices[i] for i in order]
  gaps = np.diff(at)
  real = gaps[gaps > _ROUNDING_MM]
  if not real.size:
    raise SeriesError("all slices lie at the same place")
  same = np.flatnonzero(gaps <= _SAME_PLACE * np.median(real))
  for i in same:
    copies = [dicom_pixels.read(slices[j].path) for j in (i, i + 1)]
    if not np.array_equal(*copies):
      raise SeriesError(
          f"{len(same)} of {len(slices)} slices share their place with another "
          "one of other pixels: several scans in one series")
  kept = np.delete(np.arange(len(slices)), same + 1)
  if len(kept) < MIN_SLICES:
    raise SeriesError(f"{len(kept)} slices at different places, want at least "
                      f"{MIN_SLICES}")
  gaps = np.diff(at[kept])
  spacing = np.median(gaps)
  uneven = np.abs(gaps - spacing) > _EVEN_GAPS * spacing
  if uneven.any():
    raise SeriesError(
        f"uneven gaps: {uneven.sum()} of {len(gaps)} differ from {spacing:.3g} "
        f"mm, the largest is {gaps.max():.3g} mm: slices are missing")
  notes = [f"dropped {len(same)} duplicate slices"] if same.size else []
  return [slices[i] for i in kept], notes


def _affine(
    slices: list[Header], max_tilt: float) -> tuple[np.ndarray, list[str]]:
  """[4, 4] (slice, row, column) -> RAS mm; sheared where the gantry tilts."""
  first, normal = slices[0], _normal(slices[0])
  positions = np.stack([s.position for s in slices])
  step = (positions[-1] - positions[0]) / (len(slices) - 1)
  line = positions[0] + np.arange(len(slices))[:, None] * step
  stray = np.linalg.norm((positions - line) @ first.axes.T, axis=1).max()
  if stray > 2 * first.pixel_mm.max():
    raise SeriesError(f"the slices do not lie on one line: one is {stray:.3g} "
                      "mm beside it")
  tilt = np.degrees(np.arccos(np.clip(
      normal @ step / np.linalg.norm(step), -1, 1)))
  if tilt > max_tilt:
    raise SeriesError(f"gantry tilt of {tilt:.1f} degrees, want at most "
                      f"{max_tilt:g}")
  affine = np.eye(4)
  affine[:3, 0] = step
  affine[:3, 1] = first.axes[1] * first.pixel_mm[0]
  affine[:3, 2] = first.axes[0] * first.pixel_mm[1]
  affine[:3, 3] = first.position
  affine[:2] *= -1  # DICOM's x runs to the left and its y to the back
  notes = ([f"gantry tilt of {tilt:.1f} degrees, kept in the affine"]
           if tilt > _NOTED_TILT else [])
  return affine, notes


def _normal(header: Header) -> np.ndarray:
  return np.cross(header.axes[0], header.axes[1])


def _files(count: int) -> str:
  return f"{count} slice" if count == 1 else f"{count} slices"
