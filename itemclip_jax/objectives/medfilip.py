"""MedFILIP: labels with explanations, contrasted by how alike they are.

Every image meets all label texts of the batch; how far a label fits it is the
similarity to its own ones (`losses.soft_label`). One direction, from images to
labels. Text forms other than "triplets" do as well with hard targets: so image
and whole report are aligned, the first row of the paper's ablation.

Reference: Liang et al., IEEE JBHI 2025.
"""

import dataclasses

import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.losses import soft_label
from itemclip_jax.objectives import clip
from itemclip_jax.ops.item_pairs import unit

_TERMS = {"paper_fixed": soft_label.paper_terms, "code": soft_label.code_terms}


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Turns encoded features and a batch into a scalar loss and its parts."""
  settings: schema.Medfilip
  labels: bool              # whether the texts are labels of triplets

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe.

    Raises:
      UserError: texts without a similarity, but soft targets.
    """
    del dtype
    labels = config.text.form == "triplets"
    if config.medfilip.targets == "soft" and not labels:
      raise UserError(
          f"text.form={config.text.form!r}, but medfilip.targets='soft' knows "
          "the similarity of labels only; set text.form='triplets', or "
          "medfilip.targets='hard'.")
    return cls(config.medfilip, labels)

  @property
  def REQUIRES(self) -> tuple[str, ...]:  # pylint: disable=invalid-name
    """Batch keys that it reads."""
    return super().REQUIRES + self._similarity

  @property
  def _similarity(self) -> tuple[str, ...]:
    """What tells how alike two labels are."""
    s = self.settings
    if s.targets == "hard":
      return ("item_label",) if self.labels else ()
    return ("item_vector",) + (
        ("item_category",) if s.same_category_only == "yes" else ())

  def terms(self, out, item_mask, params, batch, rng):
    """The two parts of the loss; see `clip.Objective.terms`."""
    del params, rng
    cosine = jnp.einsum("be,cke->bck", unit(out.image), unit(out.items))
    cosine = cosine.reshape(len(cosine), -1)                # [B, M]
    known = [batch[key] for key in self._similarity]
    targets = (soft_label.hard_targets(item_mask, *known)
               if self.settings.targets == "hard"
               else soft_label.soft_targets(item_mask, *known))
    return _TERMS[self.settings.loss](cosine, targets, item_mask,
                                      out.logit_scale)
