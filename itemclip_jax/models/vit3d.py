"""3-D ViT over one volume, whose tokens stand for patches of it.

    x = patches + position;  blocks;  LN of every token

There is no CLS token: organs pool the tokens that they cover (`organ_pool`),
and for models that want one vector an image it is the mean of the tokens. The
position table is learnt and resampled where an input has another grid, as the
windows of evaluation have. Besides the last tokens those behind the blocks
`levels` are handed out, without a norm, as the published code does.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548 (fVLM); blocks as
in MAE, He et al. 2021, https://arxiv.org/abs/2111.06377, whose weights fit.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.errors import UserError
from itemclip_jax.models import layers
from itemclip_jax.models.dropout import Dropout, DropPath
from itemclip_jax.models.hlip import HlipOutput, patches
from itemclip_jax.parallel.sharding import constrain

_EPSILON = 1e-6


class Vit3d(nn.Module):
  """Vision tower over studies of one volume.

  Attributes:
    patch: (pd, ph, pw) voxels of a token.
    grid: (d, h, w) tokens of the position table.
    width, depth, num_heads, mlp_ratio: of the ViT.
    levels: blocks whose tokens are handed out besides the last ones.
    dropout: rate after the embedding and in each branch, in training.
    drop_path: of the last block; grows linearly from 0.
    remat: recompute each block in the backward pass.
    dtype: type of the matmuls, None for the input's.
  """
  patch: tuple[int, int, int]
  grid: tuple[int, int, int]
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_ratio: float = 4.0
  levels: tuple[int, ...] = ()
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      volume: jax.Array,        # [B, 1, D, H, W] standardised
      series_mask: jax.Array,   # [B, 1] bool, False = no volume
      series_names=None,        # as HLIP's; one series needs no name
      series_order=None,
      *,
      train: bool = False,
  ) -> HlipOutput:
    """Encodes; `levels` of the result is [B, len(levels) + 1, N, C] or None."""
    del series_names, series_order
    if volume.shape[1] != 1:
      raise UserError(f"The 3-D ViT reads one volume a study, got "
                      f"{volume.shape[1]} series; set data.max_series=1.")
    # Weight 0 would let a NaN or an overflow of a missing volume through.
    volume = layers.exact_zero_where(series_mask[..., None, None, None], volume)
    x = self._embed(volume)                                       # [B, N, C]
    x = Dropout(self.dropout)(x, train)
    block = nn.remat(_Block, static_argnums=(2,)) if self.remat else _Block
    states = []
    for i in range(self.depth):
      x = block(self.num_heads, int(self.width * self.mlp_ratio), self.dropout,
                self.drop_path * i / max(self.depth - 1, 1), self.dtype,
                name=f"block{i}")(x, train)
      if i in self.levels:
        states.append(x)
    x = layers.layer_norm(_EPSILON, self.dtype, "norm")(x)
    mask = jnp.broadcast_to(series_mask, x.shape[:2])
    states = [layers.exact_zero_where(mask[..., None], s) for s in (*states, x)]
    return HlipOutput(
        cls=states[-1].mean(1), tokens=states[-1], token_mask=mask,
        levels=jnp.stack(states, axis=1) if self.levels else None)

  def _embed(self, volume):
    """Patches with their positions, [B, N, C]."""
    x = patches(volume, self.patch)[:, 0]
    B, *grid, _ = x.shape
    # Reshape and matmul, for the reason given in HLIP.
    x = nn.Dense(self.width, dtype=self.dtype, name="patch",
                 kernel_init=layers.smooth_patch_init(self.patch))(x)
    x = constrain(x, ("batch", None, None, None, "embed"))
    rows = self.grid[0] * self.grid[1] * self.grid[2]
    position = nn.Embed(rows, self.width, name="position",
                        embedding_init=nn.initializers.normal(0.02))
    table = position.embedding.reshape(*self.grid, self.width)
    x = x + layers.resample_grid(table, tuple(grid)).astype(x.dtype)
    return x.reshape(B, -1, self.width)


class _Block(nn.Module):
  """`layers.Block` for one group a study, with dropout in its branches."""
  num_heads: int
  hidden: int
  dropout: float = 0.0
  drop_path: float = 0.0
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:  # [B, N, C]
    drop = functools.partial(Dropout(self.dropout), train=train)
    skip = functools.partial(DropPath(self.drop_path), train=train)
    norm = functools.partial(layers.layer_norm, _EPSILON, self.dtype)
    attention = layers.SelfAttention(self.num_heads, self.dtype,
                                     name="attention")
    x = x + skip(drop(attention(norm(name="norm1")(x))))
    mlp = layers.Mlp(self.hidden, self.dtype, name="mlp")
    return x + skip(drop(mlp(norm(name="norm2")(x))))
