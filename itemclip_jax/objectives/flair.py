"""FLAIR: a text is compared with what it finds in the image.

    L = (1 - m) TCS + m MPS,   TCS = sum_ij l(z_ij, cos(v_i|t_j, t_j)) / n

v_i|t is image i pooled by text t, and j runs over the list of image i: its own
K texts and one random text of every other image. n is the length of a list,
K + B - 1 with B the real images, or B where ItemizedCLIP divides. MPS is the
multi-positive sigmoid loss of the whole image, m = 1/2. Padded slots count in K
and add nothing. With `loss.groups` the lists come from virtual ranks, as in
`losses.negatives`, and B counts those of a rank.

Reference: Xiao et al. 2025, https://arxiv.org/abs/2412.03561.
"""

import dataclasses
import functools

import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.config.systems import Baselines
from itemclip_jax.errors import UserError
from itemclip_jax.losses import negatives
from itemclip_jax.losses.itemized import alignment
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives import clip
from itemclip_jax.objectives.siglip import sigmoid_contrast
from itemclip_jax.ops import item_pairs


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Padding and studies without texts: see `clip`.

  Attributes:
    attention: pools the tokens of an image by a text.
    settings: divisor of TCS, weight of MPS (0: it is not computed).
    groups: virtual ranks.
    block: candidates at a time; 0 = all at once.
  """
  attention: ItemAttention
  settings: Baselines = Baselines()
  groups: int = 1
  block: int = 0

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    joint = config.joint
    if joint.pooling != "item_attention":
      raise UserError(
          f"joint.pooling={joint.pooling!r}, but objective={config.objective!r}"
          " learns how texts pool tokens; set it to 'item_attention'.")
    return cls(ItemAttention(joint.width, joint.num_heads, dtype=dtype),
               config.baselines, config.loss.groups, config.loss.block)

  def total(self, terms):
    """The weighted sum of the terms."""
    mps = self.settings.flair_mps_weight
    return (1 - mps) * terms["tcs"] + mps * terms.get("mps", 0.0)

  def terms(self, out, item_mask, params, batch, rng):
    """As in `clip`."""
    del batch
    offsets = negatives.draw_offsets(rng, item_mask.sum(1))
    index = negatives.lists(offsets, max_items=item_mask.shape[1],
                            groups=self.groups)
    return self.terms_of_lists(out, item_mask, params, index)

  def terms_of_lists(self, out, item_mask, params, index):
    """`terms` with the texts of every list given, [B, K + b - 1] int."""
    B, K = item_mask.shape
    real = item_mask.any(1)
    excluded = negatives.no_negatives(real, real, False)
    lists = negatives.exchange(index, item_mask, excluded, groups=self.groups)
    apply = functools.partial(
        self.attention.apply, {"params": params["item_attention"]})
    pairs = item_pairs.compare(
        apply(out.items.reshape(B * K, -1), method="project_items"),
        apply(out.tokens, out.token_mask, method="project_tokens"),
        lists.index, functools.partial(apply, method="output"), num_own=K,
        block=self.block)
    images = real.reshape(self.groups, -1).sum(1)
    more = K - 1 if self.settings.flair_divisor == "list" else 0
    by_group = alignment(
        pairs.local, lists, lists.weight, logit_scale=out.logit_scale,
        logit_bias=out.logit_bias, num_images=jnp.maximum(images + more, 1))
    terms = {"tcs": jnp.sum(by_group * images) / clip.num_real(real)}
    if self.settings.flair_mps_weight:
      terms["mps"] = sigmoid_contrast(out, out.image, slice(None), item_mask)
    return terms
