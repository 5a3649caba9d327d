"""Every setting of a run: its name, type, default and meaning, once.

Those of the model (vision, text, joint) stand in `towers.py`, those that one
objective alone reads in `systems.py`.

This file imports neither JAX nor Flax, so a config can be read anywhere. A
file in `configs/` starts from `defaults()` and states only what differs; a
misspelt key is an error there and on the command line.
"""

import dataclasses
import math
from typing import Literal

import ml_collections

from itemclip_jax.config.build import build, positive, rate
from itemclip_jax.config.systems import Baselines, Eclip, Fvlm, Medfilip
from itemclip_jax.config.towers import Joint, MAX_ORDER, Text, Vision
from itemclip_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """Which built data set is read, and how fast."""
  dataset: str = ""                # name, for people and the report
  root: str = ""                   # folder that `data_pipelines.prepare` made
  train_split: str = "train"
  valid_split: str = "valid"       # measured at every checkpoint; "" = none
  test_split: str = "test"
  max_series: int = 10             # studies with more are cut
  series_fill: Literal["mask", "repeat"] = "mask"  # of studies with fewer
  series_buckets: tuple[int, ...] = ()  # () = one bucket of max_series
  # How volumes larger than the model's are cut in training: an offset of at
  # most a few voxels; any window; any window that holds a whole organ.
  crop: Literal["fit", "random", "organ"] = "fit"
  flip_rate: float = 0.0           # of each axis in training; crop != "fit"
  crop_area: tuple[float, float] = (0.9, 1.0)  # of pictures, in training
  expert_batch: int = 0            # rows with a heatmap added to every batch
  num_threads: int = 4             # that read and shape examples
  prefetch: int = 16               # examples read ahead, >= num_threads

  def __post_init__(self):
    positive("data", max_series=self.max_series, num_threads=self.num_threads,
              prefetch=self.prefetch)
    rate("data", flip_rate=self.flip_rate)
    if self.expert_batch < 0:
      raise UserError("data.expert_batch must be >= 0, got "
                      f"{self.expert_batch}.")
    if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
      raise UserError("data.crop_area must be increasing shares of a picture, "
                      f"got {self.crop_area}.")
    if self.prefetch < self.num_threads:
      raise UserError(f"data.prefetch={self.prefetch} must be at least "
                      f"data.num_threads={self.num_threads}.")
    if list(self.series_buckets) != sorted(set(self.series_buckets)):
      raise UserError("data.series_buckets must be increasing, got "
                      f"{self.series_buckets}.")
    if self.series_buckets and self.series_buckets[-1] != self.max_series:
      raise UserError(
          "The last of data.series_buckets must be data.max_series = "
          f"{self.max_series}, got {self.series_buckets}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
  """Weights and rates of the itemised loss (the paper's Table 12)."""
  ila_weight: float = 1.0          # itemised local alignment
  kta_weight: float = 1.0          # key-token alignment
  kta_rate: float = 0.05           # share of tokens that are key tokens
  iis_weight: float = 1.0          # inter-item separation
  mps_weight: float = 0.1          # multi-positive sigmoid, global vector
  token_drop_rate: float = 0.1     # p_mask of the item attention
  uwp_factor: float = 1.5          # weight of the worst positive; 1 = off
  iis_norm: Literal["BK", "B"] = "BK"
  iis_ignore_overlap: bool = False  # skip pairs of equal texts in IIS
  normal_check: bool = True        # normal studies are no negatives of another
  groups: int = 1                  # virtual ranks of the published code
  block: int = 0                   # candidates at a time; 0 = what suits
  init_logit_scale: float = 2.65926  # logarithm, ln(1 / 0.07)
  init_logit_bias: float | Literal["prior"] = -10.0  # "prior": from the batch

  def __post_init__(self):
    rate("loss", kta_rate=self.kta_rate, token_drop_rate=self.token_drop_rate)
    positive("loss", groups=self.groups, uwp_factor=self.uwp_factor)
    if self.block < 0:
      raise UserError(f"loss.block must be >= 0, got {self.block}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """Matrices decay, vectors, norms, scale and bias do not."""
  name: Literal["adamw", "sgd"] = "adamw"  # sgd: no momentum, decay as L2
  learning_rate: float = 1.75e-4
  weight_decay: float = 0.2
  beta1: float = 0.9
  beta2: float = 0.98
  eps: float = 1e-6
  cycles: int = 1                  # falls of the cosine, each from the top
  min_learning_rate: float = 0.0   # to which it falls

  def __post_init__(self):
    positive("optimizer", learning_rate=self.learning_rate, eps=self.eps)
    rate("optimizer", beta1=self.beta1, beta2=self.beta2)
    if self.cycles < 1 or not (
        0 <= self.min_learning_rate <= self.learning_rate):
      raise UserError(
          f"optimizer.cycles={self.cycles} must be >= 1, and optimizer."
          f"min_learning_rate={self.min_learning_rate} between 0 and "
          f"optimizer.learning_rate={self.learning_rate}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """How long, how much at once, and how often state is kept."""
  global_batch: int = 256
  # Towers see so many parts of a batch one after another; the loss sees it
  # whole. Takes less memory and one more forward pass.
  micro_batches: int = 1
  epochs: float = 24.0             # used when steps is 0
  steps: int = 0                   # total; 0 = epochs * examples_per_epoch
  examples_per_epoch: int = 0      # 0 = size of the split (RSICD: 10 240)
  warmup_steps: int = 2000
  log_every: int = 10              # steps between two lines of metrics.jsonl
  save_every: int = 500            # also validates
  keep: int = 2                    # newest checkpoints kept; the best stays too
  best_metric: str = "loss/total"  # of the validation split, least is best
  start_from: str = ""             # run or release to start from; "" = none

  def __post_init__(self):
    positive("train", global_batch=self.global_batch,
              micro_batches=self.micro_batches, epochs=self.epochs,
              log_every=self.log_every, save_every=self.save_every,
              keep=self.keep)
    if self.steps < 0 or self.warmup_steps < 0:
      raise UserError("train.steps and train.warmup_steps must be >= 0, got "
                      f"{self.steps} and {self.warmup_steps}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
  """What `--mode=eval` measures."""
  checkpoint: Literal["latest", "best"] = "latest"  # best: train.best_metric
  model: str = ""                  # run, released or converted model to measure
  evaluators: tuple[str, ...] = ("zeroshot_auc",)  # see evaluators/__init__.py
  untrained: bool = False          # measure the model before training as well
  threshold_split: str = ""        # whose labels choose "@valid" thresholds
  batch: int = 32
  min_positives: int = 10          # findings with fewer are not averaged
  bootstrap: int = 1000            # resamples of patients
  top_tokens: int = 8              # tokens of the segmentation IoU

  def __post_init__(self):
    positive("eval", batch=self.batch, min_positives=self.min_positives,
              bootstrap=self.bootstrap, top_tokens=self.top_tokens)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Device mesh; one size may be -1 and takes the devices left over."""
  data: int = -1
  fsdp: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """One run."""
  seed: int = 0
  objective: str = "itemized_clip"  # a module name under objectives/
  dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bf16 off CPU
  # How towers compute attention, see ops/attention.py; auto suits the device.
  attention: Literal["auto", "xla", "chunked", "fused", "splash",
                     "cudnn"] = "auto"
  data: Data = Data()
  vision: Vision = Vision()
  text: Text = Text()
  joint: Joint = Joint()
  loss: Loss = Loss()
  baselines: Baselines = Baselines()
  fvlm: Fvlm = Fvlm()
  medfilip: Medfilip = Medfilip()
  eclip: Eclip = Eclip()
  optimizer: Optimizer = Optimizer()
  train: Train = Train()
  eval: Eval = Eval()
  mesh: Mesh = Mesh()

  def __post_init__(self):
    if self.train.global_batch % self.loss.groups:
      raise UserError(f"loss.groups={self.loss.groups} does not divide "
                      f"train.global_batch={self.train.global_batch}.")
    if self.batch_rows % self.train.micro_batches:
      raise UserError(
          f"train.micro_batches={self.train.micro_batches} does not divide the "
          f"{self.batch_rows} rows of a batch.")
    if self.eval.threshold_split == self.data.test_split:
      raise UserError(f"eval.threshold_split={self.eval.threshold_split!r} is "
                      "the split that is measured; choose thresholds on "
                      "another, or on none.")
    if self.text.form == "report_and_sentence" and self.text.max_items != 2:
      raise UserError(f"text.max_items={self.text.max_items}, but text.form="
                      "'report_and_sentence' makes 2 texts; set it to 2.")
    if self.text.form in ("report", "sentence") and self.text.max_items != 1:
      raise UserError(f"text.max_items={self.text.max_items}, but text.form="
                      f"{self.text.form!r} makes one text; set it to 1.")
    vision, most = self.vision, MAX_ORDER
    if vision.series_embedding == "order" and self.data.max_series > most:
      raise UserError(f"data.max_series={self.data.max_series}, but with "
                      f"vision.series_embedding='order' it may be {most} at "
                      "most.")
    if vision.tower != "hlip" and self.data.max_series != 1:
      raise UserError(f"data.max_series={self.data.max_series}, but "
                      f"vision.tower={vision.tower!r} reads one series a "
                      "study; set it to 1.")
    placed = {"segmentation", "region_text"} & set(self.eval.evaluators)
    if vision.mixture_tokens and placed:
      raise UserError("vision.mixture_tokens have no place in the picture; "
                      f"take {' and '.join(sorted(placed))} out of "
                      "eval.evaluators.")
    tokens = math.prod(vision.grid)
    if "segmentation" in self.eval.evaluators and self.eval.top_tokens > tokens:
      raise UserError(f"eval.top_tokens={self.eval.top_tokens} is more than "
                      f"the {tokens} tokens of a series.")

  @property
  def batch_rows(self) -> int:
    """Rows of a training batch, all processes together."""
    return self.train.global_batch + self.data.expert_batch


def defaults() -> ml_collections.ConfigDict:
  """All settings at their defaults, locked: a misspelt key raises at once."""
  raw = dataclasses.asdict(Config())
  # A number that may also be a word must not be pinned to the default's type.
  raw["loss"]["init_logit_bias"] = ml_collections.FieldReference(
      raw["loss"]["init_logit_bias"], field_type=object)
  return ml_collections.ConfigDict(raw).lock()


def from_config_dict(raw: ml_collections.ConfigDict) -> Config:
  """The one door from `configs/*.py` and the command line into the code.

  Raises:
    UserError: a setting is unknown, of the wrong type, or out of range.
  """
  return from_dict(raw.to_dict())


def from_dict(raw: dict) -> Config:
  """Builds a checked `Config` from nested plain dicts (`config.json`)."""
  return build(Config, raw, "config")
