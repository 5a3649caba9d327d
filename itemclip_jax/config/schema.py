"""Every setting of a run: its name, type, default and meaning, once.

This file imports neither JAX nor Flax, so a config can be read anywhere. A
file in `configs/` starts from `defaults()` and states only what differs; a
misspelt key is an error there and on the command line.
"""

import dataclasses
import math
from typing import Literal

import ml_collections

from itemclip_jax.config.build import build
from itemclip_jax.errors import UserError


MAX_ORDER = 40  # series that the published order embedding can tell apart


def _positive(where: str, **values):
  for name, value in values.items():
    if value <= 0:
      raise UserError(f"{where}.{name} must be > 0, got {value}.")


def _rate(where: str, **values):
  for name, value in values.items():
    if not 0.0 <= value <= 1.0:
      raise UserError(f"{where}.{name} must lie in [0, 1], got {value}.")


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
  num_threads: int = 4             # that read and shape examples
  prefetch: int = 16               # examples held in memory, >= num_threads

  def __post_init__(self):
    _positive("data", max_series=self.max_series, num_threads=self.num_threads,
              prefetch=self.prefetch)
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
class Vision:
  """HLIP tower: a ViT whose attention groups are slice, series or study."""
  tower: Literal["hlip"] = "hlip"
  volume_shape: tuple[int, int, int] = (48, 224, 224)  # D, H, W voxels
  patch: tuple[int, int, int] = (8, 16, 16)            # voxels of one token
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_ratio: float = 4.0
  slice_blocks: tuple[int, ...] = ()                   # the rest are series
  study_blocks: tuple[int, ...] = (2, 5, 8, 11)
  series_embedding: Literal["name", "order", "none"] = "name"
  name_length: int = 110           # characters read of a series name, + end
  name_encoder: tuple[int, int, int, int] = (256, 3, 4, 300)
  # ^ width, depth, heads and MLP width of the series-name encoder
  drop_path: float = 0.2
  remat: Literal["none", "block"] = "none"

  def __post_init__(self):
    _positive("vision", width=self.width, depth=self.depth,
              num_heads=self.num_heads, mlp_ratio=self.mlp_ratio,
              name_length=self.name_length)
    _rate("vision", drop_path=self.drop_path)
    if min(self.patch) < 1 or min(self.volume_shape) < 1:
      raise UserError(f"vision.patch={self.patch} and vision.volume_shape="
                      f"{self.volume_shape} must be positive.")
    if self.width % self.num_heads:
      raise UserError(f"vision.num_heads={self.num_heads} does not divide "
                      f"vision.width={self.width}.")
    if any(v % p for v, p in zip(self.volume_shape, self.patch)):
      raise UserError(f"vision.patch={self.patch} does not tile "
                      f"vision.volume_shape={self.volume_shape}.")
    if self.series_embedding == "name" and self.name_length > 200:
      raise UserError(f"vision.name_length={self.name_length} is more than the "
                      "200 characters that the name encoder can tell apart.")
    levels = self.slice_blocks + self.study_blocks
    if len(levels) != len(set(levels)) or any(
        not 0 <= i < self.depth for i in levels):
      raise UserError(
          f"vision.slice_blocks={self.slice_blocks} and vision.study_blocks="
          f"{self.study_blocks} must be distinct and below vision.depth="
          f"{self.depth}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """How a report becomes item slots, and the tower that reads them."""
  max_items: int = 7               # K: item slots per study
  max_tokens: int = 256            # T: word pieces per item
  vocabulary: str = ""             # tokenizer.json; "" = learnt from reports
  vocab_size: int = 30522
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_width: int = 3072
  dropout: float = 0.1
  word_init: float = 0.02          # std of new word vectors; BERT's, small
  lower_case: bool = False         # reports are lower-cased (chest CT)
  frozen: bool = False             # all but LayerNorm and the projection
  diverse_max_merge: int = 0       # diverse sampling: items joined; 0 = off
  diverse_prob: float = 0.5        # of joining neighbours in the list

  def __post_init__(self):
    _positive("text", max_items=self.max_items, max_tokens=self.max_tokens,
              vocab_size=self.vocab_size, width=self.width, depth=self.depth,
              num_heads=self.num_heads, mlp_width=self.mlp_width,
              word_init=self.word_init)
    _rate("text", diverse_prob=self.diverse_prob, dropout=self.dropout)
    if self.width % self.num_heads:
      raise UserError(f"text.num_heads={self.num_heads} does not divide "
                      f"text.width={self.width}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joint:
  """The joint space in which items attend to image tokens."""
  width: int = 512                 # E
  num_heads: int = 8               # A: heads of the item cross-attention
  query_key_gain: float = 1.0      # of their initial kernels; 1 = torch's

  def __post_init__(self):
    _positive("joint", width=self.width, num_heads=self.num_heads,
              query_key_gain=self.query_key_gain)
    if self.width % self.num_heads:
      raise UserError(f"joint.num_heads={self.num_heads} does not divide "
                      f"joint.width={self.width}.")


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
  block: int = 0                   # candidates at a time; 0 = all at once
  init_logit_scale: float = 2.65926  # logarithm, ln(1 / 0.07)
  init_logit_bias: float | Literal["prior"] = -10.0  # "prior": from the batch

  def __post_init__(self):
    _rate("loss", kta_rate=self.kta_rate, token_drop_rate=self.token_drop_rate)
    _positive("loss", groups=self.groups, uwp_factor=self.uwp_factor)
    if self.block < 0:
      raise UserError(f"loss.block must be >= 0, got {self.block}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """AdamW; matrices decay, vectors, norms, scale and bias do not."""
  learning_rate: float = 1.75e-4
  weight_decay: float = 0.2
  beta1: float = 0.9
  beta2: float = 0.98
  eps: float = 1e-6

  def __post_init__(self):
    _positive("optimizer", learning_rate=self.learning_rate, eps=self.eps)
    _rate("optimizer", beta1=self.beta1, beta2=self.beta2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """How long, how much at once, and how often state is kept."""
  global_batch: int = 256
  epochs: float = 24.0             # used when steps is 0
  steps: int = 0                   # total; 0 = epochs * examples_per_epoch
  examples_per_epoch: int = 0      # 0 = size of the split (RSICD: 10 240)
  warmup_steps: int = 2000
  log_every: int = 10              # steps between two lines of metrics.jsonl
  save_every: int = 500            # also validates
  keep: int = 2                    # newest checkpoints kept; the best stays too
  best_metric: str = "loss/total"  # of the validation split, least is best

  def __post_init__(self):
    _positive("train", global_batch=self.global_batch, epochs=self.epochs,
              log_every=self.log_every, save_every=self.save_every,
              keep=self.keep)
    if self.steps < 0 or self.warmup_steps < 0:
      raise UserError("train.steps and train.warmup_steps must be >= 0, got "
                      f"{self.steps} and {self.warmup_steps}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
  """What `--mode=eval` measures."""
  checkpoint: Literal["latest", "best"] = "latest"  # best: train.best_metric
  evaluators: tuple[str, ...] = ("zeroshot_auc",)  # modules of evaluators/
  batch: int = 32
  min_positives: int = 10          # findings with fewer are not averaged
  bootstrap: int = 1000            # resamples of patients
  top_tokens: int = 8              # tokens of the segmentation IoU

  def __post_init__(self):
    _positive("eval", batch=self.batch, min_positives=self.min_positives,
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
  data: Data = Data()
  vision: Vision = Vision()
  text: Text = Text()
  joint: Joint = Joint()
  loss: Loss = Loss()
  optimizer: Optimizer = Optimizer()
  train: Train = Train()
  eval: Eval = Eval()
  mesh: Mesh = Mesh()

  def __post_init__(self):
    if self.train.global_batch % self.loss.groups:
      raise UserError(f"loss.groups={self.loss.groups} does not divide "
                      f"train.global_batch={self.train.global_batch}.")
    vision, most = self.vision, MAX_ORDER
    if vision.series_embedding == "order" and self.data.max_series > most:
      raise UserError(f"data.max_series={self.data.max_series}, but with "
                      f"vision.series_embedding='order' it may be {most} at "
                      "most.")
    tokens = math.prod(v // p for v, p in zip(vision.volume_shape,
                                              vision.patch))
    if "segmentation" in self.eval.evaluators and self.eval.top_tokens > tokens:
      raise UserError(f"eval.top_tokens={self.eval.top_tokens} is more than the "
                      f"{tokens} tokens of a series.")


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
