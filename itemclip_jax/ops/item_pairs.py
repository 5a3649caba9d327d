"""One image against its candidate items: one query-key product feeds all.

For image i and candidate item j with query q_j, keys k_n and values v_n

    w_jn  = softmax0_n(q_j . k_n / sqrt(F))         (per head, kept tokens)
    o_j   = W_o [sum_n w_jn v_n]                     the item's pooled vector
    local = cos(o_j, t_j)                            alignment, scoring (TCSim)
    key   = cos(o'_j, t_j)                          o' pools the key tokens only
    own   = cos(o_j, t_k), k the image's own items   separation

where the key tokens of (i, j) are the `kta_rate` share of image i's real tokens
with the largest head-averaged w_jn. Candidates are worked off in blocks whose
attention is recomputed in the backward pass, so that memory does not grow with
candidates times tokens.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.ops.attention import softmax_zero_slot, wide
from itemclip_jax.parallel.sharding import constrain


class Items(NamedTuple):
  """All M text items of a batch, each projected once."""
  embedding: jax.Array  # [M, E] not normalised
  query: jax.Array      # [M, A, F]


class Tokens(NamedTuple):
  """The image tokens of B studies, projected."""
  key: jax.Array        # [B, N, A, F]
  value: jax.Array      # [B, N, A, F]
  mask: jax.Array       # [B, N] bool, False = padding


class Pairs(NamedTuple):
  """Cosines of each image's J candidates."""
  local: jax.Array             # [B, J] pooled over the kept tokens
  key: jax.Array | None        # [B, J] pooled over the key tokens
  own: jax.Array               # [B, J, K] candidate j's pooled vector, item k


# `keep(start, size)` returns bool [B, A, size, N]: which tokens each head of
# the candidates start .. start + size - 1 may see.
KeepFn = Callable[[jax.Array, int], jax.Array]


def unit(x: jax.Array) -> jax.Array:
  """L2-normalises the last axis in float32 or wider; zero stays zero."""
  x = wide(x)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def key_tokens(
    attention: jax.Array,    # [B, J, N] head-averaged weights
    token_mask: jax.Array,   # [B, N] bool
    rate: float,
) -> jax.Array:              # [B, J, N] bool
  """The max(1, floor(rate * n)) largest of each row's n real tokens.

  Of equal weights the lower index wins. Carries no gradient.
  """
  N = attention.shape[-1]
  # A table instead of arithmetic: floor(rate * n) must not depend on float32.
  counts = np.array([max(1, int(rate * n)) for n in range(N + 1)])
  num_keys = jnp.asarray(counts)[token_mask.sum(-1)]                 # [B]
  attention = jax.lax.stop_gradient(attention)
  attention = jnp.where(token_mask[:, None], attention, -1.0)
  values, indices = jax.lax.top_k(attention, int(counts[-1]))
  last = (num_keys - 1)[:, None, None]
  value = jnp.take_along_axis(values, last, axis=-1)                 # [B, J, 1]
  index = jnp.take_along_axis(indices, last, axis=-1)
  tie = (attention == value) & (jnp.arange(N) <= index)
  return ((attention > value) | tie) & token_mask[:, None]


def pool(weights: jax.Array, value: jax.Array, out: Callable) -> jax.Array:
  """Weighted sum of values, heads joined: [B,A,J,N], [B,N,A,F] -> [B,J,E]."""
  pooled = jnp.einsum("bajn,bnaf->bjaf", weights.astype(value.dtype), value)
  return out(pooled)


def attention_weights(
    query: jax.Array,        # [B, J, A, F]
    tokens: Tokens,
) -> jax.Array:              # [B, A, J, N]
  """Attention of each candidate over an image's tokens, zero slot removed."""
  return softmax_zero_slot(_logits(query, tokens.key),
                           tokens.mask[:, None, None])


def compare(
    items: Items,
    tokens: Tokens,
    candidates: jax.Array,          # [B, J] int, rows of `items`
    out: Callable[[jax.Array], jax.Array],  # [B, J, A, F] -> [B, J, E]
    *,
    num_own: int,                   # K; image b owns items b K .. b K + K - 1
    kta_rate: float | None = None,  # None: no key tokens
    keep: jax.Array | KeepFn | None = None,  # [B, A, J, N] bool, or a function
    block: int = 0,                 # candidates at a time; 0 = all
) -> Pairs:
  """Compares every image with its candidate items; see the header."""
  B, J = candidates.shape
  items = Items(*map(jnp.asarray, items))
  E = items.embedding.shape[-1]
  own = unit(items.embedding[:B * num_own]).reshape(B, num_own, E)

  if keep is not None and not callable(keep):
    bits = keep
    keep = lambda start, size: jax.lax.dynamic_slice_in_dim(
        bits, start, size, axis=2)

  def some(start, index):           # index [B, j]
    query = constrain(items.query[index], ("batch", None, "heads", None))
    text = constrain(unit(items.embedding[index]), ("batch", None, "embed"))
    seen = None if keep is None else keep(start, index.shape[1])
    return _compare(query, text, own, tokens, out, kta_rate, seen)

  if not 0 < block < J:
    return some(0, candidates)
  num_blocks = -(-J // block)
  # The last block starts early instead of being padded: no made-up candidates.
  starts = np.minimum(np.arange(num_blocks) * block, J - block)
  part = jax.checkpoint(lambda s: some(
      s, jax.lax.dynamic_slice_in_dim(candidates, s, block, axis=1)))
  blocks = jax.lax.map(part, jnp.asarray(starts))
  where = np.arange(J)
  which = where // block
  within = where - starts[which]
  return jax.tree.map(
      lambda x: jnp.moveaxis(x, 0, 1)[:, which, within], blocks)


def _logits(query: jax.Array, key: jax.Array) -> jax.Array:
  scale = query.shape[-1] ** -0.5
  return wide(jnp.einsum("bjaf,bnaf->bajn", query * scale, key))


def _compare(query, text, own, tokens, out, kta_rate, keep) -> Pairs:
  """`compare` for candidates that are already gathered."""
  real = tokens.mask[:, None, None]                       # [B, 1, 1, N]
  logits = _logits(query, tokens.key)                     # [B, A, j, N]
  weights = softmax_zero_slot(logits, real if keep is None else real & keep)
  pooled = unit(pool(weights, tokens.value, out))         # [B, j, E]
  local = jnp.einsum("bje,bje->bj", pooled, text)
  own = jnp.einsum("bje,bke->bjk", pooled, own)
  if kta_rate is None:
    return Pairs(local, None, own)
  chosen = key_tokens(weights.mean(1), tokens.mask, kta_rate)
  weights = softmax_zero_slot(logits, chosen[:, None])
  pooled = unit(pool(weights, tokens.value, out))
  return Pairs(local, jnp.einsum("bje,bje->bj", pooled, text), own)
