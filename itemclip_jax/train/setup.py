"""Builds the parts of a run from its settings, and checks that they fit."""

import dataclasses
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.data import example as example_lib
from itemclip_jax.data import record, tokens
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.parallel import multihost, sharding
from itemclip_jax.train import optimizer, step as step_lib
from itemclip_jax.train.writer import write_json


@dataclasses.dataclass(frozen=True)
class Run:
  """What training and evaluation of one work directory share."""
  config: schema.Config
  workdir: pathlib.Path
  mesh: jax.sharding.Mesh
  model: DualEncoder
  objective: Any
  tx: Any
  make_example: example_lib.MakeExample
  split: record.Split                # of training, without ground truth
  total_steps: int
  dtype: Any

  @property
  def contract(self) -> record.Contract:
    return self.split.contract

  @property
  def window(self) -> tuple[float, float]:
    """(low, high) of the stored intensities."""
    return intensity_window(self.contract)

  def position(self, step: int) -> dict:
    """Where in which data a checkpoint of `step` stands."""
    return {"next_index": step, "studies_sha256": self.split.sha256,
            "vocabulary_sha256": self.make_example.tokenize.sha256}

  def example(self) -> dict:
    """A batch of one study, of zeros, to initialise the model with."""
    c = self.config
    return {
        "volume": jnp.zeros((1, 1, *c.vision.volume_shape), self.dtype),
        "series_mask": jnp.ones((1, 1), bool),
        "series_names": jnp.zeros((1, 1, c.vision.name_length), jnp.int32),
        "item_tokens": jnp.zeros((1, 1, c.text.max_tokens), jnp.int32),
    }

  def _make_state(self) -> step_lib.TrainState:
    return step_lib.init_state(self.model, self.objective, self.tx,
                               self.example(), self.config.seed)

  def init(self) -> step_lib.TrainState:
    """The initial state, laid out over the mesh."""
    layout = sharding.tree_shardings(self.abstract_state(), self.mesh)
    with jax.set_mesh(self.mesh):
      return jax.jit(self._make_state, out_shardings=layout)()

  def abstract_state(self) -> step_lib.TrainState:
    """Shapes and types of the state."""
    return jax.eval_shape(self._make_state)


def intensity_window(contract: record.Contract) -> tuple[float, float]:
  """(low, high) that map to 0 and 1: the CT window, or a byte's range."""
  if contract.window is None:
    return 0.0, 255.0
  centre, width = contract.window
  return centre - width / 2, centre + width / 2


def total_steps(config: schema.Config, num_studies: int) -> int:
  """train.steps, or the steps of train.epochs."""
  if config.train.steps:
    return config.train.steps
  examples = config.train.examples_per_epoch or num_studies
  return max(1, math.floor(
      config.train.epochs * (examples // config.train.global_batch)))


def prior_bias(config: schema.Config, num_items: np.ndarray) -> float:
  """Log odds that an (image, candidate) pair of the loss is a positive one."""
  positives = float(np.mean(np.minimum(num_items, config.text.max_items)))
  negatives = config.train.global_batch - 1
  return math.log(positives / max(negatives, 1))


def make_run(
    config: schema.Config, mesh, workdir: pathlib.Path, *, training: bool
) -> Run:
  """Opens the data, learns the vocabulary if need be, builds the model.

  Raises:
    UserError: data, settings and work directory do not fit one another.
  """
  if workdir.exists() and not workdir.is_dir():
    raise UserError(f"--workdir={workdir} is a file; name a folder.")
  if not config.data.root:
    raise UserError("data.root is empty; set --config.data.root to the folder "
                    "that data_pipelines.prepare made.")
  split = record.open_split(config.data.root, config.data.train_split,
                            ground_truth=False)
  _check_shape(config, split.contract)
  _check_mesh(config, mesh)
  tokenizer = _tokenizer(config, workdir, training)
  dtype = compute_dtype(config)
  bias = config.loss.init_logit_bias
  if bias == "prior":
    bias = prior_bias(config, split.index["num_items"])
  steps = total_steps(config, len(split.source))
  run = Run(
      config=config, workdir=workdir, mesh=mesh,
      model=DualEncoder(config, logit_bias=bias, dtype=dtype),
      objective=objectives.make(config, dtype),
      tx=optimizer.make_optimizer(config, steps),
      make_example=example_lib.MakeExample(config, tokenizer),
      split=split, total_steps=steps, dtype=dtype)
  if training:
    sample = run.make_example(split.study(0), 1, np.random.default_rng(0))
    require_keys(run.objective, sample, config)
    _claim(run)
  return run


def require_keys(reader, batch: dict, config: schema.Config):
  """Raises unless `batch` holds what an objective or evaluator REQUIRES."""
  if missing := [k for k in reader.REQUIRES if k not in batch]:
    raise UserError(
        f"{type(reader).__module__} needs {missing}, which the data set in "
        f"{config.data.root} does not hold; choose another objective or leave "
        "the evaluator out of config.eval.evaluators.")


def require_fit(run: Run, meta: dict, step: int):
  """Raises unless a checkpoint was made by this model, on such volumes."""
  where = f"The checkpoint of step {step} in {run.workdir}"
  contract = record.Contract.from_dict(meta["contract"], where)
  run.contract.require_same(contract, here=run.config.data.root, there=where)
  ours = _as_json(run.config)
  if different := [d for part in ("vision", "text", "joint") for d in
                   _differences(meta["config"][part], ours[part], f"{part}.")]:
    raise UserError(f"{where} is of another model: {'; '.join(different)}. "
                    "Use the config that it was trained with.")
  theirs = meta["data"]["vocabulary_sha256"]
  if theirs != run.make_example.tokenize.sha256:
    raise UserError(
        f"{where} was trained with another vocabulary than "
        f"{run.config.text.vocabulary or run.workdir / 'tokenizer.json'}; put "
        "the original file back.")


def require_same_data(run: Run, meta: dict, step: int):
  """Raises unless a checkpoint stands in this data, read by this vocabulary."""
  stored, ours = meta["data"], run.position(step)
  where = f"the checkpoint of step {step} in {run.workdir}"
  if stored["studies_sha256"] != ours["studies_sha256"]:
    raise UserError(
        f"{run.config.data.root} holds other training studies than those that "
        f"{where} was trained on, so the order of its data is lost; give the "
        "same data set, or choose another --workdir.")


def _as_json(config: schema.Config) -> dict:
  """The settings as a JSON file gives them back: tuples become lists."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def _check_shape(config, contract):
  if config.vision.volume_shape != contract.shape:
    raise UserError(
        f"The data set in {config.data.root} stores {contract.shape} voxels a "
        f"series, but vision.volume_shape is {config.vision.volume_shape}; "
        "rebuild it or change the setting.")


def _check_mesh(config, mesh):
  devices = mesh.size
  for name, batch in (("train.global_batch", config.train.global_batch),
                      ("eval.batch", config.eval.batch)):
    if batch % devices:
      raise UserError(f"{name}={batch} is not a multiple of the {devices} "
                      "devices; change it or mesh.data and mesh.fsdp.")


def compute_dtype(config: schema.Config):
  """The type of matmuls and volumes on this machine."""
  if config.dtype == "auto":
    on_cpu = jax.default_backend() == "cpu"
    return jnp.float32 if on_cpu else jnp.bfloat16
  return jnp.dtype(config.dtype)


def _tokenizer(config, workdir, training) -> tokens.Tokenizer:
  """The given vocabulary, or one learnt from the training reports."""
  given = config.text.vocabulary
  path = pathlib.Path(given) if given else workdir / "tokenizer.json"
  if training and not given and not path.exists() and multihost.is_main():
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = record.read_items(config.data.root, config.data.train_split)
    tokens.train_vocabulary(texts, path, config.text.vocab_size)
  multihost.sync("vocabulary")
  return tokens.Tokenizer(path, max_tokens=config.text.max_tokens,
                          vocab_size=config.text.vocab_size,
                          lower_case=config.text.lower_case)


# Settings that change no number of a run and may differ when it goes on.
_FREE = ("data.root", "data.num_threads", "data.prefetch", "mesh.", "eval.",
         "train.log_every", "train.save_every", "train.keep",
         "train.best_metric")


def _claim(run: Run):
  """Writes config.json, or refuses a directory of other settings."""
  path = run.workdir / "config.json"
  ours = _as_json(run.config)
  if path.exists():
    stored = read_json(path, "Choose another --workdir, or mend it.")
    different = [d for d in _differences(stored, ours)
                 if not d.startswith(_FREE)]
    if different:
      raise UserError(
          f"{run.workdir} holds a run with other settings: "
          f"{'; '.join(different)}. Choose another --workdir or go back to its "
          "settings.")
  multihost.sync("config")  # read by all before it is written by one
  if multihost.is_main():
    write_json(path, ours)


def _differences(theirs: dict, ours: dict, where: str = "") -> list[str]:
  out = []
  for key in sorted(theirs.keys() | ours.keys()):
    a, b = theirs.get(key), ours.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      out += _differences(a, b, f"{where}{key}.")
    elif a != b:
      out.append(f"{where}{key} was {a!r}, is {b!r}")
  return out
