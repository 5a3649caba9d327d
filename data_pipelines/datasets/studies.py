"""Any archive of MRI studies in the public layout: series files and a report.

    <root>/<split>/<study>/<series>/  img.nii.gz, img.nii, the published img.pt,
                                      or DICOM slices; they may be mixed
    <root>/{train,valid,test}.json    see data_pipelines/volumes/study.py
    <root>/findings.json              optional: label columns and prompts
                                      { "<finding>": {"prompts": ["...", ...],
                                                      "label": "<column>"} }
    --reports=FILE                    optional: reports in place of those of the
                                      JSON files; CSV of study, numbered list

Studies and patients are told by salted hashes unless --keep_ids is given, see
data_pipelines/privacy.py.

The stored grid is HLIP's: padded to a square, resized to `resize`, centre crop
to `shape` (Zhao et al. 2025, https://arxiv.org/abs/2505.21862).
"""

import csv
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from data_pipelines import mri
from data_pipelines import privacy
from data_pipelines import reports as reports_lib
from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from data_pipelines.volumes import series as series_lib
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record

SPLITS = ("train", "valid", "test")
Log = mri.Log


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(mri.Dataset):
  """Options of the build."""
  reports: str = ""        # CSV file, see above
  keep_ids: bool = False   # names of studies and patients as they are
  salt: str = ""           # file of the hashes' salt; "" = <out>.salt

  def __post_init__(self):
    super().__post_init__()
    if self.keep_ids and self.salt:
      raise PrepareError(f"--salt={self.salt} is of no use with --keep_ids, "
                         "which hashes nothing; leave one of them out.")

  def bytes_needed(self) -> int:
    return sum(
        self.record_bytes(len(entry.get("series") or ()), "lesions" in entry)
        for entries in self._reports().values() for entry in entries.values())

  def contract(self) -> record.Contract:
    return self.mri_contract(tensors=bool(self.source) and any(
        series_lib.find_name(folder) == series_lib.TENSOR
        for folder in self._series_folders()))

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    path = raw / "findings.json"
    return _read_object(path) if path.exists() else {}

  def builder(self, raw, out, workers: Workers, log: mri.Log) -> mri.Studies:
    reports, shown = self._reports(), str
    if not self.keep_ids:
      salt = pathlib.Path(self.salt or privacy.beside(out, ".salt"))
      shown = privacy.Pseudonyms(privacy.open_salt(salt, out=out))
      privacy.write_map(privacy.beside(out, ".ids.jsonl"),
                        _map_lines(reports, shown))
    columns = tuple(f["label"] for f in self.findings(raw).values())
    jobs = {split: _jobs(split, entries, shown, root=raw.absolute(),
                         columns=columns, grid=self.grid())
            for split, entries in reports.items()}
    return mri.builder(jobs, out, workers, log)

  def _reports(self) -> dict[str, dict[str, dict]]:
    found = read_reports(self.fetch(None, None))
    if self.reports:
      _replace_reports(found, pathlib.Path(self.reports))
    return found

  def _series_folders(self):
    root = pathlib.Path(self.source)
    for split, entries in self._reports().items():
      for study, entry in entries.items():
        for name in entry.get("series") or ():
          yield root / split / study / name


def _jobs(split: str, entries: dict[str, dict], shown: Callable[[str], str],
          **common) -> list[study_lib.Job]:
  # Records of one split hold the same features: where some study has its
  # lesions outlined, one that names none has none.
  truth = {"lesions": []} if any(
      "lesions" in entry for entry in entries.values()) else {}
  return [
      study_lib.Job(
          split=split, study=study, study_id=shown(study),
          patient_id=shown(study_lib.patient_id(study, entry)),
          entry=truth | entry, **common)
      for study, entry in entries.items()]


def _map_lines(reports: dict[str, dict[str, dict]], shown):
  for split, entries in reports.items():
    for study, entry in entries.items():
      patient = study_lib.patient_id(study, entry)
      yield {"split": split, "study_id": shown(study), "study": study,
             "patient_id": shown(patient), "patient": patient}


def read_reports(root: pathlib.Path) -> dict[str, dict[str, dict]]:
  """Reads <split>.json of every split there is: split -> study -> entry.

  Raises:
    PrepareError: there is none, one is empty or no JSON, or a patient is in two
      splits.
  """
  paths = {s: root / f"{s}.json" for s in SPLITS}
  reports = {s: _read_object(p) for s, p in paths.items() if p.exists()}
  if not reports:
    raise PrepareError(f"{root} holds none of train.json, valid.json and "
                       "test.json; give the root of the archive as --source.")
  seen = {}
  for split, entries in reports.items():
    if not entries:
      raise PrepareError(f"{paths[split]} names no study; delete it or add "
                         "some.")
    for name, entry in entries.items():
      if not isinstance(entry, dict):
        raise PrepareError(
            f"Study {name!r} of {paths[split]} is a {type(entry).__name__}, "
            'want an object {"series": ..., "report": ...}; mend it.')
      patient = study_lib.patient_id(name, entry)
      if seen.setdefault(patient, split) != split:
        raise PrepareError(
            f"Patient {patient!r} is in split {seen[patient]!r} and in "
            f"{split!r}; a patient may be in one only, so mend the files in "
            f"{root}.")
  return reports


def _read_object(path: pathlib.Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text())
  except ValueError as error:
    raise PrepareError(f"{path} is no JSON ({error}); mend it.") from error
  if not isinstance(value, dict):
    raise PrepareError(f"{path} holds a {type(value).__name__}, want an object "
                       "with one entry a study or finding; mend it.")
  return value


def _replace_reports(reports: dict[str, dict[str, dict]], path: pathlib.Path):
  """Puts the reports of the table in place of those of the entries."""
  if not path.is_file():
    raise PrepareError(f"There is no {path}; --reports wants a CSV file of two "
                       "columns, study and numbered list.")
  csv.field_size_limit(sys.maxsize)
  entries = {study: entry for of_split in reports.values()
             for study, entry in of_split.items()}
  with open(path, newline="") as file:
    for number, row in enumerate(csv.reader(file), 1):
      if len(row) != 2:
        raise PrepareError(f"Row {number} of {path} has {len(row)} columns, "
                           "want study and numbered list; mend it.")
      study, text = row
      if study not in entries:
        continue  # the header, or a study of another archive
      if "lesions" in entries[study]:
        raise PrepareError(
            f"{path} replaces the report of {study!r}, whose lesions are "
            "outlined by the number of their item; leave that row out.")
      entries[study]["report"] = reports_lib.numbered_items(text)
