"""Scaled dot-product attention, and the softmax with a slot for "nothing".

    softmax0(x)_n = exp(x_n) / (1 + sum_m exp(x_m))

is the softmax over `[x; 0]` without its last entry: a query that matches no
token leaves its weight in the extra slot, whose value is the zero vector.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (zero attention of
the item cross-attention); Vaswani et al. 2017 for the rest.
"""

import jax
import jax.numpy as jnp


def wide(x: jax.Array) -> jax.Array:
  """Returns `x` in float32, or wider where it already is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def attend(
    query: jax.Array,              # [G, Q, A, F]
    key: jax.Array,                # [G, N, A, F]
    value: jax.Array,              # [G, N, A, F]
    mask: jax.Array | None = None,  # [G, N] bool, False = padding
    *,
    causal: bool = False,          # query i sees keys 0 .. i only
) -> jax.Array:                    # [G, Q, A, F]
  """Self- or cross-attention inside each group; softmax in float32 or wider.

  A group whose tokens are all padding attends to them evenly: finite, and
  for the caller to ignore.
  """
  scale = query.shape[-1] ** -0.5
  logits = wide(jnp.einsum("gqaf,gnaf->gaqn", query * scale, key))
  hidden = jnp.finfo(logits.dtype).min
  if mask is not None:
    logits = jnp.where(mask[:, None, None], logits, hidden)
  if causal:
    logits = jnp.where(jnp.tri(*logits.shape[-2:], dtype=bool), logits, hidden)
  weights = jax.nn.softmax(logits).astype(value.dtype)
  return jnp.einsum("gaqn,gnaf->gqaf", weights, value)


def softmax_zero_slot(
    logits: jax.Array,        # [..., N]
    keep: jax.Array | None,   # broadcasts to [..., N] bool, False = excluded
) -> jax.Array:               # [..., N]
  """Softmax over the kept entries and one extra logit 0, which is cut off."""
  if keep is not None:
    logits = jnp.where(keep, logits, -jnp.inf)
  top = jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), 0.0)
  top = jax.lax.stop_gradient(top)  # a common shift changes no weight
  weights = jnp.exp(logits - top)
  return weights / (weights.sum(-1, keepdims=True) + jnp.exp(-top))
