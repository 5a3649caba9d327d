"""The organs of a record: their mask, and what is said of each.

A study without a usable mask is left out, with the reason in ingest.jsonl: a
record of no organs would say that the patient has none, and a model trained on
organs learns nothing from it. One of which no file tells texts gets those that
rules find in its items, and a note.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipelines import scans
from data_pipelines.errors import PrepareError
from data_pipelines.organs import grouping
from data_pipelines.organs import masks
from data_pipelines.organs import texts
from data_pipelines.result import Result
from data_pipelines.volumes import chest_study
from data_pipelines.volumes import ct_study
from data_pipelines.volumes.nifti import SeriesError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Those of a data set whose organs are segmented.

  Attributes:
    masks: folder, see masks.py.
    texts: files, see texts.py; () = by rules.
    grouping, classes: names of grouping.json.
    order: of texts.ORDERS.
  """
  masks: str
  texts: tuple[str, ...]
  grouping: str
  classes: str
  order: str

  def __post_init__(self):
    if self.order not in texts.ORDERS:
      raise PrepareError(f"--organ_order={self.order} is none of "
                         f"{', '.join(texts.ORDERS)}.")
    self.organs.members(grouping.classes(self.classes).values())

  @property
  def organs(self) -> grouping.Grouping:
    return grouping.grouping(self.grouping)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(chest_study.Job):
  """mask: file or folder; texts: None = by rules from the items."""
  mask: pathlib.Path
  options: Options
  texts: texts.Texts | None


def features(mask: np.ndarray, said: texts.Texts) -> dict[str, Any]:
  """The features of a record, see itemclip_jax.data.record.

  Args:
    mask: [D, H, W] uint8 on the grid of the volume, r + 1 on organ r.
    said: of every organ, in order.
  """
  return {"organ_mask": mask.ravel(),
          "organ_texts": [one.text for one in said.values()],
          "organ_normal": np.array([one.normal for one in said.values()],
                                   np.uint8)}


def make_record(job: Job) -> Result:
  """As chest_study's, with organs; never raises for bad data."""
  made = chest_study.make_record(job)
  if made.record is None:
    return made
  record, organs = made.record, job.options.organs
  try:
    mask = masks.on_grid(
        masks.read(job.mask, organs, job.options.classes),
        record["volume"].shape[1:], record["affine"][0].astype(float))
    said = job.texts or texts.of_items(job.items, organs.names)
  except SeriesError as error:
    return Result(job.study, None, (
        *made.log, ct_study.line(job, reason=f"organs: {error}")))
  return Result(job.study, record | features(mask, said), made.log)


def builder(options: Options, splits: dict[str, list[chest_study.Job]],
            out, workers, log: scans.Log) -> scans.Scans:
  """The TFDS builder of those jobs that have a mask."""
  paths = masks.find(pathlib.Path(options.masks))
  said = texts.read([pathlib.Path(p) for p in options.texts],
                    options.organs.names, order=options.order
                   ) if options.texts else {}
  with_organs = {
      split: [_job(job, options, paths[job.study], said, log)
              for job in jobs if _has_mask(job, paths, log)]
      for split, jobs in splits.items()}
  return scans.builder(with_organs, make_record, out, workers, log,
                       dtype=np.int16, organs=options.organs.names)


def _has_mask(job: chest_study.Job, paths, log: Callable) -> bool:
  if job.study not in paths:
    log(ct_study.line(job, reason="organs: there is no mask of this study"))
  return job.study in paths


def _job(job: chest_study.Job, options: Options, mask: pathlib.Path, said, log
         ) -> Job:
  # A report is that of a scan and may stand for all its reconstructions.
  own = said.get(job.study) or said.get(job.study.rpartition("_")[0])
  if said and own is None:
    log(ct_study.line(job, note="organs: no texts; by rules from the items"))
  fields = {f.name: getattr(job, f.name) for f in dataclasses.fields(job)}
  return Job(**fields, mask=mask, options=options, texts=own)
