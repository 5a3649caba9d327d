"""Builds the parts of a run from its settings, and checks that they fit."""

import dataclasses
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.data import example as example_lib
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.interop import model_shapes, pretrained
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.ops import intensity
from itemclip_jax.parallel import sharding
from itemclip_jax.train import optimizer, settings, step as step_lib, texts


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
  def window(self) -> intensity.Window:
    """Of the stored intensities."""
    return intensity_window(self.contract)

  def position(self, step: int) -> dict:
    """Where in which data a checkpoint of `step` stands."""
    return {"next_index": step, "studies_sha256": self.split.sha256,
            "vocabulary_sha256": self.make_example.tokenize.sha256}

  def _make_state(self) -> step_lib.TrainState:
    return step_lib.init_state(
        self.model, self.objective, self.tx,
        model_shapes.zeros(self.config), self.config.seed)

  def init(self, params: dict | None = None) -> step_lib.TrainState:
    """The initial state, pretrained where asked, laid out over the mesh.

    Args:
      params: all of them, laid out so, to take instead.
    """
    layout = sharding.tree_shardings(self.abstract_state(), self.mesh)
    with jax.set_mesh(self.mesh):
      state = jax.jit(self._make_state, out_shardings=layout)()
    if params is not None:
      return state.replace(params=params)
    laid = lambda p: pretrained.lay_over(p, self.config)
    extra = state.extra
    if peer := extra.get("peer"):
      extra = extra | {"peer": peer | {"params": laid(peer["params"])}}
    return state.replace(params=laid(state.params), extra=extra)

  def abstract_state(self) -> step_lib.TrainState:
    """Shapes and types of the state."""
    return jax.eval_shape(self._make_state)


def intensity_window(contract: record.Contract) -> intensity.Window:
  """How the device standardises: by the CT window, or the range of a byte."""
  if contract.modality == "RGB":
    return intensity.RGB
  if contract.window is None:
    return intensity.Window(0.0, 255.0)
  centre, width = contract.window
  return intensity.Window(centre - width / 2, centre + width / 2)


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
    config: schema.Config, mesh, workdir: pathlib.Path, *, training: bool,
    origin: Any = None,
) -> Run:
  """Opens the data, learns the vocabulary if need be, builds the model.

  Args:
    config: the settings.
    mesh: of the devices.
    workdir: its folder.
    training: may make the folder, its config.json and its vocabulary.
    origin: the `trained.Trained` that it starts from, whose vocabulary it
      takes; None for none.

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
  require_shape(config, split.contract, f"The data set in {config.data.root}")
  require_whole_batches(config, mesh)
  if origin:
    _require_origin(config, split.contract, origin)
  tokenizer = texts.tokenizer(config, workdir, training, origin)
  bias = config.loss.init_logit_bias
  if bias == "prior":
    bias = prior_bias(config, split.index["num_items"])
  run = assemble(
      config, mesh, workdir, split=split, bias=bias,
      steps=total_steps(config, len(split.source)),
      make_example=example_lib.MakeExample(
          config, tokenizer, air=split.contract.air,
          vectors=texts.vectors(config, workdir) if training else None))
  if training:
    texts.require_known(tokenizer, split)
    sample = run.make_example(split.study(0), 1, np.random.default_rng(0))
    require_keys(run.objective, sample, config)
    settings.claim(workdir, config)
  return run


def assemble(config: schema.Config, mesh, workdir: pathlib.Path, *, split,
             make_example, bias: float, steps: int) -> Run:
  """A run of parts that are made: the model, objective and optimiser for them.

  Args:
    config: the settings.
    mesh: of the devices.
    workdir: its folder.
    split: of training.
    make_example: makes its examples.
    bias: initial bias of the logits.
    steps: of the whole run.
  """
  dtype = compute_dtype(config, mesh)
  objective = objectives.make(config, dtype)
  # Models that are taught in turn each take their share of the steps.
  updates = -(-steps // getattr(objective, "models", 1))
  return Run(
      config=config, workdir=workdir, mesh=mesh,
      model=DualEncoder(config, logit_bias=bias, dtype=dtype),
      objective=objective, tx=optimizer.make_optimizer(config, updates),
      make_example=make_example, split=split, total_steps=steps, dtype=dtype)


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
  if different := settings.of_another_model(meta["config"], run.config):
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


def _require_origin(config, contract, origin):
  """Raises unless the parameters of `origin` are those of such a run."""
  where = f"The model in train.start_from={config.train.start_from}"
  contract.require_same(origin.contract, here=config.data.root, there=where)
  if different := settings.of_another_model(
      dataclasses.asdict(origin.config), config):
    raise UserError(f"{where} is another one: {'; '.join(different)}. Use the "
                    "config that it was made with.")


def require_shape(config: schema.Config, contract: record.Contract, where: str):
  """Raises unless the vision tower reads what the set at `where` stores."""
  shape = config.vision.volume_shape
  if contract.modality == "RGB" and shape[0] != 3:
    raise UserError(
        f"{where} holds pictures of 3 colours, but vision.volume_shape is "
        f"{shape}; set it to (3, height, width).")
  # Sizes that vary, and those of crops, are cut or padded by the loader.
  fixed = contract.shape is not None and config.data.crop == "fit"
  if fixed and contract.shape != shape:
    raise UserError(
        f"{where} stores {contract.shape} voxels a series, but "
        f"vision.volume_shape is {shape}; rebuild it, change the setting, or "
        "cut it with data.crop.")


def require_whole_batches(config: schema.Config, mesh):
  """Raises unless every device gets as many rows of every batch."""
  devices = mesh.size
  for name, batch in (("train.global_batch", config.train.global_batch),
                      ("data.expert_batch", config.data.expert_batch),
                      ("eval.batch", config.eval.batch)):
    if batch % devices:
      raise UserError(f"{name}={batch} is not a multiple of the {devices} "
                      "devices; change it or mesh.data and mesh.fsdp.")


def compute_dtype(config: schema.Config, mesh: jax.sharding.Mesh):
  """The type of matmuls and volumes on these devices."""
  if config.dtype == "auto":
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return jnp.float32 if on_cpu else jnp.bfloat16
  return jnp.dtype(config.dtype)
