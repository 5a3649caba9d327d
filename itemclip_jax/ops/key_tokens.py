"""Key tokens of an attention: the largest share of the weights of each row.

The least of the n largest numbers is found bit by bit, for what is not negative
has the order of its bits. That passes over a row once a bit with all lanes at
work, where sorting would move it about.
"""

import jax
import jax.numpy as jnp
import numpy as np


def key_tokens(
    attention: jax.Array,    # [B, J, N] head-averaged weights, not negative
    token_mask: jax.Array,   # [B, N] bool
    rate: float,
) -> jax.Array:              # [B, J, N] bool
  """The max(1, floor(rate * n)) largest of each row's n real tokens.

  Of equal weights the lower index wins. Carries no gradient.
  """
  N = attention.shape[-1]
  # A table instead of arithmetic: floor(rate * n) must not depend on float32.
  counts = np.array([max(1, int(rate * n)) for n in range(N + 1)], np.int32)
  count = jnp.asarray(counts)[token_mask.sum(-1)][:, None, None]     # [B, 1, 1]
  attention = jax.lax.stop_gradient(attention)
  bits = _sortable(jnp.where(token_mask[:, None], attention, -1.0))
  least = _nth_largest(bits, count)
  larger, equal = bits > least, bits == least
  left = count - _how_many(larger)
  first = jnp.cumsum(equal, axis=-1, dtype=jnp.int32) <= left
  return (larger | (equal & first)) & token_mask[:, None]


def _sortable(x: jax.Array) -> jax.Array:
  """Integers in the order of `x`, where `x` is not negative."""
  kind = {4: jnp.int32, 8: jnp.int64}[x.dtype.itemsize]
  # Adding 0 turns a negative zero, whose bits are the least, into a zero.
  return jax.lax.bitcast_convert_type(x + 0.0, kind)


def _nth_largest(
    bits: jax.Array,         # [B, J, N] integers, negative = not there
    count: jax.Array,        # [B, 1, 1] n
) -> jax.Array:              # [B, J, 1]
  """The largest number that n or more entries reach."""
  num_bits = 8 * bits.dtype.itemsize - 1
  places = bits.dtype.type(1) << np.arange(num_bits, dtype=bits.dtype)[::-1]

  def raise_(least, place):
    higher = least | place
    return jnp.where(_how_many(bits >= higher) >= count, higher, least), None

  none = jnp.zeros_like(bits[..., :1])
  return jax.lax.scan(raise_, none, jnp.asarray(places))[0]


def _how_many(x: jax.Array) -> jax.Array:
  return jnp.sum(x, axis=-1, keepdims=True, dtype=jnp.int32)
