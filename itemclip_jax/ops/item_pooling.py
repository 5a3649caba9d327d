"""What items pool from image tokens, by one query-key product.

    w_jn = softmax0_n(q_j . k_n / sqrt(F)),   o_j = sum_n w_jn v_n,   per head

over the kept tokens, and o'_j over the key tokens, which w chooses. Heads have
keys of their own [B, N, A, F], or share one set [B, N, 1, F] that is as wide as
the tokens themselves; queries are then few (`models.item_attention`).
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from itemclip_jax.ops.attention import softmax_zero_slot, wide
from itemclip_jax.ops.key_tokens import key_tokens

# What the backward pass does not compute again where heads share keys, as wide
# as tokens: then queries are few, and so is what they pool and choose.
_NAME = "kept"
_kept = functools.partial(checkpoint_name, name=_NAME)
recomputed = functools.partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.save_only_these_names(_NAME))


class Tokens(NamedTuple):
  """The image tokens of B studies, projected."""
  key: jax.Array        # [B, N, A, F], or [B, N, 1, F] shared by all heads
  value: jax.Array      # as `key`
  mask: jax.Array       # [B, N] bool, False = padding


def pool(weights: jax.Array, value: jax.Array, out: Callable) -> jax.Array:
  """Weighted sum of values, heads joined: [B,A,J,N], [B,N,A,F] -> [B,J,E]."""
  return out(jnp.moveaxis(_sum(weights, value), 1, 2))


def _sum(weights, value) -> jax.Array:
  """`pool` of each head by itself, [B, A, J, F]."""
  weights = weights.astype(value.dtype)
  if value.shape[2] == 1:
    return _by_row("rn,nf->rf", weights, value[:, :, 0])
  return jnp.einsum("bajn,bnaf->bajf", weights, value)


def attention_weights(
    query: jax.Array,        # [B, J, A, F]
    tokens: Tokens,
) -> jax.Array:              # [B, A, J, N]
  """Attention of each candidate over an image's tokens, zero slot removed."""
  return softmax_zero_slot(_logits(query, tokens.key),
                           tokens.mask[:, None, None])


def _logits(query: jax.Array, key: jax.Array) -> jax.Array:
  query = jnp.moveaxis(query * query.shape[-1] ** -0.5, 1, 2)
  if key.shape[2] == 1:
    return wide(_by_row("rf,nf->rn", query, key[:, :, 0]))
  return wide(jnp.einsum("bajf,bnaf->bajn", query, key))


def _by_row(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """An image's product [A, J, x] with what its heads share, as one matrix."""
  product = lambda x, y: jnp.einsum(
      equation, x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:-1], -1)
  # The compiler keeps the layout of plain matrices only.
  if len(x) == 1:
    return product(x[0], y[0])[None]
  return jax.vmap(product)(x, y)


def pooled(query, tokens, kta_rate, keep) -> tuple:
  """Before `out`: [B, A, j, F] of the kept tokens, of the key tokens."""
  real = tokens.mask[:, None, None]                       # [B, 1, 1, N]
  few = tokens.value.shape[2] < query.shape[2]
  logits = _logits(query, tokens.key)                     # [B, A, j, N]
  weights = _softmax(logits, real if keep is None else real & keep, few)
  local = _sum(weights, tokens.value)
  if kta_rate is None:
    return local, None
  chosen = key_tokens(weights.mean(1), tokens.mask, kta_rate)
  if few:
    return _kept(local), _kept(_gathered(logits, chosen, tokens, kta_rate))
  return local, _sum(_softmax(logits, chosen[:, None], few), tokens.value)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _softmax(logits, seen, kept: bool) -> jax.Array:
  """`softmax_zero_slot`, of which the backward pass needs the weights alone."""
  del kept
  return softmax_zero_slot(logits, seen)


def _softmax_fwd(logits, seen, kept):
  weights = softmax_zero_slot(logits, seen)
  weights = _kept(weights) if kept else weights
  return weights, weights


def _softmax_bwd(kept, weights, toward):
  del kept
  mean = jnp.sum(weights * toward, axis=-1, keepdims=True)
  return weights * (toward - mean), None


_softmax.defvjp(_softmax_fwd, _softmax_bwd)


def _gathered(logits, chosen, tokens, kta_rate) -> jax.Array:
  """Pooled key tokens [B, A, j, F], looked up instead of multiplied by 0."""
  N = chosen.shape[-1]
  slots = np.arange(1, max(1, int(kta_rate * N)) + 1, dtype=np.int32)
  count = jnp.cumsum(chosen, axis=-1, dtype=jnp.int32)         # [B, j, N]
  find = lambda row: jnp.searchsorted(row, slots)
  where = _kept(jnp.minimum(jax.vmap(jax.vmap(find))(count), N - 1))
  there = _kept(slots <= count[..., -1:])                      # [B, j, n]
  weights = _softmax(
      jnp.take_along_axis(logits, where[:, None], axis=-1), there[:, None],
      True)
  value = jax.vmap(lambda value, where: value[where])(
      tokens.value[:, :, 0], where)                            # [B, j, n, F]
  return jnp.einsum("bajn,bjnf->bajf", weights.astype(value.dtype), value)
