"""A trained model, ready for use, from its run directory alone.

Config and preprocessing contract come from the checkpoint, the vocabulary from
the run directory (or `text.vocabulary`). No data set is opened and nothing of
the optimiser is read.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import record, tokens
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import embed
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.train import setup
from itemclip_jax.train.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Trained:
  """One checkpoint's model.

  Attributes:
    config: of the run that trained it.
    contract: what was done to the volumes that it was trained on.
    encoder: its compiled functions; `params` is their first argument.
    params: laid out over `mesh`.
    tokenizer: texts -> word-piece ids.
    step: of the checkpoint.
    mesh: for `jax.set_mesh` around calls of the encoder.
  """
  config: schema.Config
  contract: record.Contract
  encoder: embed.Encoder
  params: dict
  tokenizer: tokens.Tokenizer
  step: int
  mesh: jax.sharding.Mesh

  def pair_probability(self, cosine: np.ndarray) -> np.ndarray:
    """Of a pair being a positive one among the pairs of a training batch.

    What the sigmoid losses compute from a cosine. It is not a risk: its prior
    is that of the training batch, and nothing has calibrated it.
    """
    scale, bias = (float(self.params[name])
                   for name in ("logit_scale", "logit_bias"))
    return 1 / (1 + np.exp(-(np.exp(scale) * np.asarray(cosine) + bias)))


def load(workdir: pathlib.Path, mesh, step: int | None = None) -> Trained:
  """Loads a checkpoint of a run directory, the newest unless `step` is given.

  Raises:
    UserError: there is no checkpoint, its vocabulary is missing or another, or
      the model of this software has other parameters.
  """
  workdir = pathlib.Path(workdir)
  with Checkpoints(workdir, read_only=True) as checkpoints:
    step = checkpoints.latest() if step is None else step
    if step is None:
      raise UserError(f"There is no checkpoint in {workdir}; name a folder "
                      "that was the --workdir of a training run.")
    meta = checkpoints.meta(step)
    where = f"The checkpoint of step {step} in {workdir}"
    config = _config(meta["config"], where)
    model = DualEncoder(config, dtype=setup.compute_dtype(config))
    params = checkpoints.restore_params(
        step, _abstract_params(model, config), mesh)
  contract = record.Contract.from_dict(meta["contract"], where)
  return Trained(
      config=config, contract=contract, params=params, step=step, mesh=mesh,
      encoder=embed.Encoder(model, setup.intensity_window(contract),
                            model.dtype),
      tokenizer=_tokenizer(workdir, config.text, meta, where))


def _config(raw: dict, where: str) -> schema.Config:
  try:
    return schema.from_dict(raw)
  except UserError as error:
    raise UserError(f"{where} is of another software version: {error} Use the "
                    "version that trained it.") from error


def _tokenizer(workdir: pathlib.Path, text: schema.Text, meta: dict,
               where: str) -> tokens.Tokenizer:
  """The vocabulary of the training run, or an error."""
  path = pathlib.Path(text.vocabulary or workdir / "tokenizer.json")
  tokenizer = tokens.Tokenizer(path, max_tokens=text.max_tokens,
                               vocab_size=text.vocab_size,
                               lower_case=text.lower_case)
  known = meta["data"].get("vocabulary_sha256")  # None in older checkpoints
  if known not in (None, tokenizer.sha256):
    raise UserError(f"{where} was trained with another vocabulary than "
                    f"{path}; put the original file back.")
  return tokenizer


def _abstract_params(model: DualEncoder, config: schema.Config) -> dict:
  """Shapes and types of the parameters."""
  shape = jax.ShapeDtypeStruct
  example = {
      "volume": shape((1, 1, *config.vision.volume_shape), jnp.float32),
      "series_mask": shape((1, 1), bool),
      "series_names": shape((1, 1, config.vision.name_length), jnp.int32),
      "item_tokens": shape((1, 1, config.text.max_tokens), jnp.int32)}
  return jax.eval_shape(model.init, jax.random.key(0), example)["params"]
