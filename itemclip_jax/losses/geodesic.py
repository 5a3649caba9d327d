"""Mixtures of unit vectors along the sphere, as negatives and as samples.

    mix(a, b) = (sin(l h) a + sin((1 - l) h) b) / sin h,   h = arccos(a . b)

lies on the shortest arc from b (l = 0) to a (l = 1). With V, T the unit vectors
of M pairs and s = 1 / tau:

    m2      m_j = mix(v_j, t_j) takes the place of every negative: CE over j of
            s v_i . m_j, and of s t_i . m_j, whose entry i is s v_i . t_i
    V-mix   x_i = mix(v_i, v_p(i)) belongs l to t_i and 1 - l to t_p(i)
    L-mix   the same with images and texts exchanged

p is a random partner. The public code of eCLIP has m2 only, and multiplies its
logits by tau = 0.01; here they are divided by the model's own tau, as those of
the loss that it is added to.

References: Oh et al. 2023, https://arxiv.org/abs/2203.03897 (m3-mix); Kumar and
Marttinen 2024, https://arxiv.org/abs/2403.10153 (m2 as its comparator).
"""

import jax
import jax.numpy as jnp

from itemclip_jax.losses.softmax import symmetric_nll
from itemclip_jax.ops.item_pairs import unit

# From here on a cosine counts as +-1: float32 resolves no smaller angle.
_FLAT = 1e-6


def geodesic_mix(
    a: jax.Array,    # [..., E] unit
    b: jax.Array,    # [..., E] unit
    lam: jax.Array,  # broadcasts to [...], share of a in 0 .. 1
) -> jax.Array:      # [..., E] unit
  """The mixture of the header, and its gradient, finite everywhere.

  Vectors that agree give themselves. Opposite ones have no shortest arc and
  give the one with the larger share.
  """
  cosine = jnp.sum(a * b, axis=-1, keepdims=True)
  lam = jnp.broadcast_to(lam, cosine.shape[:-1])[..., None]
  angle = jnp.arccos(jnp.clip(cosine, _FLAT - 1, 1 - _FLAT))
  mixed = jnp.sin(lam * angle) * a + jnp.sin((1 - lam) * angle) * b
  opposite = cosine <= _FLAT - 1
  # Divided by its own length instead of sin h: near +-1 the former is exact.
  return unit(jnp.where(opposite, jnp.where(lam >= 0.5, a, b), mixed))


def m2_loss(
    image: jax.Array,        # [M, E] unit
    text: jax.Array,         # [M, E] unit
    mask: jax.Array,         # [M] bool, False = padding
    lam: jax.Array,          # [] or [M]
    *,
    logit_scale: jax.Array,  # []
) -> jax.Array:              # []
  """m2 of the header: the mean over real pairs and both directions."""
  own = jnp.eye(len(mask), dtype=bool)
  positive = jnp.sum(image * text, axis=-1)[:, None]
  mixed = geodesic_mix(image, text, lam)

  def nll(anchor):
    logits = logit_scale * jnp.where(own, positive, anchor @ mixed.T)
    logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    return -jnp.diagonal(jax.nn.log_softmax(logits, axis=-1))

  return _mean((nll(image) + nll(text)) / 2, mask)


def uni_modal_loss(
    image: jax.Array,        # [M, E] unit
    text: jax.Array,         # [M, E] unit
    mask: jax.Array,         # [M] bool, False = padding
    partner: jax.Array,      # [M] int, from `partners`
    lam: jax.Array,          # []
    *,
    logit_scale: jax.Array,  # []
) -> jax.Array:              # []
  """V-mix plus L-mix, each like CLIP's loss but for the shared targets."""
  own = jnp.eye(len(mask))
  targets = lam * own + (1 - lam) * own[partner]
  mixed_image = geodesic_mix(image, image[partner], lam)
  mixed_text = geodesic_mix(text, text[partner], lam)
  by_image = symmetric_nll(logit_scale * mixed_image @ text.T, mask, targets)
  by_text = symmetric_nll(logit_scale * mixed_text @ image.T, mask, targets)
  return _mean(by_image + by_text, mask)


def partners(
    rng: jax.Array,
    mask: jax.Array,   # [M] bool, False = padding
) -> jax.Array:        # [M] int
  """Another real row for each real one, all on one random round.

  A real row that is alone, and padding, are their own partners.
  """
  M, real = len(mask), mask.sum()
  order = jnp.argsort(jnp.where(mask, jax.random.uniform(rng, (M,)), jnp.inf))
  place = jnp.arange(M)
  following = jnp.where(place < real, (place + 1) % jnp.maximum(real, 1), place)
  return jnp.zeros(M, int).at[order].set(order[following])


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Over the real ones of [M]; 0 without any."""
  return jnp.sum(values, where=mask) / jnp.maximum(mask.sum(), 1)
