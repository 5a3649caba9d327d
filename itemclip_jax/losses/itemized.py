"""The itemised loss: ILA with UWP, KTA, IIS and MPS, per group of the batch.

    L = ila L_ILA + kta L_KTA + iis L_IIS + mps L_MPS

    L_ILA = 1/b   sum_i sum_j w_ij l(z_ij, local_ij)     local alignment
    L_KTA = 1/b   sum_i sum_j w_ij l(z_ij, key_ij)       on key tokens only
    L_IIS = 1/bK  sum_i sum_{k,k'} l(z_kk', own_ikk')    separation of own items
    L_MPS         see `multi_positive`

l is the sigmoid pair loss, b the real images of a group. w_ij is 0 where image
or candidate is padding or both studies are normal; for the positive with the
smallest ILA logit of its image it is `uwp_factor` (up-weighting of the worst),
chosen by an explicit masked arg-min under stop-gradient. (The published code
chooses by offsets of -10 and -20, which picks padding or a negative once logits
spread further; with such logits the two differ on purpose.)

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

import jax
import jax.numpy as jnp

from itemclip_jax.losses.negatives import Candidates
from itemclip_jax.losses.sigmoid import sigmoid_nll
from itemclip_jax.ops.item_pairs import Pairs


def worst_positive(
    cosine: jax.Array,       # [B, J] ILA cosines
    candidates: Candidates,
) -> jax.Array:              # [B] int
  """Column of each image's own real item with the smallest cosine.

  Where an image has none the column is 0 and its weight 0 anyway.
  """
  positive = (candidates.sign > 0) & candidates.weight
  return jnp.argmin(jnp.where(positive, cosine, jnp.inf), axis=1)


def pair_weights(
    candidates: Candidates,
    worst: jax.Array,        # [B] int, from `worst_positive`
    uwp_factor: float,
) -> jax.Array:              # [B, J]
  """w_ij of the header."""
  chosen = jnp.arange(candidates.index.shape[1]) == worst[:, None]
  return candidates.weight * jnp.where(chosen, uwp_factor, 1.0)


def alignment(
    cosine: jax.Array,       # [B, J]
    candidates: Candidates,
    weights: jax.Array,      # [B, J]
    *,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    num_images: jax.Array,   # [groups] real images, at least 1
) -> jax.Array:              # [groups]
  """L_ILA from local cosines, L_KTA from key cosines."""
  nll = sigmoid_nll(cosine, candidates.sign, logit_scale, logit_bias)
  per_image = jnp.sum(nll * weights, axis=1)
  return per_image.reshape(len(num_images), -1).sum(1) / num_images


def separation(
    own: jax.Array,          # [B, J, K] cosine of pooled vector j, own item k
    candidates: Candidates,
    item_mask: jax.Array,    # [B, K] bool
    same_text: jax.Array | None = None,  # [B, K, K] bool, True = equal texts
    *,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    num_images: jax.Array,   # [groups] real images, at least 1
    norm: str = "BK",        # or "B", as the paper prints it
) -> jax.Array:              # [groups]
  """L_IIS; with `same_text`, pairs of different slots of equal text are cut."""
  B, K = item_mask.shape
  slot = candidates.index - jnp.arange(B)[:, None] * K           # [B, J]
  mine = (candidates.sign > 0) & candidates.weight
  diagonal = slot[..., None] == jnp.arange(K)                    # [B, J, K]
  real = mine[..., None] & item_mask[:, None]
  if same_text is not None:
    rows = jnp.clip(slot, 0, K - 1)[..., None]
    equal = jnp.take_along_axis(same_text, rows, axis=1)
    real &= diagonal | ~equal
  nll = sigmoid_nll(own, jnp.where(diagonal, 1, -1), logit_scale, logit_bias)
  per_image = jnp.sum(nll, axis=(1, 2), where=real)
  divisor = num_images * (K if norm == "BK" else 1)
  return per_image.reshape(len(num_images), -1).sum(1) / divisor


def itemized_terms(
    pairs: Pairs,
    candidates: Candidates,
    item_mask: jax.Array,    # [B, K] bool
    *,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    num_images: jax.Array,   # [groups] real images, at least 1
    uwp_factor: float = 1.5,
    iis_norm: str = "BK",
    same_text: jax.Array | None = None,
    worst: jax.Array | None = None,  # [B] int; None: `worst_positive`
) -> dict[str, jax.Array]:           # [groups] each
  """L_ILA, L_KTA (where pairs have key cosines) and L_IIS of every group."""
  if worst is None:
    worst = worst_positive(pairs.local, candidates)
  weights = pair_weights(candidates, worst, uwp_factor)
  scale = dict(logit_scale=logit_scale, logit_bias=logit_bias,
               num_images=num_images)
  terms = {
      "ila": alignment(pairs.local, candidates, weights, **scale),
      "iis": separation(pairs.own, candidates, item_mask, same_text,
                        norm=iis_norm, **scale),
  }
  if pairs.key is not None:
    terms["kta"] = alignment(pairs.key, candidates, weights, **scale)
  return terms
