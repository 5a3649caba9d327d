"""2-D ViT of the open_clip family, over pictures stored as volumes.

A picture is a study of one series whose depth is its three colour channels. So
a patch is (3, p, p), and this tower takes and returns what HLIP does:

    x = LN_pre([cls; patches] + position);  blocks;  LN_post of every token

The position table is learnt and has a row for CLS; the patch embedding has no
bias; exact GELU, epsilon 1e-5. ViTs trained on ImageNet have a bias there, no
LN_pre and epsilon 1e-6; they are the family "imagenet".

Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020; LN_post on all
tokens as in FLAIR, Xiao et al. 2024, https://arxiv.org/abs/2412.03561. Initial
values are open_clip's: those of torch's layers, N(0, 1 / C) for the tables.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.errors import UserError
from itemclip_jax.models import layers, repeated
from itemclip_jax.models.hlip import HlipOutput, patches
from itemclip_jax.parallel.sharding import constrain

_EPSILON = {"clip": 1e-5, "imagenet": 1e-6}
# Xavier over the packed [3 C, C] matrix: variance 2 / (3 C + C).
_PACKED = nn.initializers.variance_scaling(0.5, "fan_in", "uniform")


class Vit(nn.Module):
  """Vision tower over pictures.

  Attributes:
    family: whose conventions hold, see the head of this file.
    patch: (3, ph, pw): channels and pixels of a token.
    width, depth, num_heads, mlp_ratio: of the ViT.
    class_tokens: 1, or 2 that share a position.
    mixture_tokens: learnt tokens behind the patches that are handed out in
      their place (Llip); 0 = none.
    drop_path: of the last block; grows linearly from 0.
    remat: recompute each block in the backward pass, but for what it `keeps`.
    keeps: names of activations, see `config.towers`.
    scan: compile one block and loop, see `repeated`.
    dtype: type of the matmuls, None for the input's.
  """
  family: Literal["clip", "imagenet"] = "clip"
  patch: tuple[int, int, int] = (3, 16, 16)
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_ratio: float = 4.0
  class_tokens: int = 1
  mixture_tokens: int = 0
  drop_path: float = 0.0
  remat: bool = False
  keeps: tuple[str, ...] = ()
  scan: bool = False
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      volume: jax.Array,        # [B, 1, 3, H, W] standardised
      series_mask: jax.Array,   # [B, 1] bool, False = no picture
      series_names=None,        # as HLIP's; one series needs no name
      series_order=None,
      *,
      train: bool = False,
  ) -> HlipOutput:
    del series_names, series_order
    if volume.shape[1] != 1:
      raise UserError(f"The ViT reads one picture a study, got "
                      f"{volume.shape[1]} series; set data.max_series=1.")
    # Weight 0 would let a NaN or an overflow of a missing picture through.
    volume = layers.exact_zero_where(series_mask[..., None, None, None], volume)
    x = self._embed(volume)                          # [B, P + N + M, C]
    rows = x.shape[1]
    filler = layers.filler(rows, self.dtype)
    real = jnp.broadcast_to(jnp.arange(rows + filler) < rows,
                            (len(x), rows + filler)) if filler else None
    x = jnp.pad(x, ((0, 0), (0, filler), (0, 0)))
    hidden = int(self.width * self.mlp_ratio)
    inits = layers.Inits(
        project=_PACKED, out=layers.torch_linear, fc1=layers.torch_linear,
        fc2=layers.torch_linear, bias1=layers.torch_bias(self.width),
        bias2=layers.torch_bias(hidden))
    settings = dict(num_heads=self.num_heads, hidden=hidden,
                    epsilon=_EPSILON[self.family], dtype=self.dtype,
                    inits=inits)
    if self.scan and not self.is_initializing():
      x = repeated.blocks(
          self, lambda rate: layers.Block(**settings, drop_path=rate,
                                          parent=None),
          lambda blocks, x: blocks[0](x, real), x, depth=self.depth, size=1,
          drop_path=self.drop_path, train=train, remat=self.remat,
          keeps=self.keeps, dtype=self.dtype)
    else:
      block = layers.Block
      if self.remat:
        block = nn.remat(block, static_argnums=(3,),
                         policy=repeated.policy(self.keeps))
      for i in range(self.depth):
        x = block(**settings, name=f"block{i}", drop_path=self.drop_path * i
                  / max(self.depth - 1, 1))(x, real, train)
    x = layers.layer_norm(_EPSILON[self.family], self.dtype, "norm")(x)
    x = x[:, :rows]
    P, M = self.class_tokens, self.mixture_tokens
    tokens = x[:, -M:] if M else x[:, P:]
    mask = jnp.broadcast_to(series_mask, tokens.shape[:2])
    tokens = layers.exact_zero_where(mask[..., None], tokens)
    return HlipOutput(cls=x[:, 0] if P == 1 else x[:, :P], tokens=tokens,
                      token_mask=mask)

  def _embed(self, volume):
    """Class tokens, patches with positions, mixture tokens; normalised."""
    x = patches(volume, self.patch)
    B, C, P = len(x), self.width, self.class_tokens
    # Reshape and matmul, for the reason given in HLIP.
    x = nn.Dense(C, use_bias=self.family == "imagenet", dtype=self.dtype,
                 kernel_init=layers.torch_linear,
                 name="patch")(x.reshape(B, -1, x.shape[-1]))
    x = constrain(x, ("batch", None, "embed"))
    table = nn.initializers.normal(C ** -0.5)
    # One axis, as in the original, so that weight decay leaves it alone.
    token = self.param("cls_token", table, (C,) if P == 1 else (P, C))
    cls = jnp.broadcast_to(token.astype(x.dtype), (B, P, C))
    position = nn.Embed(1 + x.shape[1], C, dtype=self.dtype, name="position",
                        embedding_init=table)
    x = jnp.concatenate([cls, x], axis=1)
    x = x + position(jnp.maximum(jnp.arange(x.shape[1]) - (P - 1), 0))
    if self.mixture_tokens:
      mixture = nn.Embed(self.mixture_tokens, C, dtype=self.dtype,
                         name="mixture", embedding_init=table)(
                             jnp.arange(self.mixture_tokens))
      x = jnp.concatenate(
          [x, jnp.broadcast_to(mixture, (B, *mixture.shape))], axis=1)
    if self.family == "imagenet":
      return x
    return layers.layer_norm(_EPSILON[self.family], self.dtype, "norm_pre")(x)
