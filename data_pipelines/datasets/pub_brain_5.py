"""Pub-Brain-5: public brain MRI of five kinds, gathered for zero-shot tests.

    <root>/pub_brain_5.csv                study folder and five 0/1 columns
    <root>/pub_brain_5_ground_truth.csv   optional: study folder and the list of
                                          the slices that show the lesion
    <root>/<collection>/.../<study>/      NIfTI files, or the published .pt

--labels=FILE names another table; the list of slices stands beside it, under
its name with "_ground_truth". The study folders are looked up below <root> by
the end of their path, whatever stood before it on the authors' machine.

A series is called AX_ and what follows the last dash of its file's name; files
of masks are skipped. Of a 4-D file (diffusion) volumes 0 and 1 are stored one
behind the other. All studies are one split, `test`; their only item is the
published prompt of their kind.

<out>/ground_truth.json = { "<study>": [slice, ...] } tells the members of the
-GT subset and their slices, 0 at the top of the head, as numbers of the
file: along its depth lie n = round(D |affine[:3, 0]| / source_spacing_mm[0])
slices, and slice i is in stored slice floor(i D / n).

Composition and rules: Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
Prompts: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from data_pipelines import mri
from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.parallel import Workers
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record

TABLE = "pub_brain_5.csv"
PROMPTS = {"Normal": "Study is unremarkable", "Stroke": "Acute stroke",
           "Glioma": "Glioma", "Meningioma": "Meningioma",
           "Metastasis": "Metastasis"}
_STUDY, _SLICES = "study", "target_slices"
_ENDINGS = (".nii.gz", ".nii", ".pt")
_TENSOR = ".pt"
_MASK = re.compile(
    r"(^|[-_.])(seg|segmentation|mask)($|[-_.])", re.IGNORECASE)

# BraTS cases end with the number of the visit; elsewhere the folder is all that
# is known of the patient.
_VISIT = re.compile(r"^(BraTS-\w+-\d+)-\d+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(mri.Dataset):
  """Options of the build."""
  labels: str = ""     # the table; "" = <source>/pub_brain_5.csv

  def bytes_needed(self) -> int:
    root = self.fetch(None, None)
    return sum(self.record_bytes(len(_files(root, study)), False)
               for study, _ in self._studies(root))

  def contract(self) -> record.Contract:
    if not self.source:
      return self.mri_contract(tensors=False)
    root = self.fetch(None, None)
    return self.mri_contract(tensors=any(
        file.endswith(_TENSOR) for study, _ in self._studies(root)
        for _, file in _files(root, study)))

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return {name: {"prompts": [prompt], "label": name}
            for name, prompt in PROMPTS.items()}

  def builder(self, raw, out, workers: Workers, log: mri.Log) -> mri.Studies:
    jobs = [_job(raw.absolute(), study, labels, self.grid(stack_two=True))
            for study, labels in self._studies(raw)]
    table = self._table(raw)
    slices = table.with_name(f"{table.stem}_ground_truth{table.suffix}")
    if slices.is_file():
      write_json(out / "ground_truth.json", _slices(raw, slices))
    return mri.builder({"test": jobs}, out, workers, log)

  def _table(self, root: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(self.labels or root / TABLE)

  def _studies(
      self, root: pathlib.Path) -> Iterator[tuple[str, dict[str, int]]]:
    """(folder below root, kind -> 0 or 1) of every row of the table."""
    path, seen = self._table(root), set()
    for number, row in _rows(path, (_STUDY, *PROMPTS)):
      try:
        labels = {name: int(float(row[name])) for name in PROMPTS}
      except ValueError as error:
        raise PrepareError(f"Row {number} of {path} has a label that is no "
                           f"number ({error}); mend it.") from error
      study = _below(root, row[_STUDY])
      if study in seen:
        raise PrepareError(f"Row {number} of {path} names {study} again; "
                           "leave one of the rows out.")
      seen.add(study)
      yield study, labels


def _rows(path: pathlib.Path, columns) -> Iterator[tuple[int, dict[str, str]]]:
  """Numbered rows of a table with these columns."""
  if not path.is_file():
    raise PrepareError(f"There is no {path}; put the published table there or "
                       "name it with --labels.")
  with open(path, newline="") as file:
    table = csv.DictReader(file)
    if missing := [c for c in columns if c not in (table.fieldnames or ())]:
      raise PrepareError(f"{path} lacks the column {', '.join(missing)}; want "
                         f"{', '.join(columns)}.")
    for row in table:
      if any(row[c] is None for c in columns):
        raise PrepareError(f"Row {table.line_num} of {path} is cut off; mend "
                           "it.")
      yield table.line_num, row


def _below(root: pathlib.Path, listed: str) -> str:
  """The longest end of a listed path that is a folder below root."""
  parts = [p for p in pathlib.PurePosixPath(listed).parts if p != "/"]
  ends = [pathlib.PurePosixPath(*parts[i:]) for i in range(len(parts))]
  found = next((e for e in ends if (root / e).is_dir()), None)
  return (found or pathlib.PurePosixPath(*parts)).as_posix()


def _files(root: pathlib.Path, study: str) -> list[tuple[str, str]]:
  """(name of the series, file below root), in the order of the files."""
  found = []
  folder = root / study
  for path in sorted(folder.iterdir()) if folder.is_dir() else ():
    ending = next((e for e in _ENDINGS if path.name.endswith(e)), None)
    if ending is None or path.name.startswith("."):
      continue
    stem = path.name.removesuffix(ending)
    if not _MASK.search(stem):
      found.append((f"AX_{stem.rpartition('-')[2]}", f"{study}/{path.name}"))
  return found


def _job(root: pathlib.Path, study: str, labels: dict[str, int],
         grid) -> study_lib.Job:
  fault, kinds = None, [name for name, label in labels.items() if label]
  if len(kinds) != 1:
    fault = f"{len(kinds)} of {', '.join(labels)} are 1, want one"
  elif not (root / study).is_dir():
    fault = "the folder is missing"
  visit = _VISIT.match(pathlib.PurePosixPath(study).name)
  return study_lib.Job(
      root=root, split="test", study=study, study_id=study,
      patient_id=visit[1] if visit else study, fault=fault,
      entry={"report": [PROMPTS[k] for k in kinds], "labels": labels},
      columns=tuple(PROMPTS), grid=grid, files=tuple(_files(root, study)))


def _slices(root: pathlib.Path, path: pathlib.Path) -> dict[str, list[int]]:
  """study -> numbers of the slices that show its lesion."""
  found = {}
  for number, row in _rows(path, (_STUDY, _SLICES)):
    try:
      slices = json.loads(row[_SLICES] or "[]")
    except ValueError:
      slices = None
    if not isinstance(slices, list) or not all(
        isinstance(s, int) for s in slices):
      raise PrepareError(f"Row {number} of {path} holds no list of slices such "
                         "as [3,4]; mend it.")
    found[_below(root, row[_STUDY])] = slices
  return found
