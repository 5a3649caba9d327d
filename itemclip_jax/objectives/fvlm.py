"""fVLM: every organ is contrasted over the batch with its own description.

Pools one vector an organ from the tokens it covers (`models.organ_pool`), keeps
the organs that the crop left whole, and sums `losses.organ` over them. With
co-teaching two models take turns, and after a burn-in each learns from targets
that the other one has softened.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548.
"""

import dataclasses
import math

import jax.numpy as jnp

from itemclip_jax.config import schema, systems
from itemclip_jax.errors import UserError
from itemclip_jax.losses import organ
from itemclip_jax.objectives import clip


@dataclasses.dataclass(frozen=True)
class Objective:
  """Turns organ vectors and organ texts into a scalar loss and its parts."""
  REQUIRES = ("volume", "series_mask", "series_names", "organ_mask",
              "item_tokens", "item_mask", "organ_normal")
  settings: systems.Fvlm

  views = clip.Objective.views

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe.

    Raises:
      UserError: texts or queries are not those of organs.
    """
    del dtype
    if config.text.form != "organs" or not config.joint.organs:
      raise UserError(
          f"objective='fvlm' contrasts organs, got text.form="
          f"{config.text.form!r} and joint.organs={config.joint.organs}; set "
          "them to 'organs' and the number of organs of the data set.")
    return cls(config.fvlm)

  @property
  def models(self) -> int:
    """How many models take turns in training."""
    return 2 if self.settings.co_teaching == "on" else 1

  @property
  def log_scale_range(self) -> tuple[float, float]:
    """Where the logarithm of the scale may go: the temperature's range."""
    low, high = self.settings.temperature
    return -math.log(high), -math.log(low)

  def init_extra(self, make):
    """The second model where two teach each other; make(1) makes it."""
    return {"peer": make(1)} if self.models == 2 else {}

  def loss(self, outputs, params, batch, *, step, rng):
    """Returns the float32 scalar and its parts; nothing is drawn.

    A sum over organs of means over the real images of the batch. Where a batch
    has no "peer", as in validation, targets are hard.
    """
    del params, rng
    (out,), s = outputs, self.settings
    normal = batch["organ_normal"]
    if normal.shape != out.organs.shape[:2]:
      raise UserError(
          f"The data set describes {normal.shape[1]} organs, the model has "
          f"{out.organs.shape[1]} queries; set joint.organs to the former.")
    real = batch.get("example_mask", jnp.ones(len(normal), bool))
    present = out.organ_intact & batch["item_mask"] & real[:, None]
    logits = organ.organ_logits(out.organs, out.items, present,
                                out.logit_scale)
    same = organ.same_samples(
        normal, batch["item_tokens"], normal_pairs=s.normal_pairs,
        equal_texts=s.equal_texts)
    hard = organ.hard_targets(logits.pair, same)
    counted = organ.counted_organs(hard, logits.pair, normal, s.organs)
    terms = organ.organ_terms(
        logits, self._targets(hard, batch, present, step), counted)
    return self._total(terms, present, real, out)

  def _targets(self, hard, batch, present, step):
    """Of images and of texts: hard ones, or softened by the peer."""
    if "peer" not in batch:
      return hard, hard
    (peer,), s = batch["peer"], self.settings
    theirs = organ.organ_logits(peer.organs, peer.items, present,
                                peer.logit_scale)
    alpha = jnp.where(step < s.burn_in_steps, 1.0, s.alpha)
    return (organ.soften(hard, theirs.image, alpha),
            organ.soften(hard, theirs.text, alpha))

  def _total(self, terms, present, real, out):
    """Sums over organs, and what is worth watching."""
    parts = {"loss/image_to_text": terms.image_to_text.sum(),
             "loss/text_to_image": terms.text_to_image.sum()}
    total = sum(parts.values())
    intact = present.sum() / jnp.maximum(real.sum() * present.shape[1], 1)
    return total, parts | {
        "loss/total": total, "organs/counted": terms.counted.sum(),
        "organs/intact": intact, "logit_scale": out.logit_scale,
        "logit_bias": out.logit_bias}
