"""MedFILIP: images against all labels of the batch, with soft targets.

    R_tj = <e_t, e_j>                 of the M label texts, e unit vectors
    s_ij = max_t max(R_tj, 0)         over the labels t of image i

so own labels have s = 1. Restricted to the same category (as the public code),
R_tj = 0 where the categories of t and j differ. With hard targets R_tj = 1
where the labels are equal, else 0; where texts are no labels, where t = j.

With y_ij the cosine of image i and label j, x = scale y, n images, M labels:

    paper_fixed   1/(nM) sum_ij (y - s)^2
                  - 1/n sum_ij (s_ij / sum_j s_ij) log softmax_j(x)_ij
    code          1/(nM) sum_ij (x - s)^2 + 1/(nM) sum_ij BCE(x, s)

with BCE(x, s) = log(1 + exp x) - s x. The paper prints the cross-entropy with
its arguments swapped, -1/n sum y log s, which is neither bounded nor defined
where s = 0; here it is the one that its text describes, s made a distribution.

n and M count what is real: padded labels and images without any have no value,
no gradient and no place in a divisor. M varies from batch to batch, the shapes
do not.

Reference: Liang et al., IEEE JBHI 2025, equations 4, 5 and 9, and public code.
"""

import jax
import jax.numpy as jnp

from itemclip_jax.ops.attention import wide


def soft_targets(
    mask: jax.Array,                    # [B, K] bool, False = padding
    vectors: jax.Array,                 # [B, K, V] unit norm
    category: jax.Array | None = None,  # [B, K] int; None: across categories
) -> jax.Array:                         # [B, M] in [0, 1], M = B K
  """s of the header; 0 for padding and for images without labels."""
  B, K, V = vectors.shape
  vectors = wide(vectors).reshape(B * K, V)
  alike = jnp.einsum("tv,jv->tj", vectors, vectors)
  if category is not None:
    alike = jnp.where(_equal(category), alike, 0)
  return _most(jnp.clip(alike, 0, 1), mask)


def hard_targets(
    mask: jax.Array,                    # [B, K] bool, False = padding
    label: jax.Array | None = None,     # [B, K] int, equal = same label text
) -> jax.Array:                         # [B, M] 0 or 1, M = B K
  """The same of labels that are equal or not; None: each is its own."""
  alike = jnp.eye(mask.size) if label is None else _equal(label)
  return _most(alike.astype(jnp.float32), mask)


def _equal(x: jax.Array) -> jax.Array:
  """[B, K] -> [M, M] bool."""
  flat = x.reshape(-1)
  return flat[:, None] == flat


def _most(alike: jax.Array, mask: jax.Array) -> jax.Array:
  """Maximum of [M, M], at least 0, over the real labels of each image."""
  B, K = mask.shape
  real = mask.reshape(-1)
  # Also hides what padding holds, a NaN perhaps; nothing here has a gradient.
  alike = jnp.where(real[:, None] & real, alike, 0)
  return alike.reshape(B, K, B * K).max(1)


def paper_terms(
    cosine: jax.Array,       # [B, M]
    targets: jax.Array,      # [B, M] s
    mask: jax.Array,         # [B, K] bool, False = padding
    logit_scale: jax.Array,  # []
) -> dict[str, jax.Array]:   # [] each
  """The two parts of "paper_fixed"."""
  image, real = _real(mask)
  images = jnp.maximum(image.sum(), 1)
  logits = logit_scale * wide(cosine)
  # Finite, so that a row of padding has no NaN in its gradient.
  logits = jnp.where(real, logits, jnp.finfo(logits.dtype).min)
  # Own labels have s = 1, so the sum is 1 at least where it is used.
  share = targets / jnp.maximum(targets.sum(1, keepdims=True), 1)
  nll = -share * jax.nn.log_softmax(logits, axis=1)
  return {"mse": _mean((wide(cosine) - targets) ** 2, real),
          "ce": jnp.sum(nll, where=real) / images}


def code_terms(
    cosine: jax.Array,       # [B, M]
    targets: jax.Array,      # [B, M] s
    mask: jax.Array,         # [B, K] bool, False = padding
    logit_scale: jax.Array,  # []
) -> dict[str, jax.Array]:   # [] each
  """The two parts of "code"."""
  _, real = _real(mask)
  logits = logit_scale * wide(cosine)
  bce = jax.nn.softplus(logits) - targets * logits
  return {"mse": _mean((logits - targets) ** 2, real),
          "bce": _mean(bce, real)}


def _real(mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B] images with labels, and [B, M] their pairs with real labels."""
  image = mask.any(1)
  return image, image[:, None] & mask.reshape(-1)


def _mean(x: jax.Array, real: jax.Array) -> jax.Array:
  return jnp.sum(x, where=real) / jnp.maximum(real.sum(), 1)
