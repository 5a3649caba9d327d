"""Any archive of MRI studies in the public layout: series files and a report.

    <root>/<split>/<study>/<series>/img.nii.gz
    <root>/{train,valid,test}.json    see data_pipelines/volumes/study.py
    <root>/findings.json              optional: label columns and prompts
                                      { "<finding>": {"prompts": ["...", ...],
                                                      "label": "<column>"} }

The stored grid is HLIP's: padded to a square, resized to `resize`, centre crop
to `shape` (Zhao et al. 2025, https://arxiv.org/abs/2505.21862).
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from data_pipelines.volumes import nifti
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record
from itemclip_jax.data import volume

SPLITS = ("train", "valid", "test")
VERSION = "1.0.0"
Log = Callable[[dict[str, str]], Any]  # takes one line of ingest.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""                                 # the archive's root
  resize: tuple[int, int, int] = (48, 256, 256)    # D, H, W before the crop
  shape: tuple[int, int, int] = (48, 224, 224)     # D, H, W as stored
  intensity: str = "percentiles"                   # see volume.INTENSITY

  def __post_init__(self):
    if self.intensity not in volume.INTENSITY:
      raise PrepareError(f"--intensity={self.intensity} is none of "
                         f"{', '.join(volume.INTENSITY)}.")
    if any(r < s for r, s in zip(self.resize, self.shape)):
      raise PrepareError(f"--resize={self.resize} must be at least --shape="
                         f"{self.shape} along every axis.")

  def bytes_needed(self) -> int:
    """Shards and the shuffler's copy of them, uncompressed."""
    root, total = self.fetch(None, None), 0
    voxels = self.shape[0] * self.shape[1] * self.shape[2]
    for entries in read_reports(root).values():
      for entry in entries.values():
        kinds = 2 if "lesions" in entry else 1  # the mask is as large
        total += kinds * voxels * len(entry.get("series", ()))
    return 2 * total

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    if not self.source:
      raise PrepareError("--dataset=studies wants --source=DIR, the folder "
                         "that holds train.json and the studies.")
    return pathlib.Path(self.source)

  def contract(self) -> record.Contract:
    return record.Contract(
        modality="MRI", dtype="uint8",
        intensity=volume.INTENSITY[self.intensity],
        orientation=nifti.ORIENTATION, resize=self.resize, shape=self.shape,
        dataset="studies", records=f"studies/{VERSION}",
        recipe=dataclasses.asdict(self))

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    path = raw / "findings.json"
    return json.loads(path.read_text()) if path.exists() else {}

  def builder(self, raw, out, workers: Workers, log: Log) -> "Studies":
    columns = tuple(f["label"] for f in self.findings(raw).values())
    return Studies(dataset=self, raw=raw, columns=columns, workers=workers,
                   log=log, data_dir=str(out), file_format="array_record")


class Studies(tfds.core.GeneratorBasedBuilder):
  """Writes the records of an archive; rejected studies go to `log`."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, dataset: Dataset, raw: pathlib.Path,
               columns: tuple[str, ...], workers: Workers, log: Log,
               **kwargs):
    self._dataset, self._raw, self._columns = dataset, raw, columns
    self._workers, self._log = workers, log
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, features=record.features(), description=__doc__)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split, entries)
            for split, entries in read_reports(self._raw).items()}

  def _generate_examples(
      self, split: str, entries: dict[str, dict]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    # Records of one split hold the same features: where some study has its
    # lesions outlined, one that names none has none.
    truth = {"lesions": []} if any(
        "lesions" in entry for entry in entries.values()) else {}
    jobs = [
        study_lib.Job(root=self._raw, split=split, study=name,
                      entry=truth | entry,
                      columns=self._columns, resize=self._dataset.resize,
                      shape=self._dataset.shape,
                      intensity=self._dataset.intensity)
        for name, entry in entries.items()]
    num_kept, reasons = 0, set()
    for result in self._workers.map(
        study_lib.make_record, jobs, title=f"{split}: volumes to records"):
      for line in result.log:
        self._log(line)
        reasons.add(line["reason"])
      if result.record is not None:
        num_kept += 1
        yield result.study, result.record
    if not num_kept:
      raise PrepareError(f"None of the {len(entries)} studies of split "
                         f"{split!r} can be used: "
                         f"{'; '.join(sorted(reasons))}.")


def read_reports(root: pathlib.Path) -> dict[str, dict[str, dict]]:
  """Reads <split>.json of every split there is: split -> study -> entry.

  Raises:
    PrepareError: there is none, one is empty, or a patient is in two splits.
  """
  paths = {s: root / f"{s}.json" for s in SPLITS}
  reports = {s: json.loads(p.read_text()) for s, p in paths.items()
             if p.exists()}
  if not reports:
    raise PrepareError(f"{root} holds none of train.json, valid.json and "
                       "test.json; give the root of the archive as --source.")
  seen = {}
  for split, entries in reports.items():
    if not entries:
      raise PrepareError(f"{paths[split]} names no study; delete it or add "
                         "some.")
    for name, entry in entries.items():
      patient = study_lib.patient_id(name, entry)
      if seen.setdefault(patient, split) != split:
        raise PrepareError(
            f"Patient {patient!r} is in split {seen[patient]!r} and in "
            f"{split!r}; a patient may be in one only, so mend the files in "
            f"{root}.")
  return reports
