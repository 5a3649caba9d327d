"""Organ pooling: a learnt query per organ pools the tokens the organ covers.

A token is an organ's if any voxel of its patch is; an organ is intact if it has
voxels and none on a face of the volume, so that no crop has cut it. With q_r
the query of organ r and x_n its tokens, at every level handed out,

    cross  o_r = MHA(q_r; keys = values = x_n)           (public code)
    self   o_r = MHA([x_n; q_r]) at q_r                  (paper)
    v_r = W_r o_r + b_r                                  one W_r an organ

one layer, no residual, no norm. Of the self-attention only the query's row is
read, so only that row is computed. Queries start at 0: attention starts even.
All organs have one static shape and a mask, so nothing is compiled anew when
organs come and go.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548, section 3.2, and
its public code; initial values are those of torch's MultiheadAttention.
"""

import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from itemclip_jax.models import layers
from itemclip_jax.models.hlip import patches
from itemclip_jax.ops.attention import wide

# Xavier over the packed [3 C, C] matrix: variance 2 / (3 C + C).
_PACKED = nn.initializers.variance_scaling(0.5, "fan_in", "uniform")


@flax.struct.dataclass
class OrganOutput:
  """vectors: [B, R, E], 0 for organs without a token; intact: [B, R] bool;
  tokens: [B, R, N] bool, those each organ covers."""
  vectors: jax.Array
  intact: jax.Array
  tokens: jax.Array


def organ_tokens(
    organ_mask: jax.Array,          # [B, D, H, W] uint8, r + 1 on organ r
    patch: tuple[int, int, int],
    num_organs: int,                # R
) -> jax.Array:                     # [B, R, N] bool
  """Which tokens an organ covers with at least one voxel."""
  x = patches(organ_mask[:, None], patch)
  x = x.reshape(len(x), -1, x.shape[-1])                      # [B, N, voxels]
  return _by_organ(lambda value: jnp.any(x == value, axis=-1), num_organs)


def cut_organs(
    organ_mask: jax.Array,          # [B, D, H, W] uint8, r + 1 on organ r
    num_organs: int,                # R
) -> jax.Array:                     # [B, R] bool
  """Which organs have a voxel on one of the six faces."""
  faces = [jnp.take(organ_mask, end, axis).reshape(len(organ_mask), -1)
           for axis in (1, 2, 3) for end in (0, -1)]
  border = jnp.concatenate(faces, axis=1)
  return _by_organ(lambda value: jnp.any(border == value, axis=1), num_organs)


def _by_organ(test, num_organs: int) -> jax.Array:
  """Stacks test(r + 1) on axis 1; one after the other, as R volumes are big."""
  values = jnp.arange(1, num_organs + 1, dtype=jnp.uint8)
  return jnp.moveaxis(jax.lax.map(test, values), 0, 1)


class OrganPool(nn.Module):
  """Tokens of a volume -> one vector an organ.

  Attributes:
    num_organs: R, at most 255.
    width: E, of the vectors.
    patch: (pd, ph, pw) voxels of a token.
    kind: "cross" or "self"; see above.
    num_heads: A; must divide the tokens' width.
    dropout: rate on the attention weights, in training.
    dtype: type of the matmuls, None for the input's.
  """
  num_organs: int
  width: int
  patch: tuple[int, int, int]
  kind: str = "cross"
  num_heads: int = 4
  dropout: float = 0.0
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      levels: jax.Array,       # [B, L, N, C]
      token_mask: jax.Array,   # [B, N] bool, False = padding
      organ_mask: jax.Array,   # [B, D, H, W] uint8, r + 1 on organ r
      *,
      train: bool = False,
  ) -> OrganOutput:
    B, L, N, C = levels.shape
    own = organ_tokens(organ_mask, self.patch, self.num_organs)
    own &= token_mask[:, None]
    found = jnp.any(own, axis=-1)                              # [B, R]
    queries = nn.Embed(self.num_organs, C, dtype=self.dtype, name="queries",
                       embedding_init=nn.initializers.zeros)
    pooled = self._attend(
        queries(jnp.arange(self.num_organs)), levels.reshape(B, L * N, C),
        jnp.tile(own, (1, 1, L)), train)
    head = _PerOrgan(self.width, self.dtype, name="head")
    vectors = layers.exact_zero_where(found[..., None], head(pooled))
    cut = cut_organs(organ_mask, self.num_organs)
    return OrganOutput(vectors=vectors, intact=found & ~cut, tokens=own)

  def _attend(self, queries, tokens, own, train):
    """[R, C] x [B, M, C] -> [B, R, C]; own: [B, R, M] bool."""
    C = tokens.shape[-1]
    project = functools.partial(
        nn.DenseGeneral, (self.num_heads, C // self.num_heads),
        dtype=self.dtype, kernel_init=_PACKED)
    query = project(name="query")(queries)                     # [R, A, F]
    query = query * query.shape[-1] ** -0.5
    to_key, to_value = project(name="key"), project(name="value")
    keys, values = to_key(tokens), to_value(tokens)            # [B, M, A, F]
    logits = wide(jnp.einsum("raf,bmaf->barm", query, keys))
    logits = jnp.where(own[:, None], logits, jnp.finfo(logits.dtype).min)
    if self.kind == "self":
      mine = wide(jnp.einsum("raf,raf->ar", query, to_key(queries)))
      mine = jnp.broadcast_to(mine[..., None], (*logits.shape[:-1], 1))
      logits = jnp.concatenate([logits, mine], axis=-1)
    weights = jax.nn.softmax(logits).astype(values.dtype)
    weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
    M = tokens.shape[1]
    pooled = jnp.einsum("barm,bmaf->braf", weights[..., :M], values)
    if self.kind == "self":
      pooled += jnp.einsum("bar,raf->braf", weights[..., M], to_value(queries))
    return nn.DenseGeneral(C, (-2, -1), dtype=self.dtype, name="out",
                           kernel_init=layers.torch_linear)(pooled)


class _PerOrgan(nn.Module):
  """A linear map of its own for every organ: [B, R, C] -> [B, R, width]."""
  width: int
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    _, R, C = x.shape
    init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform",
                                            batch_axis=(0,))
    kernel = self.param("kernel", init, (R, C, self.width))
    bias = self.param("bias", layers.torch_bias(C), (R, self.width))
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias,
                                              dtype=self.dtype)
    return jnp.einsum("brc,rce->bre", x, kernel) + bias
