"""A trained model, ready for use, from one folder alone.

Of a run directory, config and preprocessing contract come from the checkpoint,
the vocabulary from the directory (or `text.vocabulary`). A released model, made
by `tools.release`, is a folder of

    model.safetensors   parameters by path, "vision/norm/scale"; its metadata
                        hold `release`, `step` and `vocabulary_sha256`
    config.json         the resolved settings
    contract.json       what was done to the volumes
    tokenizer.json      the vocabulary
    README.md           the model card

No data set is opened and nothing of the optimiser is read.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data import record, tokens
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.evaluators import embed
from itemclip_jax.interop import mapping, model_shapes, torch_io
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.parallel import sharding
from itemclip_jax.train import setup
from itemclip_jax.train.checkpoint import Checkpoints


WEIGHTS, RELEASE = "model.safetensors", "1"


@dataclasses.dataclass(frozen=True)
class Trained:
  """One checkpoint's model.

  Attributes:
    config: of the run that trained it.
    contract: what was done to the volumes that it was trained on.
    encoder: its compiled functions; `params` is their first argument.
    params: laid out over `mesh`.
    tokenizer: texts -> word-piece ids.
    vocabulary: its file.
    step: of the checkpoint.
    mesh: for `jax.set_mesh` around calls of the encoder.
  """
  config: schema.Config
  contract: record.Contract
  encoder: embed.Encoder
  params: dict
  tokenizer: tokens.Tokenizer
  vocabulary: pathlib.Path
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
  """Loads a released model, or a checkpoint of a run directory.

  Args:
    workdir: either of them.
    mesh: over which the parameters are laid out.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: there is no checkpoint, its vocabulary is missing or another, or
      the model of this software has other parameters.
  """
  workdir = pathlib.Path(workdir)
  if (workdir / WEIGHTS).is_file():
    return _load_release(workdir, mesh, step)
  with Checkpoints(workdir, read_only=True) as checkpoints:
    step = checkpoints.latest() if step is None else step
    if step is None:
      raise UserError(f"There is no checkpoint in {workdir}; name a folder "
                      "that was the --workdir of a training run, or a released "
                      "model.")
    meta = checkpoints.meta(step)
    where = f"The checkpoint of step {step} in {workdir}"
    config = _config(meta["config"], where)
    params = checkpoints.restore_params(
        step, model_shapes.abstract_params(config), mesh)
  contract = record.Contract.from_dict(meta["contract"], where)
  known = meta["data"].get("vocabulary_sha256")  # None in older checkpoints
  return _trained(config, contract, params, step, mesh,
                  (workdir, known, where))


def origin(config: schema.Config, mesh, workdir: pathlib.Path
           ) -> Trained | None:
  """The model of `train.start_from`; None where it is not to be used.

  That is where the setting is empty, or `workdir` has a checkpoint already.

  Raises:
    UserError: there is no such model; see `load`.
  """
  if not config.train.start_from:
    return None
  with Checkpoints(workdir, read_only=True) as checkpoints:
    if checkpoints.latest() is not None:
      return None
  try:
    return load(pathlib.Path(config.train.start_from), mesh)
  except UserError as error:
    raise UserError(f"train.start_from: {error}") from error


def _load_release(folder: pathlib.Path, mesh, step: int | None) -> Trained:
  """Reads what `tools.release` wrote."""
  where, again = f"The released model in {folder}", "Get the folder again."
  if missing := [n for n in ("config.json", "contract.json", "tokenizer.json")
                 if not (folder / n).is_file()]:
    raise UserError(f"{where} lacks {', '.join(missing)}. {again}")
  meta = torch_io.read_metadata(folder / WEIGHTS)
  if meta.get("release") != RELEASE:
    raise UserError(f"{where} has release format {meta.get('release')}, this "
                    f"software reads {RELEASE}; make it with tools.release.")
  if step not in (None, int(meta["step"])):
    raise UserError(f"{where} is of step {meta['step']}; there is no step "
                    f"{step}.")
  config = _config(read_json(folder / "config.json", again), where)
  abstract = model_shapes.abstract_params(config)
  state = torch_io.read_state(folder / WEIGHTS)
  mapping.check(state, mapping.shapes(abstract), where)
  params = jax.tree.map(
      lambda value, layout: jax.make_array_from_callback(
          value.shape, layout, lambda index: value[index]),
      mapping.unflatten(state), sharding.tree_shardings(abstract, mesh))
  contract = record.Contract.from_dict(
      read_json(folder / "contract.json", again), where)
  return _trained(config, contract, params, int(meta["step"]), mesh,
                  (folder, meta["vocabulary_sha256"], where))


def _trained(config: schema.Config, contract: record.Contract, params: dict,
             step: int, mesh, texts: tuple[pathlib.Path, str | None, str]
             ) -> Trained:
  """Puts the parts together; `texts` are the arguments of `_tokenizer`."""
  tokenizer, vocabulary = _tokenizer(config.text, *texts)
  model = DualEncoder(config, dtype=setup.compute_dtype(config, mesh))
  return Trained(
      config=config, contract=contract, params=params, step=step, mesh=mesh,
      encoder=embed.Encoder(model, setup.intensity_window(contract),
                            model.dtype),
      tokenizer=tokenizer, vocabulary=vocabulary)


def _config(raw: dict, where: str) -> schema.Config:
  try:
    return schema.from_dict(raw)
  except UserError as error:
    raise UserError(f"{where} is of another software version: {error} Use the "
                    "version that trained it.") from error


def _tokenizer(text: schema.Text, workdir: pathlib.Path, known: str | None,
               where: str) -> tuple[tokens.Tokenizer, pathlib.Path]:
  """The vocabulary whose digest is `known`, and its file, or an error."""
  path = pathlib.Path(text.vocabulary or workdir / "tokenizer.json")
  tokenizer = tokens.Tokenizer(path, max_tokens=text.max_tokens,
                               vocab_size=text.vocab_size,
                               lower_case=text.lower_case)
  if known not in (None, tokenizer.sha256):
    raise UserError(f"{where} was trained with another vocabulary than "
                    f"{path}; put the original file back.")
  return tokenizer, path
