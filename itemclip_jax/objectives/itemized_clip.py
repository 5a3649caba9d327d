"""ItemizedCLIP: every finding of a report is aligned with its own tokens.

Draws what is random (negatives, token masking), compares images with items
once, and adds the four terms of `losses.itemized` and `losses.multi_positive`.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141.
"""

import dataclasses

import jax
import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.losses import itemized, negatives
from itemclip_jax.losses.multi_positive import multi_positive_sigmoid
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.models.layers import exact_zero_where
from itemclip_jax.objectives import clip
from itemclip_jax.ops import item_pairs


@dataclasses.dataclass(frozen=True)
class Objective:
  """Turns encoded features and a batch into a scalar loss and its parts."""
  REQUIRES = ("volume", "series_mask", "series_names", "item_tokens",
              "item_mask", "normal")
  settings: schema.Loss
  attention: ItemAttention

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    joint = config.joint
    return cls(config.loss, ItemAttention(joint.width, joint.num_heads,
                                          dtype=dtype))

  views = clip.Objective.views
  init_extra = clip.Objective.init_extra

  def loss(self, outputs, params, batch, *, step, rng):
    """Returns the float32 scalar and its parts; draws from `rng` and `step`.

    The mean over the real images of the batch: with the same draws, padded
    examples change nothing.
    """
    (out,) = outputs
    B, K = batch["item_mask"].shape
    draw, drop = jax.random.split(jax.random.fold_in(rng, step))
    offsets = negatives.draw_offsets(draw, batch["item_mask"].sum(1))
    index = negatives.lists(offsets, max_items=K, groups=self.settings.groups)
    keep = None
    if self.settings.token_drop_rate:
      keep = negatives.keep_function(
          drop, self.settings.token_drop_rate,
          num_heads=self.attention.num_heads, num_tokens=out.tokens.shape[1])
    same = None
    if self.settings.iis_ignore_overlap:
      ids = batch["item_tokens"]
      same = jnp.all(ids[:, :, None] == ids[:, None], axis=-1)
    real = batch.get("example_mask", jnp.ones(B, bool))
    terms, metrics = self.terms(
        out, params, batch["item_mask"], batch["normal"], index, keep,
        example_mask=real, same_text=same)
    share = self._num_images(real) / jnp.maximum(real.sum(), 1)
    terms = {k: jnp.sum(v * share) for k, v in terms.items()}
    total = self.total(terms)
    metrics |= {f"loss/{k}": v for k, v in terms.items()}
    metrics |= {"loss/total": total, "logit_scale": out.logit_scale,
                "logit_bias": out.logit_bias}
    return total, metrics

  def total(self, terms: dict[str, jax.Array]) -> jax.Array:
    """The weighted sum; a term that was not computed counts nothing."""
    s = self.settings
    weights = {"ila": s.ila_weight, "kta": s.kta_weight, "iis": s.iis_weight,
               "mps": s.mps_weight}
    return sum(weights[name] * value for name, value in terms.items())

  def terms(self, out, params, item_mask, normal, index, keep, *,
            example_mask=None, same_text=None, worst=None):
    """The four terms with injected draws, each a mean over real images.

    Args:
      out: `models.dual_encoder.Outputs`.
      params: the model's parameters; "item_attention" is read.
      item_mask: [B, K] bool, False = padding.
      normal: [B] bool, the report says that nothing is abnormal.
      index: [B, K + b - 1] int, each image's own list of items.
      keep: token-masking bits of `ops.item_pairs.compare`, or None.
      example_mask: [B] bool, False = padding; None: all are real.
      same_text: [B, K, K] bool, slots that hold the same text, or None.
      worst: [B] int columns to up-weight instead of the worst positives.

    Returns:
      The terms ("ila", "kta", "iis", "mps"), [groups] each, 0 for a group
      without real images; and metrics.
    """
    s = self.settings
    real = jnp.ones(len(item_mask), bool) if example_mask is None else (
        jnp.asarray(example_mask))
    item_mask = jnp.asarray(item_mask) & real[:, None]
    out = _without_padding(out, item_mask, real)
    excluded = negatives.no_negatives(jnp.asarray(normal), real,
                                      s.normal_check)
    candidates = negatives.exchange(jnp.asarray(index), item_mask, excluded,
                                    groups=s.groups)
    pairs = self._compare(out, params, candidates.index, keep)
    scale = dict(logit_scale=out.logit_scale, logit_bias=out.logit_bias,
                 num_images=jnp.maximum(self._num_images(real), 1))
    terms = itemized.itemized_terms(
        pairs, candidates, item_mask, uwp_factor=s.uwp_factor,
        iis_norm=s.iis_norm, same_text=same_text, worst=worst, **scale)
    terms["mps"] = multi_positive_sigmoid(
        out.image, out.items, item_mask, excluded, **scale)
    logits = out.logit_scale * pairs.local + out.logit_bias
    metrics = {"logit/positive": _mean(logits, candidates, 1),
               "logit/negative": _mean(logits, candidates, -1)}
    return terms, metrics

  def _num_images(self, example_mask):
    """Real images of every group: [B] bool -> [groups] int."""
    return example_mask.reshape(self.settings.groups, -1).sum(1)

  def _compare(self, out, params, index, keep):
    """Every image with its candidates [B, J]."""
    s = self.settings
    B, K, E = out.items.shape
    return item_pairs.compare_images(
        self.attention.layer(index.shape[1]), params["item_attention"],
        out.items.reshape(B * K, E), out.tokens, out.token_mask, index,
        num_own=K, kta_rate=s.kta_rate if s.kta_weight else None, keep=keep,
        block=s.block)


def _without_padding(out, item_mask, example_mask):
  """Zeros for all that is padding: weight 0 alone would let a NaN through."""
  token_mask = out.token_mask & example_mask[:, None]
  return out.replace(
      image=exact_zero_where(example_mask[:, None], out.image),
      items=exact_zero_where(item_mask[..., None], out.items),
      tokens=exact_zero_where(token_mask[..., None], out.tokens))


def _mean(logits, candidates, sign):
  """Mean ILA logit of the real pairs of one sign; 0 where there is none."""
  chosen = (candidates.sign == sign) & candidates.weight
  return jnp.sum(logits, where=chosen) / jnp.maximum(chosen.sum(), 1)
