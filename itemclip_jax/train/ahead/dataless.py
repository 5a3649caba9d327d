"""A run whose data set is not here: the shapes of its batches by its settings.

One made-up study goes the way that a stored one goes, so that a batch has the
keys, shapes and types of training.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from itemclip_jax.config import schema, towers
from itemclip_jax.data import contract as contract_lib
from itemclip_jax.data import example, triplets, volume
from itemclip_jax.parallel import sharding
from itemclip_jax.train import setup

# Sets whose voxels are Hounsfield units in two bytes; all others have one.
_CT_SETS = ("ct_rate", "rad_chest_ct", "medvl_ct69k", "phantom_chest")
_ALL = 1 << 30                # candidates at a time: none are compared again
_STEPS, _BIAS = 1000, -10.0   # numbers of the program, not of its shape
_VECTOR_WIDTH = 384           # of the sentence encoder that MedFILIP asks


@dataclasses.dataclass(frozen=True)
class _NoSplit:
  """What is read of a training split besides its studies."""
  contract: contract_lib.Contract


@dataclasses.dataclass(frozen=True)
class _NoVocabulary:
  """Texts -> as many rows of padding."""
  max_tokens: int
  unknown_id: int = 1

  def __call__(self, texts: list[str]) -> np.ndarray:
    return np.zeros((len(texts), self.max_tokens), np.int32)


class _NoVectors:
  """Label texts -> zeros."""
  width = _VECTOR_WIDTH

  def __call__(self, text: str) -> np.ndarray:
    return np.zeros(self.width, np.float32)


def make_run(config: schema.Config, mesh, workdir: pathlib.Path) -> setup.Run:
  """A run as `setup.make_run` makes it, but without data.

  Raises:
    UserError: settings and devices do not fit.
  """
  setup.require_whole_batches(config, mesh)
  contract = contract_of(config)
  bias = config.loss.init_logit_bias
  return setup.assemble(
      config, mesh, workdir, split=_NoSplit(contract),
      bias=_BIAS if bias == "prior" else bias,
      steps=config.train.steps or _STEPS,
      make_example=example.MakeExample(
          config, _NoVocabulary(config.text.max_tokens), air=contract.air,
          vectors=_NoVectors() if config.medfilip.targets == "soft" else None))


def plain(config: schema.Config) -> schema.Config:
  """The same model, which computes nothing twice: its flops are the model's."""
  whole = lambda tower: dataclasses.replace(
      tower, remat="none", remat_keeps=(), scan=False)
  return dataclasses.replace(
      config, vision=whole(config.vision), text=whole(config.text),
      train=dataclasses.replace(config.train, micro_batches=1),
      loss=dataclasses.replace(config.loss, block=_ALL))


def contract_of(config: schema.Config) -> contract_lib.Contract:
  """What is stored, by the name of the set and the tower that reads it."""
  is_ct = config.data.dataset in _CT_SETS
  is_picture = config.vision.tower in towers.PICTURES
  return contract_lib.Contract(
      modality="RGB" if is_picture else "CT" if is_ct else "MRI",
      dtype="int16" if is_ct else "uint8", intensity="",
      window=volume.CHEST_WINDOW if is_ct else None, orientation={},
      resize=None, shape=config.vision.volume_shape,
      dataset=config.data.dataset, records="", recipe={})


def batch(run: setup.Run) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes, types and layout of a global training batch."""
  buckets = run.config.data.series_buckets or (run.config.data.max_series,)
  one = run.make_example(_study(run.config, run.contract), buckets[-1],
                         np.random.default_rng(0))
  layout = sharding.batch_sharding(run.mesh)
  rows = run.config.batch_rows
  return {name: jax.ShapeDtypeStruct((rows, *np.shape(x)), np.asarray(x).dtype,
                                     sharding=layout)
          for name, x in one.items()}


def _study(config: schema.Config, contract: contract_lib.Contract) -> dict:
  """With all that any text form or objective reads."""
  shape, K = config.vision.volume_shape, config.text.max_items
  return {
      "study_id": "none", "volume": np.zeros((1, *shape), contract.dtype),
      "series_names": ["none"], "affine": np.eye(4, dtype=np.float32)[None],
      "items": ["none"], "normal": False,
      "organ_mask": np.zeros(shape, np.uint8), "organ_texts": ["none"] * K,
      "organ_normal": np.zeros(K, np.uint8),
  } | {field: ["none"] for field in triplets.FIELDS}
