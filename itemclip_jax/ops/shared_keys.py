"""What few items pool from image tokens, where all heads share keys.

    l_jn = q_j . [x_n; 1],  w_jn = softmax0_n(l_jn),  o_j = sum_n w_jn [x_n; 1]

per head over the kept tokens, and once more over the key tokens, which w
chooses. Keys and values are the normalised tokens x themselves; what a head
makes of them is absorbed into its queries and into the output
(`models.item_attention`). The backward pass is written out: it keeps exp(l)
and what it is divided by, and computes no product twice,

    dw = do . [x; 1],  dl = w (dw - sum w dw),  dq = dl [x; 1],
    dx = w^T do + dl^T q
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.ops.attention import (
    softmax_gradient, softmax_zero_slot, wide)
from itemclip_jax.ops.keeping import kept
from itemclip_jax.ops.key_tokens import key_tokens

# Queries are few, so a backward pass that recomputes keeps what is as many.
NAME = "kept"
_kept = functools.partial(kept, name=NAME)
# Else a compiler repeats the hashes of a mask, or an exponential, in all that
# reads them.
_once = jax.lax.optimization_barrier


def pooled(
    query: jax.Array,        # [b, J, A, E + 1], scaled
    x: jax.Array,            # [b, N, E]
    seen: jax.Array,         # bool, broadcasts to [b, J, A, N]: kept tokens
    mask: jax.Array,         # [b, N] bool, False = padding
    kta_rate: float | None,
) -> tuple[jax.Array, jax.Array | None]:
  """[b, J, A, E + 1] of the kept tokens, and of the key tokens or None."""
  run = functools.partial(_pool, kta_rate)
  # Not by `vmap`: the compiler keeps the layout of plain matrices only.
  if len(x) == 1:
    found = run(query[0], x[0], seen[0], mask[0])
    return jax.tree.map(lambda y: y[None], found)
  return jax.vmap(run)(query, x, seen, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(kta_rate, query, x, seen, mask):
  """Of one image."""
  return _forward(kta_rate, query, x, seen, mask)[0]


def _forward(kta_rate, query, x, seen, mask):
  logits = _dots(query, x)                                     # [J, A, N]
  hidden = _once(jnp.where(seen, logits, -jnp.inf))
  top = jnp.maximum(jnp.max(hidden, axis=-1, keepdims=True), 0)
  raised = _kept(_once(jnp.exp(hidden - top)))
  total = jnp.sum(raised, axis=-1, keepdims=True)
  share = _kept(1 / (total + jnp.exp(-top)))                   # [J, A, 1]
  local = jnp.concatenate([_sums(raised, x), total], -1) * share
  if kta_rate is None:
    return (local, None), (query, x, raised, share, None, None)
  chosen = key_tokens(jnp.mean(raised * share, axis=1)[None], mask[None],
                      kta_rate)[0]
  where, there = map(_kept, _places(chosen, kta_rate))         # [J, n]
  weights = _kept(softmax_zero_slot(
      jnp.take_along_axis(logits, where[:, None], axis=-1), there[:, None]))
  key = jnp.einsum("jan,jne->jae", weights.astype(x.dtype), x[where])
  key = jnp.concatenate([wide(key), jnp.sum(weights, -1, keepdims=True)], -1)
  return (local, key), (query, x, raised, share, where, weights)


def _backward(kta_rate, saved, toward):
  query, x, raised, share, where, weights = saved
  E = x.shape[-1]
  d_local, d_key = toward
  d_weights = _dots(d_local, x)
  mean = jnp.sum(raised * d_weights, axis=-1, keepdims=True) * share
  d_logits = _once(raised * share * (d_weights - mean))
  d_query = [_sums(d_logits, x), jnp.sum(d_logits, -1, keepdims=True)]
  d_x = (_transposed(raised, share * d_local[..., :E], x.dtype)
         + _transposed(d_logits, query[..., :E], x.dtype))
  if kta_rate is not None:
    value = x[where]                                           # [J, n, E]
    some = lambda a, b: wide(jnp.einsum("jae,jne->jan", a.astype(x.dtype), b))
    d_weights = some(d_key[..., :E], value) + d_key[..., E:]
    d_logits = softmax_gradient(weights, d_weights)
    d_query[0] += jnp.einsum("jan,jne->jae", d_logits.astype(x.dtype), value)
    d_query[1] += jnp.sum(d_logits, axis=-1, keepdims=True)
    both = jnp.concatenate([weights, d_logits], axis=1).astype(x.dtype)
    of = jnp.concatenate([d_key, query], axis=1)[..., :E].astype(x.dtype)
    d_value = jnp.einsum("jan,jae->jne", both, of)
    d_x = d_x.at[where].add(d_value)
  d_query = jnp.concatenate(d_query, axis=-1).astype(query.dtype)
  return d_query, d_x.astype(x.dtype), None, None


_pool.defvjp(_forward, _backward)


def _places(chosen: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
  """Where key tokens lie: [J, N] bool -> [J, n] int, and which are there."""
  N = chosen.shape[-1]
  slots = np.arange(1, max(1, int(rate * N)) + 1, dtype=np.int32)
  count = jnp.cumsum(chosen, axis=-1, dtype=jnp.int32)
  where = jax.vmap(lambda row: jnp.searchsorted(row, slots))(count)
  return jnp.minimum(where, N - 1), slots <= count[:, -1:]


def _dots(rows: jax.Array, x: jax.Array) -> jax.Array:
  """[J, A, E + 1], [N, E] -> [J, A, N]: with every [x; 1]."""
  J, A, _ = rows.shape
  N, E = x.shape
  flat = rows[..., :E].reshape(-1, E).astype(x.dtype)
  return wide(flat @ x.T).reshape(J, A, N) + wide(rows[..., E:])


def _sums(weights: jax.Array, x: jax.Array) -> jax.Array:
  """[J, A, N], [N, E] -> [J, A, E]."""
  J, A, N = weights.shape
  return wide(weights.reshape(-1, N).astype(x.dtype) @ x).reshape(J, A, -1)


def _transposed(weights, rows, dtype) -> jax.Array:
  """[J, A, N], [J, A, E] -> [N, E]."""
  flat = lambda y: y.reshape(-1, y.shape[-1]).astype(dtype)
  return wide(flat(weights).T @ flat(rows))
