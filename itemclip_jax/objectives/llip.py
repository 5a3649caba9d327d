"""Llip: a text mixes the image's learnt tokens into the vector it is given.

FLAIR's loss without its global term, where the tokens to be pooled are not the
patches but `vision.mixture_tokens` learnt ones. With one text an image each
list is the batch, and the loss is SigLIP's on the pooled vectors.

Reference: Lavoie et al. 2024, https://arxiv.org/abs/2405.00740.
"""

import dataclasses

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.objectives import flair


@dataclasses.dataclass(frozen=True)
class Objective(flair.Objective):
  """Padding and studies without texts: see `clip`."""

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    if not config.vision.mixture_tokens:
      raise UserError("objective='llip' pools learnt tokens, but vision."
                      "mixture_tokens=0; set it to their number, such as 64.")
    made = super().from_config(config, dtype)
    return dataclasses.replace(made, settings=dataclasses.replace(
        made.settings, flair_mps_weight=0.0))
