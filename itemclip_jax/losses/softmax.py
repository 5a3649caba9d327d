"""Softmax contrast of M pairs, read by rows and by columns.

    L_i = -1/2 sum_j y_ij (log softmax_j(x_ij) + log softmax_j(x_ji))

with x_ij the logit of image i and text j, and y the identity: CLIP's loss is
the mean of L_i. HLIP sets y_ij = 1 for two normal studies as well, and does not
divide a row by its sum. Padding is no candidate and has L_i = 0.

References: Radford et al. 2021, https://arxiv.org/abs/2103.00020; Zhao et al.
2025, https://arxiv.org/abs/2505.21862 (normal studies).
"""

import jax
import jax.numpy as jnp

from itemclip_jax.ops.attention import wide


def symmetric_nll(
    logits: jax.Array,                  # [..., M, M]
    mask: jax.Array,                    # [..., M] bool, False = padding
    targets: jax.Array | None = None,   # [..., M, M]; None: identity
) -> jax.Array:                         # [..., M]
  """L_i of the header, in float32 or wider."""
  if targets is None:
    targets = jnp.eye(mask.shape[-1])
  logits = wide(logits)
  real = mask[..., :, None] & mask[..., None, :]
  # Finite, so that a row of padding has no NaN in its gradient.
  logits = jnp.where(real, logits, jnp.finfo(logits.dtype).min)
  by_row = targets * jax.nn.log_softmax(logits, axis=-1)
  by_column = targets * jax.nn.log_softmax(logits, axis=-2)
  return -0.5 * (jnp.sum(by_row, axis=-1, where=real)
                 + jnp.sum(by_column, axis=-2, where=real))
