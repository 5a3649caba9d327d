"""Rad-ChestCT: chest CT volumes with labels, for evaluation.

    <source>/**/<id>.npz      key `ct`, Hounsfield units at 0.8 mm
    <source>/**/*.csv         NoteAcc_DEID and labels: the original columns
                              <finding>*<location>, or one a finding

The arrays have no header. The script that made them stacks slices from head to
feet, with rows to the back and columns to the left: "IPL". There are no
reports, so positive labels become items. Ids begin with trn, val or tst.

Reference: Draelos et al. 2021, https://arxiv.org/abs/2002.04752; labels that
match CT-RATE's: Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.errors import PrepareError
from data_pipelines.volumes import chest_study
from data_pipelines.volumes import ct_study

STORED_AS = "IPL"

# Finding -> abnormality of the original table, the part before the asterisk.
ABNORMALITY = {
    "Emphysema": "emphysema",
    "Atelectasis": "atelectasis",
    "Lung nodule": "nodule",
    "Lung opacity": "opacity",
    "Pulmonary fibrotic sequela": "fibrosis",
    "Pleural effusion": "pleural_effusion",
    "Peribronchial thickening": "bronchial_wall_thickening",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiectasis",
    "Interlobular septal thickening": "septal_thickening",
    "Cardiomegaly": "cardiomegaly",
    "Pericardial effusion": "pericardial_effusion",
    "Hiatal hernia": "hernia",
    "Calcification": "calcification",
}
# In tables of one column a finding this one stands twice, under two names.
_ALSO = {"Calcification": ("Coronary artery wall calcification",
                           "Arterial wall calcification")}
_SPLITS = {"trn": "train", "val": "valid", "tst": "test"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""  # root of the archive

  def bytes_needed(self) -> int:
    root = self.fetch(None, None)
    return scans.chest_bytes(sum(1 for _ in root.rglob("*.npz")))

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return scans.root(self, "the .npz files and the label table of Rad-ChestCT")

  def contract(self):
    return scans.chest_contract(self)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return ct_study.chest_findings(tuple(ABNORMALITY))

  def builder(self, raw, out, workers, log: scans.Log) -> scans.Scans:
    labels, findings = _labels(raw), self.findings(raw)
    unknown = (-1,) * len(ABNORMALITY)
    splits = {split: [] for split in _SPLITS.values()}
    for path in sorted(raw.rglob("*.npz")):
      row = labels.get(path.stem, unknown)
      split = _SPLITS.get(path.stem[:3], "test")
      splits[split].append(chest_study.Job(
          root=raw, split=split, study=path.stem, patient=path.stem,
          items=ct_study.items_of_labels(findings, row), labels=row,
          file=path.relative_to(raw).as_posix(), stored_as=STORED_AS))
    return scans.builder(splits, chest_study.make_record, out, workers, log,
                         dtype=np.int16)


def _labels(root: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Volume id -> labels in the order of ABNORMALITY."""
  labels = {}
  for path in sorted(root.rglob("*.csv")):
    for row in scans.read_csv(path):
      if "NoteAcc_DEID" in row:
        labels[row["NoteAcc_DEID"]] = tuple(
            _finding(row, name) for name in ABNORMALITY)
  if not labels:
    raise PrepareError(f"{root} holds no CSV table with a column NoteAcc_DEID; "
                       "put the label table of Rad-ChestCT there.")
  return labels


def _finding(row: dict[str, str], name: str) -> int:
  """1 where any location of the finding is marked."""
  wanted = {name, ABNORMALITY[name], *_ALSO.get(name, ())}
  return max((scans.label(value) for column, value in row.items()
              if column.split("*")[0].strip() in wanted), default=-1)
