"""JAX's splash attention for TPU, on groups of any length.

Its lengths must be whole tiles of 128: queries and keys are padded, and padding
is a segment of its own that no real query sees. Keys are worked off in blocks
with an online softmax, so no length is too long.

Reference: Dao et al. 2022, https://arxiv.org/abs/2205.14135.
"""

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as splash_kernel,
    splash_attention_mask as splash_mask)
import jax.numpy as jnp

_TILE = 128
_QUERIES, _KEYS = 512, 1536   # most rows and columns of a block


def fits(head_width: int) -> bool:
  """Whether the kernel compiles for such heads."""
  return head_width % 64 == 0


def attend(
    query: jax.Array,    # [G, Q, A, F]
    key: jax.Array,      # [G, N, A, F]
    value: jax.Array,    # [G, N, A, F]
    mask: jax.Array,     # [G, N] bool, False = padding
    *,
    interpret: bool = False,
) -> jax.Array:          # [G, Q, A, F]
  """See the header; `fits` tells what it takes."""
  G, Q, A, F = query.shape
  rows, columns = (-(-n // _TILE) * _TILE for n in (Q, key.shape[1]))

  def heads_first(x, length):     # [G, A, length, F]
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0))
                   ).swapaxes(1, 2)

  segment = jnp.pad(~mask, ((0, 0), (0, columns - key.shape[1])),
                    constant_values=True).astype(jnp.int32)
  kernel = splash_kernel.make_splash_mha_single_device(
      splash_mask.MultiHeadMask(
          [splash_mask.FullMask((rows, columns))] * A),
      block_sizes=_blocks(rows, columns), interpret=interpret)
  real = jnp.zeros((rows,), jnp.int32)
  one = lambda q, k, v, s: kernel(q, k, v, splash_kernel.SegmentIds(real, s))
  out = jax.vmap(one)(heads_first(query * F ** -0.5, rows),
                      heads_first(key, columns), heads_first(value, columns),
                      segment)
  return checkpoint_name(out.swapaxes(1, 2)[:, :Q], "attention")


def _blocks(rows: int, columns: int) -> splash_kernel.BlockSizes:
  """The largest that divide the lengths."""
  def largest(length, most):
    tiles = length // _TILE
    return _TILE * max(n for n in range(1, most // _TILE + 1)
                       if tiles % n == 0)
  q, kv = largest(rows, _QUERIES), largest(columns, _KEYS)
  return splash_kernel.BlockSizes(
      block_q=q, block_kv=kv, block_kv_compute=kv, block_q_dkv=q,
      block_kv_dkv=kv, block_kv_dkv_compute=kv, block_q_dq=q, block_kv_dq=kv)
