"""Vision tower, text tower, their projections, and the item attention.

One shared bias-free projection maps the CLS token and the image tokens into the
joint space, another one the texts. Scale and bias are shared by all loss terms.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.models import heatmap
from itemclip_jax.models.bert import Bert
from itemclip_jax.models.heatmap import HeatmapProcessor
from itemclip_jax.models.hlip import Hlip, HlipOutput
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.models.organ_pool import OrganPool
from itemclip_jax.models.resnet import Resnet
from itemclip_jax.models.swin import Swin
from itemclip_jax.models.text import ClipText
from itemclip_jax.models.token_similarity import TokenSimilarity
from itemclip_jax.models.vit import Vit
from itemclip_jax.models.vit3d import Vit3d


def _proj_init(tower: schema.Vision | schema.Text):
  """Initialiser of a tower's projection; the open_clip family has its own."""
  if tower.tower in ("vit", "clip"):
    return nn.initializers.normal(tower.width ** -0.5)
  return nn.initializers.lecun_normal()


@flax.struct.dataclass
class Outputs:
  """What objectives read; nothing is normalised.

  image: [B, E]; tokens: [B, N, E]; token_mask: [B, N] bool; items: [B, K, E];
  logit_scale: [] (not its logarithm); logit_bias: []. None where the model has
  no such part: second: [B, E], of the second class token; organs: [B, R, E];
  organ_intact: [B, R] bool, whole in the volume; reconstruction: [B, S, D, H,
  W], what the processor makes of volume and heatmap.
  """
  image: jax.Array
  tokens: jax.Array
  token_mask: jax.Array
  items: jax.Array
  logit_scale: jax.Array
  logit_bias: jax.Array
  second: jax.Array | None = None
  organs: jax.Array | None = None
  organ_intact: jax.Array | None = None
  reconstruction: jax.Array | None = None


class DualEncoder(nn.Module):
  """The model of one run.

  Attributes:
    config: sections vision, text, joint and loss are read.
    logit_bias: initial bias, a number even where the config says "prior".
    dtype: type of the matmuls, None for float32.
  """
  config: schema.Config
  logit_bias: float = -10.0
  dtype: jax.typing.DTypeLike | None = None

  def setup(self):
    c = self.config
    self.vision = make_vision(c.vision, self.dtype)
    self.text_tower = make_text(c.text, self.dtype)
    self.item_attention = make_pooling(c.joint, self.dtype)
    if c.vision.heatmap_width:
      side = c.vision.heatmap_patch
      self.heatmap = HeatmapProcessor(
          (3, side, side), c.vision.heatmap_width, c.vision.heatmap_heads,
          c.vision.heatmap_processor, self.dtype)
    if c.joint.organs:
      self.organ_pool = OrganPool(
          c.joint.organs, c.joint.width, c.vision.patch, c.joint.organ_pool,
          c.joint.organ_heads, c.joint.organ_dropout, self.dtype)
    project = lambda init: nn.Dense(c.joint.width, use_bias=False,
                                    dtype=self.dtype, kernel_init=init)
    self.vision_proj = project(_proj_init(c.vision))
    self.text_proj = project(_proj_init(c.text))
    constant = nn.initializers.constant
    self.log_scale = self.param("logit_scale",
                                constant(c.loss.init_logit_scale), ())
    self.bias = self.param("logit_bias", constant(self.logit_bias), ())

  def image(self, volume, series_mask, series_names, *, train=False):
    """[B,S,D,H,W] -> image [B, E], tokens [B, N, E], token_mask [B, N]."""
    out = self._see(volume, series_mask, series_names, train)
    return (self._class_tokens(out)[0], self.vision_proj(out.tokens),
            out.token_mask)

  def organs(self, volume, series_mask, organ_mask, *, train=False):
    """[B,1,D,H,W] and its organs [B,D,H,W] -> `organ_pool.OrganOutput`."""
    return self._pool_organs(
        self._see(volume, series_mask, None, train), organ_mask, train)

  def _see(self, volume, series_mask, series_names, train) -> HlipOutput:
    order = None
    if train and self.config.vision.series_embedding == "order":
      order = jax.random.permutation(
          self.make_rng("dropout"), self.vision.max_order)[:volume.shape[1]]
    return self.vision(volume, series_mask, series_names, order, train=train)

  def _class_tokens(self, out: HlipOutput):
    """[B, E] of the class token, and of the second or None."""
    if self.config.vision.class_tokens == 1:
      return self.vision_proj(out.cls), None
    return (self.vision_proj(out.cls[:, 0]), self.vision_proj(out.cls[:, 1]))

  def _pool_organs(self, out: HlipOutput, organ_mask, train):
    levels = out.tokens[:, None] if out.levels is None else out.levels
    return self.organ_pool(levels, out.token_mask, organ_mask, train=train)

  def text(self, ids: jax.Array, *, train: bool = False) -> jax.Array:
    """[M, T] word-piece ids -> [M, E]."""
    return self.text_proj(self.text_tower(ids, train=train))

  def __call__(self, batch: dict, *, train: bool = False) -> Outputs:
    """Encodes a batch; see `data.example` for its keys."""
    volume, more = batch["volume"], {}
    if self.config.vision.heatmap_width and "mix" in batch:
      made = self.heatmap(volume, batch["heatmap"])
      volume = heatmap.mix(volume, made, batch["mix"])
      more["reconstruction"] = made
    out = self._see(volume, batch["series_mask"], batch["series_names"], train)
    image, second = self._class_tokens(out)
    tokens = self.vision_proj(out.tokens)
    B, K, T = batch["item_tokens"].shape
    items = self.text(batch["item_tokens"].reshape(B * K, T), train=train)
    items = items.reshape(B, K, -1)
    if self.is_initializing():
      self.item_attention(items, tokens, out.token_mask)
    if self.config.joint.organs and "organ_mask" in batch:
      pooled = self._pool_organs(out, batch["organ_mask"], train)
      more |= {"organs": pooled.vectors, "organ_intact": pooled.intact}
    return Outputs(image=image, tokens=tokens, token_mask=out.token_mask,
                   items=items, logit_scale=jnp.exp(self.log_scale),
                   logit_bias=self.bias, second=second, **more)


def make_pooling(c: schema.Joint, dtype) -> ItemAttention | TokenSimilarity:
  """How a text pools image tokens."""
  if c.pooling == "similarity":
    return TokenSimilarity(c.temperature)
  return ItemAttention(c.width, c.num_heads, c.query_key_gain, dtype)


def make_vision(c: schema.Vision, dtype) -> nn.Module:
  """The vision tower that the settings describe."""
  own = dict(width=c.width, num_heads=c.num_heads, mlp_ratio=c.mlp_ratio,
             drop_path=c.drop_path, remat=c.remat == "block", dtype=dtype)
  if c.tower == "resnet":
    return Resnet(stages=c.stages, width=c.width, norm=c.norm,
                  remat=c.remat == "block", dtype=dtype)
  if c.tower == "swin":
    return Swin(stages=c.stages, window=c.window, **own)
  own |= dict(depth=c.depth, patch=c.patch)
  if c.tower == "vit3d":
    return Vit3d(grid=c.grid, levels=c.levels, dropout=c.dropout, **own)
  own |= dict(keeps=c.remat_keeps, scan=c.scan)
  if c.tower == "vit":
    return Vit(family=c.family, class_tokens=c.class_tokens,
               mixture_tokens=c.mixture_tokens, **own)
  return Hlip(
      grid=c.grid, slice_blocks=c.slice_blocks, study_blocks=c.study_blocks,
      series_embedding=c.series_embedding, name_encoder=c.name_encoder,
      max_order=schema.MAX_ORDER, class_tokens=c.class_tokens, **own)


def make_text(c: schema.Text, dtype) -> Bert | ClipText:
  """The text tower that the settings describe."""
  own = dict(vocab_size=c.vocab_size, width=c.width, depth=c.depth,
             num_heads=c.num_heads, hidden=c.mlp_width, word_init=c.word_init,
             scan=c.scan, remat=c.remat == "block", keeps=c.remat_keeps,
             dtype=dtype)
  if c.tower == "clip":
    return ClipText(max_positions=c.max_tokens, **own)
  return Bert(dropout=c.dropout, max_positions=max(512, c.max_tokens), **own)
