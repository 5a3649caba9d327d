"""CLIP: one text an image, softmax over the batch in both directions.

What the objectives of related systems share stands here too, and they build on
it: padding is taken out of the features, and a study without any real text is
no pair. Its weight is 0, as image and as text, in every term and divisor, as if
it were not in the batch.

Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
"""

import dataclasses

import jax
import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.losses.softmax import symmetric_nll
from itemclip_jax.models.layers import exact_zero_where
from itemclip_jax.ops.item_pairs import unit


@dataclasses.dataclass(frozen=True)
class Objective:
  """Turns encoded features and a batch into a scalar loss and its parts."""
  REQUIRES = ("volume", "series_mask", "series_names", "item_tokens",
              "item_mask")

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    del dtype
    require_one_text(config)
    return cls()

  def views(self, batch, *, step, rng):
    """What the towers encode: the batch, once; padded examples are empty."""
    del step, rng
    if "example_mask" not in batch:
      return (batch,)
    real = batch["example_mask"][:, None, None, None, None]
    return (batch | {"volume": exact_zero_where(real, batch["volume"])},)

  def init_extra(self, make):
    """No state beyond the model."""
    del make
    return {}

  def loss(self, outputs, params, batch, *, step, rng):
    """Returns the float32 scalar and its parts; draws from `rng` and `step`."""
    (out,) = outputs
    real = real_items(batch)
    terms = self.terms(without_padding(out, real), real, params, batch,
                       jax.random.fold_in(rng, step))
    total = self.total(terms)
    metrics = {f"loss/{name}": value for name, value in terms.items()}
    return total, metrics | {
        "loss/total": total, "logit_scale": out.logit_scale,
        "logit_bias": out.logit_bias}

  def total(self, terms: dict[str, jax.Array]) -> jax.Array:
    """The weighted sum of the terms."""
    return sum(terms.values())

  def terms(self, out, item_mask, params, batch, rng) -> dict[str, jax.Array]:
    """The terms of the loss, [] each.

    Args:
      out: `models.dual_encoder.Outputs`, zeros where it is padding.
      item_mask: [B, K] bool, False = padding, all of it for padded examples.
      params: the model's parameters.
      batch: the batch.
      rng: key of this step.
    """
    del params, batch, rng
    return {"clip": softmax_contrast(out.image, out.items[:, 0],
                                     item_mask[:, 0], out.logit_scale)}


def softmax_contrast(
    image: jax.Array,        # [B, E] not normalised
    text: jax.Array,         # [B, E] not normalised
    mask: jax.Array,         # [B] bool, False = padding
    logit_scale: jax.Array,  # []
    targets: jax.Array | None = None,  # [B, B]; None: identity
) -> jax.Array:              # []
  """Mean symmetric cross-entropy of the real pairs; 0 without any."""
  logits = logit_scale * jnp.einsum("be,ce->bc", unit(image), unit(text))
  nll = symmetric_nll(logits, mask, targets)
  return nll.sum() / num_real(mask)


def real_items(batch: dict) -> jax.Array:
  """[B, K] bool, False for padded slots and for padded examples."""
  real = jnp.asarray(batch["item_mask"])
  if "example_mask" not in batch:
    return real
  return real & batch["example_mask"][:, None]


def num_real(mask: jax.Array) -> jax.Array:
  """Number of True, at least 1: a divisor."""
  return jnp.maximum(mask.sum(), 1)


def without_padding(out, item_mask: jax.Array):
  """Zeros for all that is padding: weight 0 alone would let a NaN through.

  Args:
    out: `models.dual_encoder.Outputs`.
    item_mask: [B, K] bool, False = padding.
  """
  image = item_mask.any(1)[:, None]
  token_mask = out.token_mask & image
  second = out.second
  if second is not None:
    second = exact_zero_where(image, second)
  return out.replace(
      image=exact_zero_where(image, out.image), second=second,
      items=exact_zero_where(item_mask[..., None], out.items),
      tokens=exact_zero_where(token_mask[..., None], out.tokens),
      token_mask=token_mask)


def require_one_text(config: schema.Config):
  """Raises unless every study has one text."""
  if config.text.form not in ("report", "sentence"):
    raise UserError(
        f"text.form={config.text.form!r} may make several texts a study, but "
        f"objective={config.objective!r} contrasts one; set text.form to "
        "'report' or 'sentence' and text.max_items=1.")
