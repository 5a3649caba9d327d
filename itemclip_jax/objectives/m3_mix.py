"""m3-mix: CLIP fine-tuned with mixtures on the sphere; see `losses.geodesic`.

    L = L_CLIP + m2_weight L_m2 + uni_weight (L_V + L_L)

It starts from a trained CLIP (train.start_from).

References: Oh et al. 2023, https://arxiv.org/abs/2203.03897; Kumar and
Marttinen 2024, https://arxiv.org/abs/2403.10153.
"""

import dataclasses

import jax

from itemclip_jax.config import schema, systems
from itemclip_jax.losses import geodesic
from itemclip_jax.objectives import clip
from itemclip_jax.ops.item_pairs import unit


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """CLIP and mixtures; each kind draws one lambda a batch."""
  settings: systems.Eclip

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    del dtype
    clip.require_one_text(config)
    return cls(config.eclip)

  def terms(self, out, item_mask, params, batch, rng):
    """L_CLIP, L_m2 and, where it has a weight, L_V + L_L; [] each."""
    s, mask = self.settings, item_mask[:, 0]
    terms = super().terms(out, item_mask, params, batch, rng)
    image, text = unit(out.image), unit(out.items[:, 0])
    m2, uni, order = jax.random.split(rng, 3)
    scale = {"logit_scale": out.logit_scale}
    terms["m2"] = geodesic.m2_loss(
        image, text, mask, jax.random.beta(m2, s.m2_alpha, s.m2_alpha), **scale)
    if s.uni_weight:
      lam = jax.random.beta(uni, s.uni_alpha, s.uni_alpha)
      terms["uni"] = geodesic.uni_modal_loss(
          image, text, mask, geodesic.partners(order, mask), lam, **scale)
    return terms

  def total(self, terms):
    """The weighted sum of the terms."""
    weights = {"clip": 1.0, "m2": self.settings.m2_weight,
               "uni": self.settings.uni_weight}
    return sum(weights[name] * value for name, value in terms.items())
