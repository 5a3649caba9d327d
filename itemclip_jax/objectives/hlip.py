"""HLIP: the image of a whole study and its report, as CLIP or SigLIP.

With text.form="report_and_sentence" the contrast is dual: the first class token
answers to the report, the second to one random sentence, and the loss is the
mean of both contrasts. (The authors give no weights.) Texts of one sentence
alone are the form "sentence".

Normal studies can be flagged (`baselines.normal_pairs`): any two are then a
pair under softmax, in rows that are not divided by their sum, and are not
contrasted under sigmoid.

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862, and its code.
"""

import dataclasses

import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.config.systems import Baselines
from itemclip_jax.errors import UserError
from itemclip_jax.objectives import clip
from itemclip_jax.objectives.siglip import sigmoid_contrast


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Padding and studies without a report: see `clip`."""
  REQUIRES = (*clip.Objective.REQUIRES, "normal")
  settings: Baselines = Baselines()

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    del dtype
    dual = config.text.form == "report_and_sentence"
    if dual != (config.vision.class_tokens == 2):
      raise UserError(
          f"vision.class_tokens={config.vision.class_tokens}, but text.form="
          f"{config.text.form!r} wants {1 + dual}; set it so.")
    if not dual:
      clip.require_one_text(config)
    return cls(config.baselines)

  def total(self, terms):
    """The mean of the contrasts."""
    return sum(terms.values()) / len(terms)

  def terms(self, out, item_mask, params, batch, rng):
    """As in `clip`."""
    del params, rng
    terms = {"report": self._contrast(out, out.image, 0, item_mask, batch)}
    if out.second is not None:
      terms["sentence"] = self._contrast(out, out.second, 1, item_mask, batch)
    return terms

  def _contrast(self, out, image, slot: int, item_mask, batch):
    """An image vector [B, E] against the texts of one slot."""
    flag = None
    if self.settings.normal_pairs == "flagged":
      flag = jnp.asarray(batch["normal"])
    if self.settings.contrast == "sigmoid":
      return sigmoid_contrast(out, image, slice(slot, slot + 1), item_mask,
                              flag)
    targets = None
    if flag is not None:
      targets = jnp.eye(len(flag), dtype=bool) | (flag[:, None] & flag)
    return clip.softmax_contrast(image, out.items[:, slot],
                                 item_mask[:, slot], out.logit_scale, targets)
