"""One study of a raw archive -> the features of its record.

    <root>/<split>/<study>/<series>/img.nii.gz
    <root>/<split>.json  { "<study>": { "series": {"<series>": {}, ...},
                           "report": ["item", ...], "subid": "..." }, ... }

`subid` names the patient and is optional. So is ground truth:

    "labels":  {"<finding>": 0 | 1}
    "lesions": [{"item": k, "finding": "...", "series": ["<series>", ...]}]
    <root>/<split>/<study>/lesions.nii.gz    value k + 1 where items[k] is

No TensorFlow Datasets in here: worker processes import this file only.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from data_pipelines.volumes import nifti
from itemclip_jax.data import series_name
from itemclip_jax.data import volume


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything that a worker needs to make one record."""
  root: pathlib.Path
  split: str
  study: str
  entry: dict[str, Any]            # its value in <split>.json
  columns: tuple[str, ...]         # label columns, in order
  resize: tuple[int, int, int]
  shape: tuple[int, int, int]
  intensity: str = "percentiles"   # a key of volume.INTENSITY


@dataclasses.dataclass(frozen=True)
class Result:
  """record is None where the study was rejected; log says what and why."""
  study: str
  record: dict[str, Any] | None
  log: tuple[dict[str, str], ...]


def make_record(job: Job) -> Result:
  """Reads, checks and conforms one study; never raises for bad data."""
  try:
    items = _items(job.entry)
    series, log = _series(job)
    record = _texts(job, items) | _stacked(job, series)
    return Result(job.study, record | _ground_truth(job, series, items), log)
  except nifti.SeriesError as error:
    line = {"split": job.split, "study": job.study, "reason": str(error)}
    return Result(job.study, None, (line,))


def is_normal(items: list[str]) -> bool:
  """True where the report says that nothing is wrong (UM220K's rule)."""
  first = items[0].lower()
  return (first == "no significant abnormalities."
          or "study is unremarkable" in first)


def _items(entry: dict[str, Any]) -> list[str]:
  items = entry.get("report") or []
  if not items:
    raise nifti.SeriesError("the report is empty")
  for k, item in enumerate(items):
    if not isinstance(item, str) or not item.strip():
      raise nifti.SeriesError(f"item {k} of the report is not a text")
  return [item.strip() for item in items]


def _series(job: Job) -> tuple[dict[str, tuple], tuple[dict, ...]]:
  """Conforms every series that can be read: name -> (stored, code, source)."""
  kept, log = {}, []
  for name in job.entry.get("series", {}):
    path = pathlib.Path(job.split, job.study, name, "img.nii.gz")
    try:
      if fault := series_name.fault(name):
        raise nifti.SeriesError(fault)
      source, code = nifti.read_series(job.root / path)
      stored = volume.conform(source, resize_to=job.resize, shape=job.shape,
                              intensity=job.intensity)
      kept[name] = (stored, code, source.spacing_mm, path.as_posix())
    except (nifti.SeriesError, ValueError) as error:
      log.append({"split": job.split, "study": job.study, "series": name,
                  "reason": str(error)})
  if not kept:
    reasons = "; ".join(f"{line['series']}: {line['reason']}" for line in log)
    raise nifti.SeriesError(f"no usable series ({reasons or 'none named'})")
  return kept, tuple(log)


def _texts(job: Job, items: list[str]) -> dict[str, Any]:
  labels = job.entry.get("labels", {})
  return {
      "study_id": job.study,
      "patient_id": patient_id(job.study, job.entry),
      "items": items,
      "normal": is_normal(items),
      "labels": np.array([labels.get(c, -1) for c in job.columns], np.int8),
  }


def patient_id(study: str, entry: dict[str, Any]) -> str:
  """The patient's name in the archive; without one, each study is its own."""
  return str(entry.get("subid") or study)


def _stacked(job: Job, series: dict[str, tuple]) -> dict[str, Any]:
  stored, codes, spacing, sources = zip(*series.values())
  return {
      "volume": np.stack([s.voxels for s in stored]),
      "affine": np.stack([s.affine for s in stored]).astype(np.float32),
      "series_names": list(series),
      "orientation": list(codes),
      "source_spacing_mm": np.stack(spacing).astype(np.float32),
      "source": list(sources),
  }


def _ground_truth(
    job: Job, series: dict[str, tuple], items: list[str]) -> dict[str, Any]:
  """Masks, visibility and findings of the items; empty without "lesions"."""
  if "lesions" not in job.entry:
    none = np.zeros(0, np.uint8)
    return {"lesion_mask": none, "item_visible": none,
            "item_finding": none.astype(np.int32)}
  mask = np.zeros((len(series), *job.shape), np.uint8)
  visible = np.zeros((len(items), len(series)), np.uint8)
  finding = np.full(len(items), -1, np.int32)
  for lesion in job.entry["lesions"]:
    k, name = lesion["item"], lesion["finding"]
    if not 0 <= k < len(items) or name not in job.columns:
      raise nifti.SeriesError(f"a lesion names item {k} of {len(items)} and "
                              f"finding {name!r}; one of them does not exist")
    visible[k] = [s in lesion["series"] for s in series]
    finding[k] = job.columns.index(name)
  if job.entry["lesions"]:
    labels = nifti.read_labels(
        job.root / job.split / job.study / "lesions.nii.gz")
    for s, (stored, *_) in enumerate(series.values()):
      mask[s] = volume.sample_labels(
          labels, shape=job.shape, affine=stored.affine)
  return {"lesion_mask": mask.ravel(), "item_visible": visible.ravel(),
          "item_finding": finding}
