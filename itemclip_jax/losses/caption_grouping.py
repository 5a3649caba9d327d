"""Sub-caption grouping: each caption gathers the image tokens that it matches.

    s_kn = min-max over n of cos(t_k, v_n)
    w_kn = s_kn [s_kn >= sigma], divided by its sum over n
    u_k  = unit(sum_n w_kn unit(v_n))

and captions t are contrasted with their groups u by `losses.softmax`: among all
real captions of the batch, or among those of the same image.

Where all tokens match a caption alike, each has the same weight. Where none
reaches sigma (sigma > 1), the caption has no group and no part in the loss.

Reference: DreamLIP, Zheng et al. 2024, https://arxiv.org/abs/2403.17007.
"""

import jax
import jax.numpy as jnp

from itemclip_jax.losses.softmax import symmetric_nll
from itemclip_jax.ops.item_pairs import unit

_FLAT = 1e-6  # of cosines: differences below are rounding


def group_weights(
    items: jax.Array,        # [B, K, E] not normalised
    tokens: jax.Array,       # [B, N, E] not normalised
    token_mask: jax.Array,   # [B, N] bool, False = padding
    sigma: float = 0.0,      # negative: 1 / number of real tokens
) -> jax.Array:              # [B, K, N], rows of sum 1 or 0
  """w of the header."""
  mask = token_mask[:, None]
  cosine = jnp.einsum("bke,bne->bkn", unit(items), unit(tokens))
  low = jnp.min(cosine, -1, keepdims=True, initial=1.0, where=mask)
  high = jnp.max(cosine, -1, keepdims=True, initial=-1.0, where=mask)
  spread = high - low
  flat = spread < _FLAT
  score = jnp.where(flat, 1.0, (cosine - low) / jnp.where(flat, 1.0, spread))
  if sigma < 0:
    sigma = 1.0 / jnp.maximum(token_mask.sum(1), 1)[:, None, None]
  score = jnp.where(mask & (score >= sigma), score, 0.0)
  total = score.sum(-1, keepdims=True)
  return score / jnp.where(total > 0, total, 1.0)


def grouping(
    items: jax.Array,        # [B, K, E] not normalised
    item_mask: jax.Array,    # [B, K] bool, False = padding
    tokens: jax.Array,       # [B, N, E] not normalised
    token_mask: jax.Array,   # [B, N] bool
    *,
    scale: jax.Array | float,  # of the logits
    sigma: float = 0.0,
    over: str = "batch",     # or "image": whose captions compete
) -> jax.Array:              # []
  """Mean loss of the real captions that have a group; 0 without any."""
  B, K, E = items.shape
  # Weight 0 would let a NaN of the padding through.
  items = jnp.where(item_mask[..., None], items, 0)
  tokens = jnp.where(token_mask[..., None], tokens, 0)
  weights = group_weights(items, tokens, token_mask, sigma)
  mask = item_mask & jnp.any(weights > 0, axis=-1)
  group = unit(jnp.einsum("bkn,bne->bke", weights, unit(tokens)))
  sets = (1, B * K) if over == "batch" else (B, K)
  logits = scale * jnp.einsum("gke,gle->gkl", unit(items).reshape(*sets, E),
                              group.reshape(*sets, E))
  nll = symmetric_nll(logits, mask.reshape(sets))
  return nll.sum() / jnp.maximum(mask.sum(), 1)
