"""Multi-positive SigLIP: all items of an image are its texts.

The global term of ItemizedCLIP on its own, with the same `loss.normal_check`.

Reference: the MPS term of FLAIR, Xiao et al. 2025,
https://arxiv.org/abs/2412.03561.
"""

import dataclasses

from itemclip_jax.config import schema
from itemclip_jax.objectives import clip
from itemclip_jax.objectives.siglip import sigmoid_contrast


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Padding and studies without items: see `clip`.

  Attributes:
    normal_check: two normal studies are no negatives of one another.
  """
  REQUIRES = (*clip.Objective.REQUIRES, "normal")
  normal_check: bool = False

  @classmethod
  def from_config(cls, config: schema.Config, dtype):
    """The objective that a run's settings describe."""
    del dtype
    return cls(config.loss.normal_check)

  def terms(self, out, item_mask, params, batch, rng):
    """As in `clip`."""
    del params, rng
    normal = batch["normal"] if self.normal_check else None
    return {"mps": sigmoid_contrast(out, out.image, slice(None), item_mask,
                                    normal)}
