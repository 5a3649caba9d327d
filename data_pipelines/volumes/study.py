"""One study of a raw archive -> the features of its record.

    <root>/<split>/<study>/<series>/    one series, see volumes/series.py
    <root>/<split>.json  { "<study>": { "series": {"<series>": {}, ...},
                           "report": ["item", ...], "subid": "..." }, ... }

`subid` names the patient and is optional. So is ground truth:

    "labels":  {"<finding>": 0 | 1}
    "lesions": [{"item": k, "finding": "...", "series": ["<series>", ...],
                 "values": [...]}]
    <root>/<split>/<study>/lesions.nii.gz    label map; the voxels of items[k]
                                             have its "values", or else k + 1

No TensorFlow Datasets in here: worker processes import this file only.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from data_pipelines.result import Result
from data_pipelines.volumes import nifti
from data_pipelines.volumes import series as series_lib
from itemclip_jax.data import series_name
from itemclip_jax.data import volume


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything that a worker needs to make one record."""
  root: pathlib.Path
  split: str
  study: str                       # its folder's name
  study_id: str                    # its name, and that of its patient, in
  patient_id: str                  # records and logs
  entry: dict[str, Any]            # its value in <split>.json
  columns: tuple[str, ...]         # label columns, in order
  grid: series_lib.Grid
  # Where an archive has another layout: (series, file below root) of each, and
  # the label map.
  files: tuple[tuple[str, str], ...] | None = None
  lesion_map: str | None = None
  fault: str | None = None         # why it is rejected, known beforehand


def make_record(job: Job) -> Result:
  """Reads, checks and conforms one study; never raises for bad data."""
  try:
    if job.fault:
      raise nifti.SeriesError(job.fault)
    items = _items(job.entry)
    series, log = _series(job)
    record = _texts(job, items) | _stacked(series)
    return Result(job.study_id, record | _ground_truth(job, series, items), log)
  except nifti.SeriesError as error:
    return Result(job.study_id, None, (_line(job, reason=str(error)),))


def is_normal(items: list[str]) -> bool:
  """True where the report says that nothing is wrong (UM220K's rule)."""
  first = items[0].lower()
  return (first == "no significant abnormalities."
          or "study is unremarkable" in first)


def patient_id(study: str, entry: dict[str, Any]) -> str:
  """The patient's name in the archive; without one, each study is its own."""
  return str(entry.get("subid") or study)


def _line(job: Job, **told: str) -> dict[str, str]:
  return {"split": job.split, "study": job.study_id} | told


def _items(entry: dict[str, Any]) -> list[str]:
  items = entry.get("report") or []
  if not isinstance(items, list):
    raise nifti.SeriesError(
        f"the report is a {type(items).__name__}, want a list of texts")
  if not items:
    raise nifti.SeriesError("the report is empty")
  for k, item in enumerate(items):
    if not isinstance(item, str) or not item.strip():
      raise nifti.SeriesError(f"item {k} of the report is not a text")
  return [item.strip() for item in items]


@dataclasses.dataclass(frozen=True)
class _Named:
  """A series of the study, with what its record says of it."""
  name: str
  source: str
  series: series_lib.Series


def _series(job: Job) -> tuple[list[_Named], tuple[dict, ...]]:
  """Conforms every series that can be read; the log tells of the others."""
  kept, log = [], []
  for name, path, source in _places(job):
    try:
      if fault := series_name.fault(name):
        raise nifti.SeriesError(fault)
      path = series_lib.find(path) if job.files is None else path
      found = series_lib.read(path, job.grid)
    except (nifti.SeriesError, ValueError) as error:
      log.append(_line(job, series=name, reason=str(error)))
      continue
    inside = path.name if job.files is None and path.is_file() else ""
    kept.append(_Named(name, (source / inside).as_posix(), found))
    log += [_line(job, series=name, note=note) for note in found.notes]
  if not kept:
    reasons = "; ".join(f"{line['series']}: {line['reason']}" for line in log)
    raise nifti.SeriesError(f"no usable series ({reasons or 'none named'})")
  return kept, tuple(log)


def _places(job: Job) -> list[tuple[str, pathlib.Path, pathlib.PurePath]]:
  """(name, where it is, where its record says that it is) of every series."""
  if job.files is not None:
    return [(name, job.root / file, pathlib.PurePath(file))
            for name, file in job.files]
  return [(name, job.root / job.split / job.study / name,
           pathlib.PurePath(job.split, job.study_id, name))
          for name in job.entry.get("series") or ()]


def _texts(job: Job, items: list[str]) -> dict[str, Any]:
  labels = job.entry.get("labels", {})
  return {
      "study_id": job.study_id,
      "patient_id": job.patient_id,
      "items": items,
      "normal": is_normal(items),
      "labels": np.array([labels.get(c, -1) for c in job.columns], np.int8),
  }


def _stacked(kept: list[_Named]) -> dict[str, Any]:
  series = [k.series for k in kept]
  return {
      "volume": np.stack([s.volume.voxels for s in series]),
      "affine": np.stack([s.volume.affine for s in series]).astype(np.float32),
      "series_names": [k.name for k in kept],
      "orientation": [s.orientation for s in series],
      "source_spacing_mm": np.stack(
          [s.spacing_mm for s in series]).astype(np.float32),
      "source": [k.source for k in kept],
  }


def _ground_truth(
    job: Job, kept: list[_Named], items: list[str]) -> dict[str, Any]:
  """Masks, visibility and findings of the items; empty without "lesions"."""
  if "lesions" not in job.entry:
    none = np.zeros(0, np.uint8)
    return {"lesion_mask": none, "item_visible": none,
            "item_finding": none.astype(np.int32)}
  mask = np.zeros((len(kept), *job.grid.shape), np.uint8)
  visible = np.zeros((len(items), len(kept)), np.uint8)
  finding = np.full(len(items), -1, np.int32)
  item_of_value = np.zeros(256, np.uint8)  # k + 1, 0 = nothing
  for lesion in job.entry["lesions"]:
    k, name = lesion["item"], lesion["finding"]
    if not 0 <= k < len(items) or name not in job.columns:
      raise nifti.SeriesError(f"a lesion names item {k} of {len(items)} and "
                              f"finding {name!r}; one of them does not exist")
    visible[k] = [named.name in lesion["series"] for named in kept]
    finding[k] = job.columns.index(name)
    item_of_value[lesion.get("values", [k + 1])] = k + 1
  if job.entry["lesions"]:
    _require_placed(kept)
    labels = nifti.read_labels(job.root / (
        job.lesion_map or f"{job.split}/{job.study}/lesions.nii.gz"))
    for s, named in enumerate(kept):
      mask[s] = item_of_value[volume.sample_labels(
          labels, shape=job.grid.shape, affine=named.series.volume.affine)]
  return {"lesion_mask": mask.ravel(), "item_visible": visible.ravel(),
          "item_finding": finding}


def _require_placed(kept: list[_Named]):
  """Raises where an outline cannot be laid upon a series."""
  unknown = [k.name for k in kept if np.isnan(k.series.spacing_mm).any()]
  if unknown:
    raise nifti.SeriesError(f"lesions are outlined, but the place of "
                            f"{', '.join(unknown)} in the patient is unknown")
