"""Settings of the model: image tower, text tower, joint space."""

import dataclasses
from typing import Literal

from itemclip_jax.config.build import positive, rate
from itemclip_jax.errors import UserError

# Activations of a block that `keeps` may name: queries, keys and values, what
# attention pooled, the hidden layer of the MLP before its GELU.
ACTIVATIONS = ("qkv", "attention", "hidden")
MAX_ORDER = 40  # series that the published order embedding can tell apart
PICTURES = ("vit", "resnet", "swin")  # towers that read pictures


def check_keeps(section: str, tower: "Vision | Text"):
  """Raises unless `remat_keeps` names activations, and something drops them."""
  if unknown := set(tower.remat_keeps) - set(ACTIVATIONS):
    raise UserError(f"{section}.remat_keeps names {sorted(unknown)}; use some "
                    f"of {ACTIVATIONS}.")
  if tower.remat_keeps and tower.remat == "none":
    raise UserError(f"{section}.remat_keeps={tower.remat_keeps}, but {section}."
                    "remat='none' keeps all; set remat='block' or leave it "
                    "empty.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vision:
  """HLIP, a ViT whose attention groups change by block, or another tower.

  vit, resnet and swin read pictures, depth = R, G, B; vit3d one volume.
  """
  tower: Literal["hlip", "vit", "vit3d", "resnet", "swin"] = "hlip"
  volume_shape: tuple[int, int, int] = (48, 224, 224)  # D, H, W voxels
  patch: tuple[int, int, int] = (8, 16, 16)            # voxels of one token
  width: int = 768                 # resnet, swin: of the first stage
  depth: int = 12
  num_heads: int = 12
  mlp_ratio: float = 4.0
  slice_blocks: tuple[int, ...] = ()                   # the rest are series
  study_blocks: tuple[int, ...] = (2, 5, 8, 11)
  series_embedding: Literal["name", "order", "none"] = "name"
  name_length: int = 110           # characters read of a series name, + end
  name_encoder: tuple[int, int, int, int] = (256, 3, 4, 300)
  # ^ width, depth, heads and MLP width of the series-name encoder
  family: Literal["clip", "imagenet"] = "clip"  # vit: whose conventions hold
  class_tokens: Literal[1, 2] = 1  # 2: the second answers to sentences
  mixture_tokens: int = 0          # vit: learnt tokens that stand for the image
  levels: tuple[int, ...] = ()     # vit3d: blocks whose tokens organs see, too
  stages: tuple[int, ...] = (3, 4, 6, 3)  # resnet, swin: blocks of each
  window: int = 7                  # swin: tokens along a window
  norm: Literal["group", "frozen_batch"] = "group"  # resnet
  heatmap_width: int = 0           # of the processor of heatmaps; 0 = none
  heatmap_patch: int = 16          # pixels of a token of the processor
  heatmap_heads: int = 8
  heatmap_processor: Literal["attention", "mask", "cnn"] = "attention"
  dropout: float = 0.0             # vit3d
  drop_path: float = 0.2
  # block: its activations are computed again in the backward pass, but those
  # of ACTIVATIONS that remat_keeps names.
  remat: Literal["none", "block"] = "none"
  remat_keeps: tuple[str, ...] = ()
  scan: bool = False               # hlip, vit: compile repeated blocks once
  # To start from; "" = none. hlip, vit3d: file of a 2-D MAE; else a file or
  # folder that interop/picture_towers.py reads.
  pretrained: str = ""

  def __post_init__(self):
    positive("vision", width=self.width, depth=self.depth,
              num_heads=self.num_heads, mlp_ratio=self.mlp_ratio,
              name_length=self.name_length)
    rate("vision", drop_path=self.drop_path, dropout=self.dropout)
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
    blocks = self.slice_blocks + self.study_blocks
    if len(blocks) != len(set(blocks)) or any(
        not 0 <= i < self.depth for i in blocks):
      raise UserError(
          f"vision.slice_blocks={self.slice_blocks} and vision.study_blocks="
          f"{self.study_blocks} must be distinct and below vision.depth="
          f"{self.depth}.")
    if self.tower != "hlip":
      self._check_one_series()
    if self.tower in PICTURES:
      self._check_picture()
    check_keeps("vision", self)
    self._check_own()

  def _check_one_series(self):
    if self.series_embedding != "none" or self.slice_blocks + self.study_blocks:
      raise UserError(
          f"vision.tower={self.tower!r} reads one series a study; set "
          "vision.series_embedding='none' and leave vision.slice_blocks and "
          "vision.study_blocks empty.")

  def _check_picture(self):
    if (self.volume_shape[0], self.patch[0]) != (3, 3):
      raise UserError(
          f"vision.tower={self.tower!r} reads pictures of 3 colours as depth; "
          f"vision.volume_shape={self.volume_shape} and vision.patch="
          f"{self.patch} must start with 3.")
    # Four pixels at first, and twice as many with every further stage.
    side = 2 ** (len(self.stages) + 1)
    if self.tower != "vit" and self.patch[1:] != (side, side):
      raise UserError(
          f"vision.patch={self.patch}, but a token of vision.tower="
          f"{self.tower!r} with {len(self.stages)} stages stands for {side} x "
          f"{side} pixels; set it to {(3, side, side)}.")

  def _check_own(self):
    """Settings that are another tower's must be at rest."""
    for name, towers, rest in (
        ("family", ("vit",), "clip"), ("class_tokens", ("hlip", "vit"), 1),
        ("mixture_tokens", ("vit",), 0), ("norm", ("resnet",), "group"),
        ("window", ("swin",), 7), ("scan", ("hlip", "vit"), False),
        ("remat_keeps", ("hlip", "vit"), ()),
        ("levels", ("vit3d",), ()),
        ("dropout", ("vit3d",), 0.0), ("heatmap_width", PICTURES, 0)):
      if self.tower not in towers and getattr(self, name) != rest:
        raise UserError(
            f"vision.{name}={getattr(self, name)} is a setting of "
            f"{' and '.join(towers)}, not of vision.tower={self.tower!r}; "
            f"set it to {rest}.")

    if any(not 0 <= i < self.depth for i in self.levels):
      raise UserError(f"vision.levels={self.levels} must be below "
                      f"vision.depth={self.depth}.")
    if self.tower == "resnet" and (self.width % 2 or self.drop_path):
      raise UserError(
          f"vision.width={self.width} and vision.drop_path={self.drop_path}; a "
          "resnet wants an even width and drops no path, set it to 0.")
    if self.norm == "frozen_batch" and not self.pretrained:
      raise UserError(
          "vision.norm='frozen_batch' takes its statistics from the weights "
          "that it starts from; name them in vision.pretrained, or set "
          "vision.norm='group'.")
    if self.window < 2:
      raise UserError(f"vision.window must be at least 2, got {self.window}.")

  @property
  def grid(self) -> tuple[int, int, int]:
    """Tokens of one series along depth, height and width.

    Mixture tokens stand in a row: they have no place in the picture.
    """
    if self.mixture_tokens:
      return (1, 1, self.mixture_tokens)
    return tuple(v // p for v, p in zip(self.volume_shape, self.patch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """How a report becomes item slots, and the tower that reads them."""
  tower: Literal["bert", "clip"] = "bert"  # clip: causal, state of the end
  # What the K texts of a study are: its items; one report of them all; one of
  # them at random; both; one text an organ; labels with their explanations.
  form: Literal["items", "report", "sentence", "report_and_sentence", "organs",
                "triplets"] = "items"
  prefix: str = ""                 # of reports, "This MRI study shows: "
  join: str = ". "                 # between the items of a report
  max_items: int = 7               # K: item slots per study
  max_tokens: int = 256            # T: word pieces per item
  # To start from; "" = none. bert: folder of one; clip: an open_clip model.
  pretrained: str = ""
  vocabulary: str = ""             # tokenizer.json; "" = the BERT's, or learnt
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
  diverse_count: Literal["to_items", "to_max"] = "to_items"  # of items joined
  diverse_quirk: bool = False      # neighbours never reach the last item
  padding: str = "Placeholder"     # text of empty slots
  # As in vision; remat in the loop only.
  remat: Literal["none", "block"] = "none"
  remat_keeps: tuple[str, ...] = ()
  scan: bool = False

  def __post_init__(self):
    positive("text", max_items=self.max_items, max_tokens=self.max_tokens,
              vocab_size=self.vocab_size, width=self.width, depth=self.depth,
              num_heads=self.num_heads, mlp_width=self.mlp_width,
              word_init=self.word_init)
    rate("text", diverse_prob=self.diverse_prob, dropout=self.dropout)
    if self.width % self.num_heads:
      raise UserError(f"text.num_heads={self.num_heads} does not divide "
                      f"text.width={self.width}.")
    check_keeps("text", self)
    if self.remat == "block" and not self.scan:
      raise UserError("text.remat='block' works in the loop over blocks only; "
                      "set text.scan=True.")
    if self.tower == "clip" and self.dropout:
      raise UserError(f"text.dropout={self.dropout}, but text.tower='clip' has "
                      "no dropout; set it to 0.")
    if self.tower == "clip" and self.pretrained and not self.vocabulary:
      raise UserError("text.pretrained for text.tower='clip' comes without its "
                      "vocabulary; give its tokenizer.json as text.vocabulary.")

  @property
  def items_seen(self) -> int | None:
    """So many items of a study have a slot of their own; None: no limit."""
    return self.max_items if self.form == "items" else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joint:
  """The joint space in which items attend to image tokens."""
  width: int = 512                 # E
  num_heads: int = 8               # A: heads of the item cross-attention
  query_key_gain: float = 1.0      # of their initial kernels; 1 = torch's
  # similarity: objectives without item attention; cosine of text and token.
  pooling: Literal["item_attention", "similarity"] = "item_attention"
  temperature: float = 0.07        # of the similarity
  organs: int = 0                  # organs with a query of their own; 0 = none
  organ_pool: Literal["cross", "self"] = "cross"  # code, paper
  organ_heads: int = 4
  organ_dropout: float = 0.1

  def __post_init__(self):
    positive("joint", width=self.width, num_heads=self.num_heads,
              query_key_gain=self.query_key_gain,
              temperature=self.temperature)
    rate("joint", organ_dropout=self.organ_dropout)
    if self.width % self.num_heads:
      raise UserError(f"joint.num_heads={self.num_heads} does not divide "
                      f"joint.width={self.width}.")
