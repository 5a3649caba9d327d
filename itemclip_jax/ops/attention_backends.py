"""The ways to compute attention; `attention` says when which is taken.

All take `(query [G, Q, A, F], key [G, N, A, F], value [G, N, A, F], mask [G, N]
bool or None, causal)` and return [G, Q, A, F]. Kernels of TPUs are imported
where they are called: they take a while, and most machines have no TPU.
"""

# pylint: disable=g-import-not-at-top

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from itemclip_jax.parallel.sharding import over_rows

LANES = 128          # of a tile of a TPU
_CHUNK = 1 << 24     # logits of one block of queries


def wide(x: jax.Array) -> jax.Array:
  """Returns `x` in float32, or wider where it already is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def xla(query, key, value, mask, causal, first=0):
  """All logits at once; `first` is the place of the first query."""
  scale = query.shape[-1] ** -0.5
  logits = wide(jnp.einsum("gqaf,gnaf->gaqn", query * scale, key))
  hidden = jnp.finfo(logits.dtype).min
  if mask is not None:
    logits = jnp.where(mask[:, None, None], logits, hidden)
  if causal:
    Q, N = logits.shape[-2:]
    seen = first + jnp.arange(Q)[:, None] >= jnp.arange(N)
    logits = jnp.where(seen, logits, hidden)
  weights = jax.nn.softmax(logits).astype(value.dtype)
  return jnp.einsum("gaqn,gnaf->gqaf", weights, value)


def chunked(query, key, value, mask, causal):
  """Blocks of queries, each against all keys; logits are made again backward.

  A row of logits is whole, so its softmax is the plain one: what an online
  softmax saves beyond that is a row, and rows are short.
  """
  G, Q, A, _ = query.shape
  size = max(1, min(Q, _CHUNK // (G * A * key.shape[1])))
  count = -(-Q // size)
  padded = jnp.pad(query, ((0, 0), (0, count * size - Q), (0, 0), (0, 0)))
  blocks = padded.reshape(G, count, size, *query.shape[2:]).swapaxes(0, 1)
  some = jax.checkpoint(lambda x: xla(x[0], key, value, mask, causal, x[1]))
  out = jax.lax.map(some, (blocks, jnp.arange(count) * size))
  return out.swapaxes(0, 1).reshape(padded.shape)[:, :Q]


def chip() -> str:
  """The kind of device that a program is traced for."""
  device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
  return device.device_kind if device else jax.devices()[0].device_kind


def _interpreted() -> bool:
  """Kernels for TPU run as plain JAX where a test calls them on a CPU."""
  return "tpu" not in chip().lower()


def packed(parts: Sequence[jax.Array]) -> jax.Array:
  """Three [..., C] -> [..., 3 C], a tile of lanes of each after the other.

  Of columns of kernels and of biases as well as of queries, keys and values.

  Raises:
    ValueError: C is not whole tiles.
  """
  *lead, C = parts[0].shape
  if C % LANES:
    raise ValueError(f"The fused kernels of attention take widths that are a "
                     f"multiple of {LANES}, got {C}; take xla.")
  tiles = [x.reshape(*lead, C // LANES, LANES) for x in parts]
  return jnp.stack(tiles, axis=-2).reshape(*lead, 3 * C)


def fused(query, key, value, mask, causal):
  """Puts together what `fused_packed` takes, by copies."""
  if query.shape != key.shape:
    raise ValueError(f"The fused kernels are for self-attention, got queries "
                     f"{query.shape} and keys {key.shape}; take xla.")
  flat = [x.reshape(*x.shape[:2], -1) for x in (query, key, value)]
  return fused_packed(packed(flat), mask, query.shape[2], causal
                      ).reshape(query.shape)


def fused_packed(qkv, mask, num_heads, causal):
  """See `fused_attention`: [G, T, 3 C] -> [G, T, C]."""
  from itemclip_jax.ops import fused_attention
  run = over_rows(lambda x, m: fused_attention.attend(
      x, m, num_heads, causal, _interpreted()))
  return run(qkv, _mask(mask, qkv))


def splash(query, key, value, mask, causal):
  """See `splash_attention`."""
  from itemclip_jax.ops import splash_attention
  if causal:
    raise ValueError("The causal form of splash is not used; take xla.")
  run = over_rows(functools.partial(splash_attention.attend,
                                    interpret=_interpreted()))
  return run(query, key, value, _mask(mask, key))


def cudnn(query, key, value, mask, causal):
  """Half precision only; lengths are made even, which its mask wants."""
  Q, N = query.shape[1], key.shape[1]
  even = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
  seen = jnp.pad(_mask(mask, key), ((0, 0), (0, N % 2)))
  # Its kernels take no mask that is broadcast over queries.
  seen = jnp.broadcast_to(seen[:, None, None],
                          (len(seen), 1, Q + Q % 2, N + N % 2))
  return jax.nn.dot_product_attention(
      even(query), even(key), even(value), mask=seen, is_causal=causal,
      implementation="cudnn")[:, :Q]


@functools.cache
def cudnn_fault() -> str:
  """Why NVIDIA's kernel cannot be used here; "" where it ran."""
  if jax.default_backend() != "gpu":
    return "there is no GPU"
  x = jnp.ones((2, 3, 2, 64), jnp.bfloat16)
  mask = jnp.ones((2, 3), bool)
  try:
    grad = jax.grad(lambda x: jnp.sum(cudnn(x, x, x, mask, False)))
    jax.block_until_ready(jax.jit(grad)(x))
  except Exception as error:  # pylint: disable=broad-except
    return str(error).strip().splitlines()[0]   # of the driver, of any type
  return ""


def _mask(mask, key):
  return jnp.ones(key.shape[:2], bool) if mask is None else mask


NAMES = {"xla": xla, "chunked": chunked, "fused": fused, "splash": splash,
         "cudnn": cudnn}
