"""CQ500: head CT of 490 subjects with the labels of three readers.

    <source>/**/CQ500CT<n>*/<study>/<series>/*.dcm
    <source>/**/*.csv    one row a subject or a series: `subject` or `name`, and
                         for each finding consensus_<F>, or R1_<F>, R2_<F>,
                         R3_<F> (also R1:<F>): then two of three decide

A record is a subject: every series that can be used, in three windows. There
are no reports, so positive labels become items. All subjects are in `test`.

Reference: Chilamkurthy et al. 2018, https://arxiv.org/abs/1803.05854; names of
series: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import dataclasses
import pathlib
import re
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.errors import PrepareError
from data_pipelines.volumes import ct_study
from data_pipelines.volumes import head_study

_BLEEDING = "Intracranial hemorrhage"
# Column of the table -> prompt.
PROMPTS = {
    "ICH": _BLEEDING,
    "IPH": f"{_BLEEDING} with intraparenchymal hemorrhage",
    "IVH": f"{_BLEEDING} with intraventricular hemorrhage",
    "SDH": f"{_BLEEDING} with subdural hemorrhage",
    "EDH": f"{_BLEEDING} with epidural hemorrhage",
    "SAH": f"{_BLEEDING} with subarachnoid hemorrhage",
    "BleedLocation-Left": "Bleeding in left side",
    "BleedLocation-Right": "Bleeding in right side",
    "MidlineShift": "Midline shift",
    "MassEffect": "Mass Effect",
}
SKIPPED = (163,)  # the subject that the published evaluation leaves out
NAME = "{folder}_AX_{window}Window"

_SUBJECT = re.compile(r"CQ500-?CT-?(\d+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(scans.HeadOptions):
  """Options of the build."""

  def bytes_needed(self) -> int:
    folders = {path.parent for path in self.fetch(None, None).rglob("*.dcm")}
    return self.head_bytes(len(folders))

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return scans.root(self, "the folders CQ500CT0, CQ500CT1, ... of CQ500")

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return {prompt: {"label": column, "prompts": [prompt]}
            for column, prompt in PROMPTS.items()}

  def builder(self, raw, out, workers, log: scans.Log) -> scans.Scans:
    labels, jobs = _labels(raw), []
    for number, folder in sorted(_folders(raw).items()):
      study = f"CQ500CT{number}"
      if number in SKIPPED:
        log({"split": "test", "study": study, "reason":
             "left out by the published evaluation"})
        continue
      row = labels.get(number, (-1,) * len(PROMPTS))
      jobs.append(head_study.Job(
          root=raw, split="test", study=study, patient=study, labels=row,
          items=ct_study.items_of_labels(self.findings(raw), row), name=NAME,
          folder=folder.relative_to(raw).as_posix(), windows=self.windows(),
          resize=self.resize, shape=self.shape, max_tilt=self.max_tilt))
    return scans.builder({"test": jobs}, head_study.make_record, out, workers,
                         log, dtype=np.uint8)


def _folders(root: pathlib.Path) -> dict[int, pathlib.Path]:
  """Number of the subject -> its outermost folder."""
  folders = {}
  for path in sorted(p for p in (*root.glob("*"), *root.glob("*/*"))
                     if p.is_dir()):
    if match := _SUBJECT.match(path.name):
      first = folders.setdefault(int(match[1]), path)
      if path != first and path.parent != first:
        raise PrepareError(f"{first} and {path} are folders of one subject; "
                           "take one of them away.")
  return folders


def _labels(root: pathlib.Path) -> dict[int, tuple[int, ...]]:
  """Number of the subject -> labels in the order of PROMPTS."""
  labels = {}
  for path in sorted((*root.glob("*.csv"), *root.glob("*/*.csv"))):
    for row in scans.read_csv(path):
      match = _SUBJECT.match(row.get("subject") or row.get("name") or "")
      if not match:
        continue
      number = int(match[1])
      found = tuple(_finding(row, column) for column in PROMPTS)
      if labels.setdefault(number, found) != found:
        raise PrepareError(f"{path} has two rows of subject {number} with "
                           "other labels; mend the table.")
  if not labels:
    raise PrepareError(f"{root} holds no CSV table of CQ500's readers, with a "
                       "column `subject` or `name`; put it there.")
  return labels


def _finding(row: dict[str, str], column: str) -> int:
  """The consensus; without that column, what most readers say."""
  if row.get(f"consensus_{column}"):
    return scans.label(row[f"consensus_{column}"])
  readers = [scans.label(row.get(f"R{n}_{column}", row.get(f"R{n}:{column}")))
             for n in (1, 2, 3)]
  known = [reader for reader in readers if reader >= 0]
  return int(2 * sum(known) > len(known)) if known else -1
