"""Multi-positive sigmoid loss (MPS): each image owns several text items.

    L = 1/(B K) sum_i sum_{j,k} m_jk a_ij l(z_ij, cos(v_i, u_jk))

with z_ij = +1 if i == j else -1, m_jk = 0 where slot k of image j is padding,
and a_ij = 0 where i and j are two different normal studies or one is a padded
example. The divisor counts slots, padded ones included, as the published code
does, but of real images only.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (the MPS term).
"""

import jax
import jax.numpy as jnp

from itemclip_jax.losses.sigmoid import sigmoid_nll
from itemclip_jax.ops.item_pairs import unit


def multi_positive_sigmoid(
    image: jax.Array,         # [B, E] not normalised
    items: jax.Array,         # [B, K, E] not normalised
    item_mask: jax.Array,     # [B, K] bool, False = padding
    excluded: jax.Array,      # [B, B] bool, True = not a negative pair
    *,
    logit_scale: jax.Array,   # []
    logit_bias: jax.Array,    # []
    num_images: jax.Array,    # [groups] real images, at least 1
) -> jax.Array:               # [groups]
  """Loss of each group of B / groups consecutive images against all items."""
  B, K, _ = items.shape
  own = jnp.eye(B, dtype=bool)
  cosine = jnp.einsum("be,cke->bck", unit(image), unit(items))
  nll = sigmoid_nll(cosine, jnp.where(own, 1.0, -1.0)[..., None],
                    logit_scale, logit_bias)
  real = item_mask[None] & (own | ~excluded)[..., None]     # [B, B, K]
  per_image = jnp.sum(nll, axis=(1, 2), where=real)
  return per_image.reshape(len(num_images), -1).sum(1) / (num_images * K)
