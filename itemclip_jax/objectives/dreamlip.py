"""DreamLIP: several captions an image, and the tokens that each one matches.

    L = mean_ik CLIP_ik + grouping_weight L_grouping

where CLIP_ik contrasts image i and its k-th caption with the k-th captions of
the other images, and the second term is `losses.caption_grouping`. Both are
means over the real captions.

Two defects of the released loss are not here: it adds the captions k > 0 only
under another model's flag, and it reads caption-major features as image-major
ones, so that captions meet the tokens of other images.

Reference: Zheng et al. 2024, https://arxiv.org/abs/2403.17007.
"""

import dataclasses

import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.config.systems import Baselines
from itemclip_jax.losses.caption_grouping import grouping
from itemclip_jax.losses.softmax import symmetric_nll
from itemclip_jax.objectives import clip
from itemclip_jax.ops.item_pairs import unit


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Padding and studies without captions: see `clip`."""
  settings: Baselines = Baselines()

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    del dtype
    return cls(config.baselines)

  def total(self, terms):
    """The weighted sum of the terms."""
    return terms["captions"] + self.settings.grouping_weight * terms["grouping"]

  def terms(self, out, item_mask, params, batch, rng):
    """As in `clip`."""
    del params, batch, rng
    s = self.settings
    logits = out.logit_scale * jnp.einsum(
        "be,cke->kbc", unit(out.image), unit(out.items))
    nll = symmetric_nll(logits, item_mask.T)                       # [K, B]
    return {
        "captions": nll.sum() / clip.num_real(item_mask),
        "grouping": grouping(
            out.items, item_mask, out.tokens, out.token_mask,
            scale=s.grouping_scale or out.logit_scale, sigma=s.grouping_sigma,
            over=s.grouping_over)}
