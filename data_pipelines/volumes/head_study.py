"""The DICOM files of one head CT study -> the features of its record.

Every window of every series is a series of its own with its own name.
"""

import dataclasses
import pathlib

from data_pipelines.result import Result
from data_pipelines.volumes import ct
from data_pipelines.volumes import ct_study
from data_pipelines.volumes import dicom
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import series_name
from itemclip_jax.data.volume import Volume


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(ct_study.Job):
  """Attributes:
    folder: all files below it; or
    files: these, below `root`.
    name: of a series; {folder} and {window} are filled in.
    windows: name -> (level, width) in Hounsfield units.
    resize, shape: D, H, W before and after the crop.
    max_tilt: degrees.
  """
  folder: str = ""
  files: tuple[str, ...] = ()
  name: str
  windows: dict[str, tuple[float, float]]
  resize: tuple[int, int, int]
  shape: tuple[int, int, int]
  max_tilt: float = dicom.MAX_TILT_DEGREES


def make_record(job: Job) -> Result:
  """Reads, checks and conforms one study; never raises for bad data."""
  log = []
  try:
    series = read(job, log)
    record = ct_study.make_record(job, series, ct.ORIENTATION["axial"])
    return Result(job.study, record, tuple(log))
  except SeriesError as error:
    return Result(job.study, None, (
        ct_study.line(job, reason=str(error)),))


def read(job: Job, log: list[dict[str, str]]) -> list[ct_study.Stored]:
  """All windows of all series that can be used; tells the rest to `log`.

  Raises:
    SeriesError: there is none.
  """
  stored, names = [], set()
  for headers in dicom.group(_headers(job, log)):
    where = headers[0].path.parent.relative_to(job.root).as_posix()
    try:
      series = dicom.read_series(headers, max_tilt=job.max_tilt)
      ct.require_axial(series.volume)
      if reason := ct.implausible(series.volume.voxels):
        raise SeriesError(f"no Hounsfield units ({reason})")
      folder = _unique(headers[0].path.parent.name.replace(" ", "_"), names)
      stored += views(job, series.volume, series.source, folder)
    except (SeriesError, ValueError) as error:
      log.append(ct_study.line(job, series=where, reason=str(error)))
      continue
    log += [ct_study.line(job, series=where, note=n) for n in series.notes]
  if not stored:
    reasons = "; ".join(dict.fromkeys(
        line["reason"] for line in log if "reason" in line))
    raise SeriesError(f"no usable series ({reasons or 'no DICOM file'})")
  return stored


def _headers(job: Job, log: list[dict[str, str]]) -> list[dicom.Header]:
  if job.files:
    found = [dicom.read_header(job.root / file) for file in job.files]
    return [header for header in found if header]
  headers, others = dicom.find_headers(job.root / job.folder)
  if others:
    log.append(ct_study.line(job, note=f"{len(others)} files are not DICOM"))
  return headers


def views(job: Job, hounsfield: Volume, source: pathlib.Path, folder: str
          ) -> list[ct_study.Stored]:
  """Every window of one series; `folder` is what its name is made of.

  Raises:
    SeriesError: its name would not be fit to be read.
  """
  # First, for the three windows then have fewer slices to look at.
  thin = ct.thinned(hounsfield, job.resize[0])
  found = []
  for window, levels in job.windows.items():
    name = job.name.format(folder=folder, window=window)
    if fault := series_name.fault(name):
      raise SeriesError(fault)
    volume = ct.head_view(
        thin, levels, resize_to=job.resize, shape=job.shape)
    found.append(ct_study.Stored(
        name, volume, ct.to_canonical(hounsfield).spacing_mm, source))
  return found


def _unique(name: str, taken: set[str]) -> str:
  """Appends -2, -3, ... where several series lie in folders of one name."""
  number, unique = 1, name
  while unique in taken:
    number += 1
    unique = f"{name}-{number}"
  taken.add(unique)
  return unique
