"""A set of synthetic chest CT, through the writer of `prepare`."""

import dataclasses
import pathlib

import numpy as np
from scipy import ndimage

from data_pipelines import scans
from data_pipelines.result import Result
from data_pipelines.volumes import ct
from data_pipelines.volumes import ct_study
from itemclip_jax.data.volume import Volume

TEXTS = ("Nodule in the left upper lobe.", "No pleural effusion.",
         "Calcified plaques of the coronary arteries.")
_AIR, _NOISE = -1000, (15, 8)    # Hounsfield units; noise of a body, of air
_COARSE = 14                     # voxels between two nodes of the soft shapes
_AFFINE = np.diag((3.0, 1.0, 1.0, 1.0))


def scan(shape: tuple[int, int, int]) -> np.ndarray:
  """[D, H, W] int16 Hounsfield units: soft shapes in air, a scanner's noise."""
  rng = np.random.default_rng(0)
  nodes = rng.normal(-300, 300, [-(-n // _COARSE) + 1 for n in shape])
  soft = ndimage.zoom(nodes.astype(np.float32), _COARSE, order=1)
  _, h, w = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
  body = np.broadcast_to(h**2 + w**2 < 0.8, shape)
  voxels = np.where(body, soft[tuple(map(slice, shape))], _AIR)
  voxels += np.where(body, *_NOISE) * rng.standard_normal(shape)
  return np.rint(voxels).astype(np.int16)


def moved(voxels: np.ndarray, number: int) -> np.ndarray:
  """Another scan of as many bytes: its slices moved round."""
  return np.roll(voxels, number, axis=0)


def build(out: pathlib.Path, *, count: int, shape: tuple[int, int, int],
          compression: str):
  """Writes `count` of them as the split "train" of a set."""
  # It defines the flags of its command line.
  from data_pipelines import prepare  # pylint: disable=g-import-not-at-top
  prepare.build(_Dataset(count=count, shape=shape), out, num_workers=1,
                compression=compression)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Dataset:
  """What `prepare` asks a data set for."""
  count: int
  shape: tuple[int, int, int]

  def bytes_needed(self) -> int:
    return 3 * 2 * self.count * int(np.prod(self.shape))

  def contract(self):
    return scans.chest_contract(self)

  def fetch(self, out, workers) -> np.ndarray:
    del out, workers  # one scan is all that there is
    return scan(self.shape)

  def findings(self, raw) -> dict:
    del raw
    return {}

  def builder(self, raw, out, workers, log):
    jobs = [ct_study.Job(root=pathlib.Path(), split="train", study=str(number),
                         patient=str(number), items=TEXTS, labels=())
            for number in range(self.count)]
    return scans.builder({"train": jobs}, _Records(raw).make, out, workers, log,
                         dtype=np.int16)


@dataclasses.dataclass(frozen=True)
class _Records:
  """Makes the record of a job."""
  voxels: np.ndarray

  def make(self, job: ct_study.Job) -> Result:
    volume = Volume(moved(self.voxels, int(job.study)), _AFFINE)
    series = ct_study.Stored("CHEST", volume, volume.spacing_mm, job.root / "-")
    return Result(job.study, ct_study.make_record(
        job, [series], ct.ORIENTATION["axial"]), ())
