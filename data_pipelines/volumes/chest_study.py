"""One chest CT file -> the features of its record: NIfTI, `.pt` or `.npz`."""

import dataclasses
import json
import zipfile
from typing import Any

import numpy as np

from data_pipelines.result import Result
from data_pipelines.volumes import ct
from data_pipelines.volumes import ct_study
from data_pipelines.volumes import torch_file
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume

SERIES_NAME = "CHEST"
_SAME_SPACING = 0.02    # relative: tables are rounded
_RAD_SPACING_MM = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(ct_study.Job):
  """Attributes:
    file: below `root`.
    metadata: its row of CT-RATE's metadata table; {} where there is none.
    scale: what a NIfTI file holds, see `ct.factors`.
    stored_as: axis directions of an array that comes without an affine.
    spacing_mm: D, H, W as stored.
  """
  file: str
  metadata: dict[str, str] = dataclasses.field(default_factory=dict)
  scale: str = "auto"
  stored_as: str = ct.ORIENTATION["axial"]
  spacing_mm: tuple[float, float, float] = ct.SPACING_MM


def make_record(job: Job) -> Result:
  """Reads, checks and resamples one volume; never raises for bad data."""
  try:
    volume, spacing, notes = read(job)
    series = ct_study.Stored(
        SERIES_NAME, volume, spacing, job.root / job.file)
    record = ct_study.make_record(job, [series], ct.ORIENTATION["axial"])
    return Result(job.study, record, tuple(
        ct_study.line(job, note=note) for note in notes))
  except (SeriesError, ValueError) as error:
    return Result(job.study, None, (
        ct_study.line(job, reason=str(error)),))


def read(job: Job) -> tuple[Volume, np.ndarray, list[str]]:
  """Returns the voxels as stored, the spacing of the file [3], and notes.

  Raises:
    SeriesError, ValueError: it cannot be used; the text is the reason.
  """
  path = job.root / job.file
  reader = {".npz": _read_npz, ".pt": _read_pt}.get(path.suffix, _read_nifti)
  return reader(path, job)


def _read_nifti(path, job: Job) -> tuple[Volume, np.ndarray, list[str]]:
  volume, placed = ct.read_nifti(path)
  volume, note = _placed(volume, placed, job.metadata)
  slope, intercept = (_number(job.metadata, name)
                      for name in ("RescaleSlope", "RescaleIntercept"))
  unknown = None in (slope, intercept)
  volume = ct.to_canonical(volume)
  slope, intercept = ct.factors(
      volume.voxels, slope=slope, intercept=intercept,
      scale="hounsfield" if unknown else job.scale)
  stored = ct.chest(volume, slope, intercept, spacing_mm=job.spacing_mm)
  return stored, volume.spacing_mm, [note] if note else []


def _read_npz(path, job: Job) -> tuple[Volume, np.ndarray, list[str]]:
  """Rad-ChestCT: an array of Hounsfield units without a header."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      voxels = arrays["ct"]
  except FileNotFoundError as error:
    raise SeriesError("the file is missing") from error
  except (OSError, EOFError, ValueError, KeyError,
          zipfile.BadZipFile) as error:
    raise SeriesError(
        f"no array `ct` to be read ({type(error).__name__})") from error
  if voxels.ndim != 3 or min(voxels.shape) < 2:
    raise SeriesError(f"shape {voxels.shape}, want three axes of at least 2")
  if reason := ct.implausible(voxels):
    raise SeriesError(f"no Hounsfield units ({reason})")
  volume = ct.to_canonical(Volume(
      voxels, _unplaced(job.stored_as, (_RAD_SPACING_MM,) * 3)))
  return ct.chest(volume, spacing_mm=job.spacing_mm), volume.spacing_mm, []


def _read_pt(path, job: Job) -> tuple[Volume, np.ndarray, list[str]]:
  """HLIP's preprocessed volume: Hounsfield units that are resampled already."""
  voxels = torch_file.read_tensor(path)
  voxels = voxels.reshape([n for i, n in enumerate(voxels.shape)
                           if n > 1 or i >= voxels.ndim - 3])
  if voxels.ndim != 3 or min(voxels.shape) < 2:
    raise SeriesError(f"shape {voxels.shape}, want three axes of at least 2")
  if reason := ct.implausible(voxels):
    raise SeriesError(f"no Hounsfield units ({reason})")
  if tuple(job.spacing_mm) != ct.SPACING_MM:
    raise SeriesError(f"a tensor of {_mm(ct.SPACING_MM)}, want "
                      f"{_mm(job.spacing_mm)}")
  stated = _table_geometry(job.metadata)
  if stated is None:
    affine = _unplaced(job.stored_as, ct.SPACING_MM)
    return (ct.to_int16(ct.to_canonical(Volume(voxels, affine))),
            np.array(ct.SPACING_MM),
            ["no metadata: the place in the patient is unknown"])
  affine, shape = stated                      # of the file it was made from
  affine, shape = affine[:, [2, 1, 0, 3]], shape[::-1]
  ratio = np.divide(shape, voxels.shape)
  step = np.diag([*ratio, 1.0])
  step[:3, 3] = ratio / 2 - 0.5               # as volume.resize
  volume = ct.to_canonical(Volume(voxels, affine @ step))
  if np.any(np.abs(volume.spacing_mm / ct.SPACING_MM - 1) > 0.05):
    raise SeriesError(f"voxels of {_mm(volume.spacing_mm)}, want "
                      f"{_mm(ct.SPACING_MM)}")
  source = ct.to_canonical(Volume(np.broadcast_to(0, shape), affine))
  return ct.to_int16(volume), source.spacing_mm, []


def _placed(
    volume: Volume, placed: bool, metadata: dict[str, str]
) -> tuple[Volume, str | None]:
  """Trusts the header, or the table where the header was never filled in.

  Raises:
    SeriesError: neither says where the patient is, or they disagree.
  """
  stated = _table_geometry(metadata)
  if stated is None:
    if not placed:
      raise SeriesError("neither the header nor a metadata table says where "
                        "the patient is")
    return volume, None
  affine, shape = stated
  table = Volume(np.broadcast_to(0, shape), affine)
  ours, theirs = (ct.to_canonical(v).spacing_mm if np.linalg.det(v.affine)
                  else np.ones(3) for v in (volume, table))
  if placed and np.allclose(ours, theirs, rtol=_SAME_SPACING):
    return volume, None
  if placed and not np.array_equal(volume.spacing_mm, np.ones(3)):
    raise SeriesError(f"the header says voxels of {_mm(ours)}, the metadata "
                      f"table {_mm(theirs)}")
  if volume.shape != shape:
    raise SeriesError(f"{volume.shape} voxels and no position in the header; "
                      f"the metadata table says {shape}")
  return Volume(volume.voxels, affine), "geometry of the metadata table"


def _table_geometry(
    metadata: dict[str, str]
) -> tuple[np.ndarray, tuple[int, int, int]] | None:
  """[4, 4] of (column, row, slice) -> RAS mm, and the three sizes."""
  if not metadata.get("XYSpacing"):
    return None
  try:
    between_rows, between_columns = json.loads(metadata["XYSpacing"])
    axes = np.reshape(json.loads(metadata["ImageOrientationPatient"]), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = axes[0] * between_columns
    affine[:3, 1] = axes[1] * between_rows
    affine[:3, 2] = np.cross(*axes) * float(metadata["ZSpacing"])
    affine[:3, 3] = json.loads(metadata["ImagePositionPatient"])
    shape = tuple(int(float(metadata[name])) for name in (
        "Columns", "Rows", "NumberofSlices"))
  except (ValueError, KeyError, TypeError) as error:
    raise SeriesError("its row of the metadata table has no readable geometry "
                      f"({type(error).__name__})") from error
  if not abs(np.linalg.det(affine)) >= 1e-6:
    raise SeriesError("its row of the metadata table has a singular geometry")
  affine[:2] *= -1  # DICOM's x runs to the left and its y to the back
  return affine, shape


def _unplaced(code: str, spacing_mm) -> np.ndarray:
  """[4, 4] of axes that run as `code` says; the origin is arbitrary."""
  affine = np.eye(4)
  affine[:3, :3] = 0
  for axis, (letter, mm) in enumerate(zip(code, spacing_mm)):
    row = ("RL", "AP", "SI").index(
        next(pair for pair in ("RL", "AP", "SI") if letter in pair))
    affine[row, axis] = mm if letter in "RAS" else -mm
  return affine


def _number(metadata: dict[str, Any], name: str) -> float | None:
  return float(metadata[name]) if metadata.get(name) else None


def _mm(spacing) -> str:
  return " x ".join(f"{s:.3g}" for s in spacing) + " mm"
