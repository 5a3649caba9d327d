"""DACL: each text meets two mixtures of its image with other images.

    x_i = lambda I_i + (1 - lambda) I_p(i)

twice over, with a lambda of the batch and random partners p of its own each
time. Both kinds of mixture, 2 B pairs in all, are contrasted with the texts at
once, so that a text competes with its own copy (eclip.duplicate_text). With
lambda ~ Beta(a, a), as eCLIP compares itself, the other image dominates every
second mixture; U(a, 1), as DACL's authors have it, prevents that.

References: Verma et al. 2021, https://arxiv.org/abs/2011.04419; Kumar and
Marttinen 2024, https://arxiv.org/abs/2403.10153.
"""

import dataclasses

import jax
import jax.numpy as jnp

from itemclip_jax.config import schema, systems
from itemclip_jax.errors import UserError
from itemclip_jax.losses.geodesic import partners
from itemclip_jax.models import heatmap
from itemclip_jax.objectives import clip
from itemclip_jax.objectives.eclip import contrast


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """CLIP on mixed images."""
  settings: systems.Eclip

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe.

    Raises:
      UserError: studies have several texts or several series.
    """
    del dtype
    clip.require_one_text(config)
    if config.data.max_series != 1:
      raise UserError(f"data.max_series={config.data.max_series}, but "
                      "objective='dacl' mixes one series of a study with one "
                      "of another; set it to 1.")
    return cls(config.eclip)

  def views(self, batch, *, step, rng):
    """The batch twice, its images mixed differently."""
    (batch,) = super().views(batch, step=step, rng=rng)
    volume = batch["volume"]
    real = batch.get("example_mask", jnp.ones(len(volume), bool))
    keys = jax.random.split(jax.random.fold_in(rng, step))
    return tuple(batch | {"volume": self._mixed(volume, real, key)}
                 for key in keys)

  def _mixed(self, volume, real, key):
    s, (share, order) = self.settings, jax.random.split(key)
    if s.dacl_lambda == "beta":
      lam = jax.random.beta(share, s.dacl_alpha, s.dacl_alpha)
    else:
      lam = jax.random.uniform(share, minval=s.dacl_alpha)
    return heatmap.mix(volume, volume[partners(order, real)],
                       jnp.full(len(volume), lam))

  def loss(self, outputs, params, batch, *, step, rng):
    """Returns the float32 scalar and its parts."""
    real = clip.real_items(batch)
    outs = [clip.without_padding(out, real) for out in outputs]
    twice = lambda x: jnp.concatenate([x, x])
    masked = self.settings.duplicate_text == "masked"
    total = contrast(
        jnp.concatenate([out.image for out in outs]),
        jnp.concatenate([out.items[:, 0] for out in outs]),
        twice(real[:, 0]), outs[0].logit_scale,
        twice(batch["item_tokens"][:, 0]) if masked else None)
    return total, {"loss/clip": total, "loss/total": total,
                   "logit_scale": outs[0].logit_scale,
                   "logit_bias": outs[0].logit_bias}
