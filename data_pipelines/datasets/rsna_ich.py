"""RSNA 2019: head CT studies with the subtypes of intracranial haemorrhage.

    <source>/**/ID_<slice>.dcm     one flat folder of slices of all studies
    <source>/**/*.csv              ID,Label with rows ID_<slice>_<subtype>,0|1
    <source>/**/*_<split>.txt      optional: ids of the studies of train, valid
                                   or test, one a line; the rest is in `test`

Which slices form a study is read from the headers. A study is positive where
any of its slices is. There are no reports, so positive labels become items.
The identifiers of this set are made up, so they may stand in a record.

Reference: Flanders et al. 2020, https://doi.org/10.1148/ryai.2020190211; names
of series: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import collections
import csv
import dataclasses
import pathlib
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.errors import PrepareError
from data_pipelines.volumes import ct_study
from data_pipelines.volumes import dicom
from data_pipelines.volumes import head_study

_BLEEDING = "Intracranial hemorrhage"
# Subtype of the table -> prompt; epidural bleeding is not evaluated.
PROMPTS = {"any": _BLEEDING} | {
    name: f"{_BLEEDING} with {name} hemorrhage" for name in (
        "intraparenchymal", "intraventricular", "subarachnoid", "subdural")}
NAME = "MPR-AX_HEAD-protocol_{window}Window"
SPLITS = ("train", "valid", "test")

_SLICES_A_STUDY = 30   # about, for the estimate of the size
_CHUNK = 200           # headers that a worker reads at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(scans.HeadOptions):
  """Options of the build."""

  def bytes_needed(self) -> int:
    slices = sum(1 for _ in self.fetch(None, None).rglob("*.dcm"))
    return self.head_bytes(1 + slices // _SLICES_A_STUDY)

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return scans.root(self, "the slices ID_*.dcm and stage_2_train.csv")

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return {prompt: {"label": subtype, "prompts": [prompt]}
            for subtype, prompt in PROMPTS.items()}

  def builder(self, raw, out, workers, log: scans.Log) -> scans.Scans:
    labels, split_of = _slice_labels(raw), _split_lists(raw)
    splits = {split: [] for split in SPLITS}
    studies = _studies(raw, workers, log)
    for (study, patient), files in sorted(studies.items()):
      split = split_of.get(study, "test")
      row = _study_labels([labels.get(f.stem, {}) for f in files])
      splits[split].append(head_study.Job(
          root=raw, split=split, study=study, patient=patient, labels=row,
          items=ct_study.items_of_labels(self.findings(raw), row), name=NAME,
          files=tuple(f.relative_to(raw).as_posix() for f in files),
          windows=self.windows(), resize=self.resize, shape=self.shape,
          max_tilt=self.max_tilt))
    for study in sorted(split_of.keys() - {study for study, _ in studies}):
      log({"split": split_of[study], "study": study,
           "reason": "no slice of it is in the archive"})
    return scans.builder(splits, head_study.make_record, out, workers, log,
                         dtype=np.uint8)


def _studies(
    root: pathlib.Path, workers, log: scans.Log
) -> dict[tuple[str, str], list[pathlib.Path]]:
  """(study, patient) -> its files, in the order of their names."""
  files = sorted(root.rglob("*.dcm"))
  chunks = [files[i:i + _CHUNK] for i in range(0, len(files), _CHUNK)]
  studies = collections.defaultdict(list)
  found = workers.map(dicom.read_ids, chunks, title="headers")
  for chunk, ids in zip(chunks, found):
    for path, names in zip(chunk, ids):
      if names is None:
        log({"split": "test", "study": path.stem,
             "reason": "not a DICOM file that names its study"})
      else:
        studies[names].append(path)
  return studies


def _slice_labels(root: pathlib.Path) -> dict[str, dict[str, int]]:
  """Slice -> subtype -> label."""
  labels = collections.defaultdict(dict)
  for path in sorted(root.rglob("*.csv")):
    with open(path, newline="") as file:
      rows = csv.reader(file)  # millions of them
      if next(rows, None) != ["ID", "Label"]:
        continue
      for name, value in rows:
        slice_id, _, subtype = name.rpartition("_")
        labels[slice_id][subtype] = scans.label(value)
  if not labels:
    raise PrepareError(f"{root} holds no CSV table with the columns ID,Label; "
                       "put stage_2_train.csv there.")
  return labels


def _study_labels(slices: list[dict[str, int]]) -> tuple[int, ...]:
  """Positive where any slice is, -1 where none has a label."""
  return tuple(max((s.get(subtype, -1) for s in slices), default=-1)
               for subtype in PROMPTS)


def _split_lists(root: pathlib.Path) -> dict[str, str]:
  """Study -> split, of the lists there are; they write RSNA_ before the id."""
  split_of = {}
  for split in SPLITS:
    for path in sorted(root.rglob(f"*_{split}.txt")):
      for line in path.read_text().split():
        study = line.removeprefix("RSNA_")
        if split_of.setdefault(study, split) != split:
          raise PrepareError(f"Study {study} is in the lists of "
                             f"{split_of[study]} and of {split}; mend them.")
  return split_of
