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
from itemclip_jax.models.bert import Bert
from itemclip_jax.models.hlip import Hlip
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.models.text import ClipText
from itemclip_jax.models.token_similarity import TokenSimilarity
from itemclip_jax.models.vit import Vit


def _clip_proj_init(width: int):
  return nn.initializers.normal(width ** -0.5)


# Tower -> initialiser of its projection, given the tower's width.
_PROJ_INIT = {"hlip": lambda _: nn.initializers.lecun_normal(),
              "bert": lambda _: nn.initializers.lecun_normal(),
              "vit": _clip_proj_init, "clip": _clip_proj_init,
              "vit3d": lambda _: nn.initializers.lecun_normal(),
              "resnet": lambda _: nn.initializers.lecun_normal(),
              "swin": lambda _: nn.initializers.lecun_normal()}


@flax.struct.dataclass
class Outputs:
  """What objectives read; nothing is normalised.

  image: [B, E]; tokens: [B, N, E]; token_mask: [B, N] bool; items: [B, K, E];
  logit_scale: [] (not its logarithm); logit_bias: []. None where the model has
  no such part: second: [B, E], of the second class token; organs: [B, R, E];
  organ_intact: [B, R] bool, whole in the volume; reconstruction: [B, S, D, H,
  W], what the processor of heatmaps makes of the plain volume.
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
    project = lambda init: nn.Dense(c.joint.width, use_bias=False,
                                    dtype=self.dtype, kernel_init=init)
    self.vision_proj = project(_PROJ_INIT[c.vision.tower](c.vision.width))
    self.text_proj = project(_PROJ_INIT[c.text.tower](c.text.width))
    constant = nn.initializers.constant
    self.log_scale = self.param("logit_scale",
                                constant(c.loss.init_logit_scale), ())
    self.bias = self.param("logit_bias", constant(self.logit_bias), ())

  def image(self, volume, series_mask, series_names, *, train=False):
    """[B,S,D,H,W] -> image [B, E], tokens [B, N, E], token_mask [B, N]."""
    order = None
    if train and self.config.vision.series_embedding == "order":
      order = jax.random.permutation(
          self.make_rng("dropout"), self.vision.max_order)[:volume.shape[1]]
    out = self.vision(volume, series_mask, series_names, order, train=train)
    return (self.vision_proj(out.cls), self.vision_proj(out.tokens),
            out.token_mask)

  def text(self, ids: jax.Array, *, train: bool = False) -> jax.Array:
    """[M, T] word-piece ids -> [M, E]."""
    return self.text_proj(self.text_tower(ids, train=train))

  def __call__(self, batch: dict, *, train: bool = False) -> Outputs:
    """Encodes a batch; see `data.example` for its keys."""
    image, tokens, mask = self.image(
        batch["volume"], batch["series_mask"], batch["series_names"],
        train=train)
    B, K, T = batch["item_tokens"].shape
    items = self.text(batch["item_tokens"].reshape(B * K, T), train=train)
    if self.is_initializing():
      self.item_attention(items.reshape(B, K, -1), tokens, mask)
    return Outputs(image=image, tokens=tokens, token_mask=mask,
                   items=items.reshape(B, K, -1),
                   logit_scale=jnp.exp(self.log_scale), logit_bias=self.bias)


def make_pooling(c: schema.Joint, dtype) -> ItemAttention | TokenSimilarity:
  """How a text pools image tokens."""
  if c.pooling == "similarity":
    return TokenSimilarity(c.temperature)
  return ItemAttention(c.width, c.num_heads, c.query_key_gain, dtype)


def make_vision(c: schema.Vision, dtype) -> nn.Module:
  """The vision tower that the settings describe."""
  if c.tower == "vit":
    return Vit(patch=c.patch, width=c.width, depth=c.depth,
               num_heads=c.num_heads, mlp_ratio=c.mlp_ratio,
               drop_path=c.drop_path, remat=c.remat == "block", dtype=dtype)
  return Hlip(
      patch=c.patch, grid=c.grid, width=c.width, depth=c.depth,
      num_heads=c.num_heads, mlp_ratio=c.mlp_ratio,
      slice_blocks=c.slice_blocks, study_blocks=c.study_blocks,
      series_embedding=c.series_embedding, name_encoder=c.name_encoder,
      max_order=schema.MAX_ORDER, drop_path=c.drop_path,
      remat=c.remat == "block", dtype=dtype)


def make_text(c: schema.Text, dtype) -> Bert | ClipText:
  """The text tower that the settings describe."""
  if c.tower == "clip":
    return ClipText(vocab_size=c.vocab_size, width=c.width, depth=c.depth,
                    num_heads=c.num_heads, hidden=c.mlp_width,
                    max_positions=c.max_tokens, word_init=c.word_init,
                    dtype=dtype)
  return Bert(vocab_size=c.vocab_size, width=c.width, depth=c.depth,
              num_heads=c.num_heads, hidden=c.mlp_width, dropout=c.dropout,
              word_init=c.word_init, max_positions=max(512, c.max_tokens),
              dtype=dtype)
