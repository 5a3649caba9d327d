"""Organ-wise contrast: per organ, its images against its texts.

For organ r let S be the samples in which it is intact, n = |S|, and for i, k
in S

    y_ik  proportional to [i = k, or both normal, or texts equal],  sum_k = 1
    p_ik  = softmax_k(cos(v_i, t_k) / tau)
    q_ik  = softmax_k(cos(t_i, v_k) / tau)
    L_r   = 1/2n sum_i [H(y_i, p_i) + H(y_i, q_i)],   L = sum_r L_r

In co-teaching, what another model finds for the same batch softens the targets:
y <- alpha y + (1 - alpha) p' against p, and likewise with q' against q.

All sums run over the global batch, with the gradient of both sides everywhere.
(The published code gathers features over W devices but lets each device's own
rows alone carry a gradient: its gradient is, but for a factor, the same.)
S changes from batch to batch, and here it is a mask.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548, equations 1 to 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from itemclip_jax.ops.item_pairs import unit

_HIDDEN = -1e30  # finite, so that 0 times it is 0


class Logits(NamedTuple):
  """Similarities of every organ; entries outside of S are hidden."""
  image: jax.Array     # [R, B, B] row i: image i against all texts
  text: jax.Array      # [R, B, B] row i: text i against all images
  pair: jax.Array      # [R, B, B] bool, both in S


class OrganTerms(NamedTuple):
  """The two halves of L_r, 0 where the organ does not count."""
  image_to_text: jax.Array   # [R]
  text_to_image: jax.Array   # [R]
  counted: jax.Array         # [R] bool


def organ_logits(
    image: jax.Array,        # [B, R, E] not normalised
    text: jax.Array,         # [B, R, E] not normalised
    present: jax.Array,      # [B, R] bool, S
    logit_scale: jax.Array,  # [] 1 / tau
) -> Logits:
  """cos / tau of all pairs; what is not in S touches no number."""
  zero = jnp.zeros((), image.dtype)
  image, text = (unit(jnp.where(present[..., None], x, zero))
                 for x in (image, text))
  logits = logit_scale * jnp.einsum("bre,cre->rbc", image, text)
  here = present.T
  pair = here[:, :, None] & here[:, None]
  hide = lambda x: jnp.where(pair, x, _HIDDEN)
  return Logits(hide(logits), hide(logits.swapaxes(1, 2)), pair)


def hard_targets(
    pair: jax.Array,         # [R, B, B] bool, both in S
    same: jax.Array,         # [R, B, B] bool, pairs that are positive as well
) -> jax.Array:              # [R, B, B], rows of S sum to 1, the others to 0
  """y of the header."""
  own = jnp.eye(pair.shape[-1], dtype=bool)
  positive = pair & (own | same)
  count = positive.sum(-1, keepdims=True)
  return positive / jnp.maximum(count, 1)


def same_samples(
    normal: jax.Array,       # [B, R] bool
    texts: jax.Array,        # [B, R, T] word pieces
    *,
    normal_pairs: str,       # "same": both normal for the organ; "different"
    equal_texts: str,        # "same": equal word pieces; "different"
) -> jax.Array:              # [R, B, B] bool
  """Which pairs of samples say the same of an organ."""
  B, R = normal.shape
  same = jnp.zeros((R, B, B), bool)
  if normal_pairs == "same":
    same |= normal.T[:, :, None] & normal.T[:, None]
  if equal_texts == "same":
    ids = texts.swapaxes(0, 1)
    same |= jnp.all(ids[:, :, None] == ids[:, None], axis=-1)
  return same


def counted_organs(
    targets: jax.Array,      # [R, B, B] from `hard_targets`
    pair: jax.Array,         # [R, B, B] bool
    normal: jax.Array,       # [B, R] bool
    organs: str,             # "abnormal" or "all"
) -> jax.Array:              # [R] bool
  """Which organs enter the sum.

  "abnormal", as the published code: at least one sample of S is abnormal, and
  some pair of S is a negative one, hence n > 1. "all", as the paper's equation
  2: every organ with a sample; where all pairs are positive, as in a batch of
  normal ones, that pulls all similarities together, and n = 1 gives 0.
  """
  here = jnp.diagonal(pair, axis1=1, axis2=2)
  if organs == "all":
    return here.any(1)
  negative = jnp.any(pair & (targets == 0), axis=(1, 2))
  return negative & jnp.any(here & ~normal.T, axis=1)


def soften(
    targets: jax.Array,      # [R, B, B]
    logits: jax.Array,       # [R, B, B] of the other model, one direction
    alpha: jax.Array,        # [] share of the targets that stays
) -> jax.Array:              # [R, B, B]
  """alpha y + (1 - alpha) p', without gradient to the other model."""
  found = jax.nn.softmax(jax.lax.stop_gradient(logits))
  return alpha * targets + (1 - alpha) * found


def organ_terms(
    logits: Logits,
    targets: tuple[jax.Array, jax.Array],  # [R, B, B] of images, of texts
    counted: jax.Array,                    # [R] bool
) -> OrganTerms:
  """Half the mean cross-entropy over S, per organ and direction."""
  here = jnp.diagonal(logits.pair, axis1=1, axis2=2)
  divisor = 2 * jnp.maximum(here.sum(1), 1)

  def half(x, y):
    entropy = -jnp.sum(y * jax.nn.log_softmax(x), axis=-1, where=logits.pair)
    return jnp.where(counted, jnp.sum(entropy, axis=1) / divisor, 0.0)

  return OrganTerms(half(logits.image, targets[0]),
                    half(logits.text, targets[1]), counted)
