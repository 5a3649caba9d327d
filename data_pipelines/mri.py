"""What the data sets of brain MRI share: HLIP's grid and the TFDS builder.

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.errors import PrepareError
from data_pipelines.parallel import Workers
from data_pipelines.volumes import nifti
from data_pipelines.volumes import series as series_lib
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record
from itemclip_jax.data import volume

VERSION = "1.0.0"
Log = Callable[[dict[str, str]], Any]  # takes one line of ingest.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of every such build."""
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

  @property
  def name(self) -> str:
    return type(self).__module__.rpartition(".")[2]

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    if not self.source or not pathlib.Path(self.source).is_dir():
      raise PrepareError(
          f"--dataset={self.name} wants --source=DIR, the folder that holds "
          f"the archive; got {self.source or 'none'}.")
    return pathlib.Path(self.source)

  def grid(self, *, stack_two: bool = False) -> series_lib.Grid:
    return series_lib.Grid(
        resize=self.resize, shape=self.shape, intensity=self.intensity,
        stack_two=stack_two)

  def record_bytes(self, num_series: int, has_mask: bool) -> int:
    """One study in the shards, the shuffler's copy and that of `kept`."""
    return 3 * num_series * math.prod(self.shape) * (2 if has_mask else 1)

  def mri_contract(self, *, tensors: bool) -> record.Contract:
    """The contract; `tensors` says that some files have no orientation."""
    unknown = {"unknown": series_lib.UNKNOWN} if tensors else {}
    return record.Contract(
        modality="MRI", dtype="uint8",
        intensity=volume.INTENSITY[self.intensity],
        orientation=nifti.ORIENTATION | unknown, resize=self.resize,
        shape=self.shape, dataset=self.name, records=f"studies/{VERSION}",
        recipe=dataclasses.asdict(self))


def builder(jobs: dict[str, list[study_lib.Job]], out: pathlib.Path,
            workers: Workers, log: Log) -> "Studies":
  """The builder of a set whose splits hold these studies, not yet run."""
  return Studies(jobs=jobs, workers=workers, log=log, data_dir=str(out),
                 file_format="array_record")


class Studies(tfds.core.GeneratorBasedBuilder):
  """Writes the records of an archive; rejected studies go to `log`."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, jobs: dict[str, list[study_lib.Job]],
               workers: Workers, log: Log, **kwargs):
    self._jobs, self._workers, self._log = jobs, workers, log
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self, features=record.features(), description=__doc__)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split, jobs)
            for split, jobs in self._jobs.items()}

  def _generate_examples(
      self, split: str, jobs: list[study_lib.Job]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    num_kept, reasons = 0, set()
    for result in self._workers.records(
        study_lib.make_record, jobs, title=f"{split}: volumes to records"):
      for line in result.log:
        self._log(line)
        reasons.add(line.get("reason"))
      if result.record is not None:
        num_kept += 1
        yield result.study, result.record
    if not num_kept:
      told = "; ".join(sorted(reasons - {None}))
      raise PrepareError(f"None of the {len(jobs)} studies of split {split!r} "
                         f"can be used: {told}.")
