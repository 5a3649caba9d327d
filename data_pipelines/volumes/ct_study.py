"""What the records of all CT data sets share. No TensorFlow Datasets in here.

A set without reports gets its findings as items: the first prompt of every
positive label, or CT-RATE's sentence for a normal study.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import reports
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data.volume import Volume

NORMAL_ITEM = "no significant abnormalities"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What a worker needs to know of one study besides its files."""
  root: pathlib.Path
  split: str
  study: str
  patient: str
  items: tuple[str, ...]
  labels: tuple[int, ...]      # in the order of the findings, -1 = unknown


class Stored(NamedTuple):
  """One series as it goes into the record."""
  name: str
  volume: Volume               # conformed voxels
  source_spacing_mm: np.ndarray
  source: pathlib.Path


def chest_findings(names: Sequence[str]) -> dict[str, dict[str, Any]]:
  """Label columns of chest CT and their prompts (ItemizedCLIP's)."""
  other = {"Lung nodule": "nodules or nodular density",
           "Lung opacity": "opacity",
           "Bronchiectasis": "bronchiectasis or bronchiectatic changes",
           "Calcification": "coronary artery wall calcification"}
  return {name: {"label": name, "prompts": [
      f"findings consistent with {other.get(name, name.lower())}"]}
          for name in names}


def items_of_labels(
    findings: dict[str, dict[str, Any]], labels: Sequence[int]
) -> tuple[str, ...]:
  """Prompts of the positive findings; () where no label is known."""
  if all(label < 0 for label in labels):
    return ()
  positive = [finding["prompts"][0]
              for finding, label in zip(findings.values(), labels) if label > 0]
  return tuple(positive or [NORMAL_ITEM])


def make_record(job: Job, series: Sequence[Stored], code: str
                ) -> dict[str, Any]:
  """The features of one record, see itemclip_jax.data.record.features.

  Raises:
    SeriesError: there is nothing to say about the study.
  """
  if not job.items:
    raise SeriesError("it has neither a report nor a label")
  none = np.zeros(0, np.uint8)
  return {
      "study_id": job.study,
      "patient_id": job.patient,
      "items": list(job.items),
      "normal": reports.is_normal_ct(list(job.items)),
      "labels": np.array(job.labels, np.int8),
      "volume": np.stack([s.volume.voxels for s in series]),
      "affine": np.stack([s.volume.affine for s in series]).astype(np.float32),
      "series_names": [s.name for s in series],
      "orientation": [code] * len(series),
      "source_spacing_mm": np.stack(
          [s.source_spacing_mm for s in series]).astype(np.float32),
      "source": [s.source.relative_to(job.root).as_posix() for s in series],
      "lesion_mask": none,
      "item_visible": none,
      "item_finding": none.astype(np.int32),
  }


def line(job: Job, **what: str) -> dict[str, str]:
  """One line of ingest.jsonl: `reason` of a loss or `note` of a repair."""
  return {"split": job.split, "study": job.study, **what}
