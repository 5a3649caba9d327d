"""CT-RATE: chest CT volumes and their findings, one record a reconstruction.

    <source>/**/train_1_a_1.nii.gz      the files of either release, or
    <source>/**/train_1_a_1.pt          HLIP's resampled tensors [D, H, W]
    <source>/*.json                     { "train_1_a": { "recons": ["train_1_a_1
                                        .nii.gz", ...], "report": ["item", ...]
                                        }, ... }
    <source>/*.csv                      metadata and label tables (VolumeName)
    --reports=FILE                      optional: the only .json file to read,
                                        such as HLIP's raw or organ-wise texts

Tables may lie up to three folders deep and are known by their columns. The
first release holds the scanner's numbers, whose slope and intercept stand in
the metadata table; the second holds Hounsfield units: `volumes/ct.py` tells
one from the other. Scans without a report get their positive labels as items.

With --organ_masks=DIR records hold masks of organs, and what is said of each;
DIR and --organ_texts are those of data_pipelines/organs/{masks,texts}.py.

Reference: Hamamci et al. 2024, https://arxiv.org/abs/2403.17834; findings and
prompts: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import dataclasses
import json
import pathlib
import re
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.errors import PrepareError
from data_pipelines.organs import records as organ_records
from data_pipelines.volumes import chest_study
from data_pipelines.volumes import ct_study

FINDINGS = (
    "Emphysema", "Atelectasis", "Lung nodule", "Lung opacity",
    "Pulmonary fibrotic sequela", "Pleural effusion",
    "Mosaic attenuation pattern", "Peribronchial thickening", "Consolidation",
    "Bronchiectasis", "Interlobular septal thickening", "Cardiomegaly",
    "Pericardial effusion", "Coronary artery wall calcification",
    "Hiatal hernia", "Arterial wall calcification")

# Reconstructions that the published loader leaves out.
SKIPPED = ("train_1267_a_4", "train_11755_a_3", "train_11755_a_4")
SCALES = ("auto", "stored", "hounsfield")

_FILE = re.compile(r"((train|valid)_(\d+)_([a-z]+)_(\d+))\.(nii\.gz|nii|pt)")
_TABLES = ("*.{}", "*/*.{}", "*/*/*.{}", "*/*/*/*.{}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""       # root of the archive
  reports: str = ""      # JSON file, see above
  scale: str = "auto"    # what the NIfTI files hold, see ct.factors
  organ_masks: str = ""  # folder of segmentations; "" = records have no organs
  organ_texts: tuple[str, ...] = ()   # files; () = by rules from the items
  organ_grouping: str = "ct_rate"     # as fVLM's public code
  organ_classes: str = "totalsegmentator_2"
  # The paper's order has no public texts to go with it.
  organ_order: str = "code"

  def __post_init__(self):
    if self.scale not in SCALES:
      raise PrepareError(
          f"--scale={self.scale} is none of {', '.join(SCALES)}.")
    if self.organ_texts and not self.organ_masks:
      raise PrepareError("--organ_texts wants --organ_masks=DIR beside it.")
    if self.organ_masks:
      self._organs()  # checks them

  def _organs(self) -> organ_records.Options:
    return organ_records.Options(
        masks=self.organ_masks, texts=tuple(self.organ_texts),
        grouping=self.organ_grouping, classes=self.organ_classes,
        order=self.organ_order)

  def bytes_needed(self) -> int:
    return scans.chest_bytes(len(_files(self.fetch(None, None))[0]))

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return scans.root(self, "the volumes and tables of CT-RATE")

  def contract(self):
    contract = scans.chest_contract(self)
    if self.organ_masks:
      return contract
    # A set without organs is the one that it was before there were any; and
    # so is one with the archive's own reports.
    return dataclasses.replace(contract, recipe={
        k: v for k, v in contract.recipe.items()
        if not k.startswith("organ_") and (v or k != "reports")})

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    del raw
    return ct_study.chest_findings(FINDINGS)

  def builder(self, raw, out, workers, log: scans.Log) -> scans.Scans:
    files, copies = _files(raw)
    given = [pathlib.Path(self.reports)] if self.reports else []
    reports = _reports(given or _found(raw, "json"))
    if given and not reports[""]:
      raise PrepareError(f"--reports={self.reports} holds no report; want a "
                         "JSON object of scan and its recons and report.")
    metadata, labels = _tables(raw)
    splits = {"train": [], "valid": []}
    for name in sorted(_wanted(files, reports), key=_natural):
      split, scan = name.split("_")[0], name.rpartition("_")[0]
      if name in SKIPPED:
        log({"split": split, "study": name, "reason":
             "left out by the published loader"})
        continue
      if name in copies:
        log({"split": split, "study": name, "note":
             f"{copies[name]} more files of this name are not used"})
      known = labels.get(name, {})
      row = tuple(scans.label(known.get(f)) for f in FINDINGS)
      items = reports.get(scan) or ct_study.items_of_labels(
          self.findings(raw), row)
      splits[split].append(chest_study.Job(
          root=raw, split=split, study=name, patient=_patient(name),
          items=tuple(items), labels=row,
          file=files.get(name, f"{name}.nii.gz"),
          metadata=metadata.get(name, {}), scale=self.scale))
    if self.organ_masks:
      return organ_records.builder(self._organs(), splits, out, workers, log)
    return scans.builder(splits, chest_study.make_record, out, workers, log,
                         dtype=np.int16)


def _files(root: pathlib.Path) -> tuple[dict[str, str], dict[str, int]]:
  """Volume name -> path below root, and how many other files have the name.

  The corrected release (folders "..._fixed") goes before the first one, NIfTI
  before tensors.
  """
  found = {}
  for path in sorted(root.rglob("*_*_*_*")):
    if match := _FILE.fullmatch(path.name):
      found.setdefault(match[1], []).append(path.relative_to(root).as_posix())
  best = lambda path: ("_fixed/" not in path, path.endswith(".pt"), path)
  return ({name: min(paths, key=best) for name, paths in found.items()},
          {name: len(paths) - 1 for name, paths in found.items()
           if len(paths) > 1})


def _wanted(files: dict[str, str], reports: dict[str, Any]) -> set[str]:
  """Files, and what a report names in a split that is there at all."""
  splits = {name.split("_")[0] for name in files}
  named = {recon for scan, recons in reports.get("", {}).items()
           for recon in recons if scan.split("_")[0] in splits}
  return set(files) | named


def _reports(paths: list[pathlib.Path]) -> dict[str, Any]:
  """Scan -> items; under "", scan -> names of its reconstructions."""
  reports = {"": {}}
  for path in paths:
    try:
      entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
      raise PrepareError(f"{path} is no JSON file ({error}).") from error
    for scan, entry in entries.items() if isinstance(entries, dict) else ():
      if not (isinstance(entry, dict) and {"recons", "report"} <= entry.keys()):
        break  # another file
      items = entry["report"]
      if not all(isinstance(item, str) for item in items):
        raise PrepareError(f"{path}: the report of {scan} is not a list of "
                           "texts.")
      reports[scan] = [item.strip() for item in items if item.strip()]
      reports[""][scan] = [_stem(recon) for recon in entry["recons"]]
  return reports


def _tables(root: pathlib.Path) -> tuple[dict, dict]:
  """Rows of the metadata and of the label tables by volume name."""
  metadata, labels = {}, {}
  for path in _found(root, "csv"):
    rows = scans.read_csv(path)
    columns = rows[0].keys() if rows else ()
    for table, column in ((metadata, "XYSpacing"), (labels, FINDINGS[0])):
      if {"VolumeName", column} <= set(columns):
        table.update((_stem(row["VolumeName"]), row) for row in rows)
  return metadata, labels


def _found(root: pathlib.Path, kind: str) -> list[pathlib.Path]:
  return sorted(path for pattern in _TABLES
                for path in root.glob(pattern.format(kind)))


def _stem(name: str) -> str:
  return re.sub(r"\.(nii\.gz|nii|pt|npz)$", "", name)


def _patient(name: str) -> str:
  return "_".join(name.split("_")[:2])


def _natural(name: str) -> tuple:
  """Sorts train_2 before train_10."""
  return tuple((int(part), "") if part.isdigit() else (-1, part)
               for part in name.split("_"))
