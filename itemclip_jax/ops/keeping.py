"""What a backward pass that recomputes keeps, by name."""

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp


def kept(x: jax.Array, name: str) -> jax.Array:
  """`x`, kept where the policy of `jax.checkpoint` saves the name.

  Floats by their bits: JAX rounds floats that it keeps once more, which is a
  pass of its own where no product writes them.
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return checkpoint_name(x, name)
  bits = jax.lax.bitcast_convert_type(x, f"int{8 * x.dtype.itemsize}")
  return jax.lax.bitcast_convert_type(checkpoint_name(bits, name), x.dtype)
