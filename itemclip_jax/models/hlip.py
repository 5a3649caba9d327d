"""HLIP: a ViT over a whole study whose attention groups change by block.

Each block attends within a slice (one slab of tokens along depth), a series, or
the whole study. The CLS token goes with the groups: it is copied into every
part when groups become finer and averaged when they become coarser; `groups`
tells how they are laid out.

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862; HLIP-SN: Lyu et
al. 2025, https://arxiv.org/abs/2512.11141.
"""

import functools
import itertools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from itemclip_jax.models import layers, repeated
from itemclip_jax.models.groups import Rows, regroup_cls
from itemclip_jax.models.series_name import SeriesNameEncoder
from itemclip_jax.parallel.sharding import constrain

_SERIES_AT_A_TIME = 4


@flax.struct.dataclass
class HlipOutput:
  """cls: [B, C], or [B, 2, C] of two class tokens; tokens: [B, N, C];
  token_mask: [B, N] bool; levels: [B, L, N, C] tokens of several depths, None
  where a tower hands out the last ones only."""
  cls: jax.Array
  tokens: jax.Array
  token_mask: jax.Array
  levels: jax.Array | None = None


def patches(volume: jax.Array, patch: tuple[int, int, int]) -> jax.Array:
  """[B, S, D, H, W] -> [B, S, d, h, w, pd * ph * pw]."""
  B, S, D, H, W = volume.shape
  p, q, r = patch
  x = volume.reshape(B, S, D // p, p, H // q, q, W // r, r)
  x = x.transpose(0, 1, 2, 4, 6, 3, 5, 7)
  return x.reshape(B, S, D // p, H // q, W // r, p * q * r)


class PatchEmbedding(nn.Module):
  """A dense layer over the voxels of each patch.

  One matmul that sums over three axes: gathering a patch's voxels in one axis
  first costs a TPU more than the product, and as a convolution the backward
  pass takes ten times the memory and compile time.

  Attributes:
    width: C.
    patch: (pd, ph, pw) voxels; the kernel is [pd ph pw, C].
  """
  width: int
  patch: tuple[int, int, int]
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, volume: jax.Array) -> jax.Array:
    """[B, S, D, H, W] -> [B, S, d, h, w, C]."""
    B, S, D, H, W = volume.shape
    p, q, r = self.patch
    kernel = self.param("kernel", layers.smooth_patch_init(self.patch),
                        (p * q * r, self.width))
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    x, kernel, bias = nn.dtypes.promote_dtype(volume, kernel, bias,
                                              dtype=self.dtype)
    x = x.reshape(B, S, D // p, p, H // q, q, W // r, r)
    kernel = kernel.reshape(p, q, r, self.width)
    return jnp.einsum("bsdphqwr,pqrc->bsdhwc", x, kernel) + bias


class Hlip(nn.Module):
  """Vision tower over studies of one or several series.

  Attributes:
    patch: (pd, ph, pw) voxels of a token.
    grid: (d, h, w) tokens of a series, of the fixed position table; other
      inputs get the table resampled.
    width, depth, num_heads, mlp_ratio: of the ViT.
    slice_blocks, study_blocks: blocks of those levels; the rest are "series".
    series_embedding: what tells series apart: their name, their order, nothing.
    name_encoder: width, depth, heads and MLP width of the name encoder.
    max_order: rows of the order table.
    class_tokens: 1, or 2 for a dual contrast.
    drop_path: of the last block; grows linearly from 0.
    remat: recompute each block in the backward pass, but for what it `keeps`.
    keeps: names of activations, see `config.towers`.
    scan: compile equal rounds of blocks once, see `repeated`.
    dtype: type of the matmuls, None for the input's.
  """
  patch: tuple[int, int, int]
  grid: tuple[int, int, int]
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_ratio: float = 4.0
  slice_blocks: tuple[int, ...] = ()
  study_blocks: tuple[int, ...] = ()
  series_embedding: str = "name"
  name_encoder: tuple[int, int, int, int] = (256, 3, 4, 300)
  max_order: int = 40
  class_tokens: int = 1
  drop_path: float = 0.0
  remat: bool = False
  keeps: tuple[str, ...] = ()
  scan: bool = False
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      volume: jax.Array,                     # [B, S, D, H, W] standardised
      series_mask: jax.Array,                # [B, S] bool
      series_names: jax.Array | None = None,  # [B, S, L] character codes
      series_order: jax.Array | None = None,  # [S] int, rows of the order table
      *,
      train: bool = False,
  ) -> HlipOutput:
    # Weight 0 would let a NaN or an overflow of a padded series through.
    volume = layers.exact_zero_where(series_mask[..., None, None, None], volume)
    x = self._embed(volume, series_names, series_order)   # [B, S, d, P, C]
    B, S, d, P, C = x.shape
    rows = self._rows(d, P)
    token = self.param("cls_token", nn.initializers.normal(1e-6),
                       (1, self.class_tokens, C))
    x = self._with_places(x, token, rows)                 # [B, S, u, U, C]
    x = constrain(x, ("batch", None, None, None, "embed"))
    levels = ["slice" if i in self.slice_blocks else
              "study" if i in self.study_blocks else "series"
              for i in range(self.depth)]

    def attend(blocks, x, old):
      """Blocks as (level, block)."""
      for new, own in itertools.groupby(blocks, key=lambda block: block[0]):
        with jax.named_scope(f"{new}_level"):
          if new != old:
            x = rows.regroup(x, series_mask, old, new)
          mask = rows.mask(series_mask, new)
          group = x.reshape({"slice": B * S * rows.groups, "series": B * S,
                             "study": B}[new], -1, C)
          for _, block in own:
            group = block(group, mask)
          x = group.reshape(x.shape)
        old = new
      return x

    # All places hold the same class tokens, so any level may come first.
    level = levels[-1]
    if self.scan and not self.is_initializing():
      x = self._looped(attend, levels, x, train)
    else:
      x = attend([(new, self._block(i, train, rows))
                  for i, new in enumerate(levels)], x, level)
    cls = regroup_cls(rows.of_cls(x), series_mask, level, "study")[:, 0, 0]
    cls = cls[:, 0] if self.class_tokens == 1 else cls
    norm = layers.layer_norm(1e-6, self.dtype, "norm")
    tokens = norm(x[..., :rows.tokens, :]).reshape(B, S * d * P, C)
    mask = jnp.repeat(series_mask, d * P, axis=1)
    tokens = layers.exact_zero_where(mask[..., None], tokens)
    return HlipOutput(cls=norm(cls), tokens=tokens, token_mask=mask)

  def _rows(self, d: int, P: int) -> Rows:
    """Of d slices of P tokens."""
    groups = d if self.slice_blocks else 1
    tokens, places = d * P // groups, self.class_tokens
    return Rows(groups, tokens, places,
                layers.filler(tokens + places, self.dtype))

  def _with_places(self, x, token, rows: Rows):
    """[B, S, d, P, C] -> [B, S, u, U, C]."""
    B, S, *_, C = x.shape
    x = x.reshape(B, S, rows.groups, rows.tokens, C)
    more = jnp.pad(token[0].astype(x.dtype), ((0, rows.filler), (0, 0)))
    return jnp.concatenate(
        [x, jnp.broadcast_to(more, (*x.shape[:3], *more.shape))], axis=3)

  def _in_parts(self, embed, volume):
    """Some studies at a time: in the product's layout, whose last axis is a
    patch wide, voxels take five times their memory."""
    B, S = volume.shape[:2]
    devices = max(1, jax.sharding.get_abstract_mesh().size)
    devices = devices if B % devices == 0 else B
    own = B // devices
    size = max(n for n in range(1, own + 1)
               if own % n == 0 and n * S <= _SERIES_AT_A_TIME or n == 1)
    # A part is of all devices, and begins where the last one ended on each.
    volume = volume.reshape(devices, own, *volume.shape[1:])

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def part(params, first):
      some = jax.lax.dynamic_slice_in_dim(volume, first, size, axis=1)
      return embed.apply({"params": params}, some.reshape(
          devices * size, *volume.shape[2:]))

    params, embed = embed.variables["params"], embed.clone(parent=None)
    made = jax.lax.map(functools.partial(part, params),
                       jnp.arange(0, own, size))
    made = made.reshape(own // size, devices, size, *made.shape[2:])
    return made.swapaxes(0, 1).reshape(B, *made.shape[3:])

  def _settings(self, i: int) -> dict:
    """Of block i."""
    return dict(num_heads=self.num_heads,
                hidden=int(self.width * self.mlp_ratio), dtype=self.dtype,
                drop_path=self.drop_path * i / max(self.depth - 1, 1))

  def _block(self, i: int, train: bool, rows: Rows):
    """(groups, their mask) -> groups."""
    make = layers.Block
    if self.remat:
      make = nn.remat(make, static_argnums=(3,),
                      policy=repeated.policy(self.keeps))
    block = make(**self._settings(i), name=f"block{i}")

    def run(group, mask):
      group = block(group, mask, train)
      self.sow("intermediates", f"after_block{i}", self._bare(group, rows))
      return group

    return run

  def _bare(self, group, rows: Rows):
    """[G, rows, C] -> [G, c + T, C], class tokens first."""
    G, _, C = group.shape
    size = rows.tokens + rows.places + rows.filler
    parts = group.reshape(G, -1, size, C)
    return jnp.concatenate(
        [rows.of_cls(parts)[:, 0], parts[:, :, :rows.tokens].reshape(G, -1, C)],
        axis=1)

  def _looped(self, attend, levels, x, train):
    """All blocks of `attend` as a loop over rounds."""
    return repeated.blocks(
        self, lambda rate: layers.Block(
            **self._settings(0) | {"drop_path": rate}, parent=None),
        lambda blocks, x: attend(list(zip(levels, blocks)), x, levels[-1]),
        x, depth=self.depth, size=repeated.rounds(levels),
        drop_path=self.drop_path, train=train, remat=self.remat,
        keeps=self.keeps, dtype=self.dtype)

  def _embed(self, volume, series_names, series_order):
    """Patch embedding plus position and series embeddings."""
    embed = PatchEmbedding(self.width, self.patch, self.dtype, name="patch")
    if self.remat and not self.is_initializing():
      x = self._in_parts(embed, volume)
    else:
      x = embed(volume)
    B, S, d, h, w, _ = x.shape
    table = self.param(
        "spatial_position",
        lambda _: jnp.asarray(layers.sincos_3d(self.grid, self.width),
                              jnp.float32))
    table = jax.lax.stop_gradient(table)  # fixed, not learnt
    x = x + layers.resample_grid(table, (d, h, w)).astype(x.dtype)
    if self.series_embedding == "name":
      encoder = SeriesNameEncoder(*self.name_encoder, dtype=self.dtype,
                                  name="series_name")
      code = encoder(series_names.reshape(B * S, -1))
      code = nn.Dense(self.width, dtype=self.dtype, name="series_proj")(code)
      x = x + code.reshape(B, S, 1, 1, 1, -1)
    elif self.series_embedding == "order":
      code = layers.sincos_1d(range(self.max_order), self.width)
      code = layers.series_positions(jnp.asarray(code, x.dtype), S,
                                     series_order)
      x = x + code[None, :, None, None, None]
    return x.reshape(B, S, d, h * w, self.width)
