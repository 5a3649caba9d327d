"""What items pool from image tokens, by one query-key product.

    w_jn = softmax0_n(q_j . k_n / sqrt(F)),   o_j = sum_n w_jn v_n,   per head

over the kept tokens, and o'_j over the key tokens, which w chooses. Heads have
keys of their own [B, N, A, F], or share one set [B, N, 1, E], the tokens
themselves; queries are then few (`shared_keys`).
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from itemclip_jax.ops import shared_keys
from itemclip_jax.ops.attention import (
    softmax_gradient, softmax_zero_slot, wide)
from itemclip_jax.ops.keeping import kept
from itemclip_jax.ops.key_tokens import key_tokens

# The backward pass computes all again but what is small: which tokens are key
# tokens, and what `shared_keys` names.
recomputed = functools.partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.save_only_these_names(shared_keys.NAME))


class Tokens(NamedTuple):
  """The image tokens of B studies, projected."""
  key: jax.Array        # [B, N, A, F], or [B, N, 1, E] shared by all heads
  value: jax.Array      # as `key`; where heads share keys, the same
  mask: jax.Array       # [B, N] bool, False = padding


def pool(weights: jax.Array, value: jax.Array, out: Callable) -> jax.Array:
  """Weighted sum of values, heads joined: [B,A,J,N], [B,N,A,F] -> [B,J,E]."""
  return out(_sum(weights, value))


def _sum(weights, value) -> jax.Array:
  """`pool` of each head by itself, [B, J, A, F]."""
  return jnp.einsum("bajn,bnaf->bjaf", weights.astype(value.dtype), value)


def attention_weights(
    query: jax.Array,        # [B, J, A, F]
    tokens: Tokens,
) -> jax.Array:              # [B, A, J, N]
  """Attention of each candidate over an image's tokens, zero slot removed."""
  return softmax_zero_slot(_logits(query, tokens.key),
                           tokens.mask[:, None, None])


def _logits(query: jax.Array, key: jax.Array) -> jax.Array:
  query = query * query.shape[-1] ** -0.5
  return wide(jnp.einsum("bjaf,bnaf->bajn", query, key))


def pooled(query, tokens, kta_rate, keep) -> tuple:
  """Before `out`: [B, j, A, F] of the kept tokens, of the key tokens."""
  seen = tokens.mask[:, None, None]                       # [B, 1, 1, N]
  seen = seen if keep is None else seen & keep
  if tokens.key.shape[2] < query.shape[2]:
    return shared_keys.pooled(query, tokens.key[:, :, 0],
                              jnp.moveaxis(seen, 1, 2), tokens.mask, kta_rate)
  logits = _logits(query, tokens.key)                     # [B, A, j, N]
  weights = _softmax(logits, seen)
  local = _sum(weights, tokens.value)                     # [B, j, A, F]
  if kta_rate is None:
    return local, None
  chosen = kept(key_tokens(weights.mean(1), tokens.mask, kta_rate),
                shared_keys.NAME)
  return local, _sum(_softmax(logits, chosen[:, None]), tokens.value)


@jax.custom_vjp
def _softmax(logits, seen) -> jax.Array:
  """`softmax_zero_slot`, of which the backward pass needs the weights alone."""
  return softmax_zero_slot(logits, seen)


def _softmax_fwd(logits, seen):
  weights = softmax_zero_slot(logits, seen)
  return weights, weights


def _softmax_bwd(weights, toward):
  return softmax_gradient(weights, toward), None


_softmax.defvjp(_softmax_fwd, _softmax_bwd)
