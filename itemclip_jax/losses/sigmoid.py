"""Sigmoid pair loss.

    l(z, c) = -log sigmoid(z (s c + b)),   z = +1 for a pair, -1 for none

Reference: Zhai et al. 2023, https://arxiv.org/abs/2303.15343. The ItemizedCLIP
paper writes the bias with the other sign; its code and table use `+ b`.
"""

import jax


def sigmoid_nll(
    cosine: jax.Array,       # [...]
    sign: jax.Array,         # broadcasts, +1 or -1
    logit_scale: jax.Array,  # [] s, not its logarithm
    logit_bias: jax.Array,   # []
) -> jax.Array:              # [...]
  """Negative log-likelihood of each pair."""
  return -jax.nn.log_sigmoid(sign * (logit_scale * cosine + logit_bias))
