"""Random bits as hashes of where they are used.

A bit that is a function of a key and its place is the same for every block size
and number of devices, and costs some integer operations where a stream of
random numbers costs a hundred.
"""

import jax
import jax.numpy as jnp


def mix(x: jax.Array) -> jax.Array:
  """A bijection of uint32 with full avalanche.

  Constants: C. Wellons, "Prospecting for hash functions" (lowbias32).
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def threshold(rate: float) -> jax.Array:
  """Hashes below it are a share `rate` of all."""
  return jnp.uint32(min(int(rate * 2**32), 2**32 - 1))


def stays(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
  """bool `shape`: independent draws, False with probability `rate`."""
  seed = jax.random.bits(key, (2,), jnp.uint32)
  row = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(shape[:-1]):
    place = jax.lax.broadcasted_iota(jnp.uint32, shape[:-1], axis)
    row = row * jnp.uint32(size) + place
  column = mix(seed[1] ^ jnp.arange(shape[-1], dtype=jnp.uint32))
  return mix(mix(seed[0] ^ row)[..., None] ^ column) >= threshold(rate)
