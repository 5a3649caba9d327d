"""SigLIP: one text an image, a binary question for every pair of the batch.

    L = -1/B sum_ij log sigmoid(z_ij (s cos(v_i, t_j) + b)),   z_ii = 1, else -1

which is the multi-positive loss with one text an image.

Reference: Zhai et al. 2023, https://arxiv.org/abs/2303.15343.
"""

import dataclasses

from itemclip_jax.losses.multi_positive import multi_positive_sigmoid
from itemclip_jax.losses.negatives import no_negatives
from itemclip_jax.objectives import clip


@dataclasses.dataclass(frozen=True)
class Objective(clip.Objective):
  """Padding and studies without a text: see `clip`."""

  def terms(self, out, item_mask, params, batch, rng):
    """As in `clip`."""
    del params, batch, rng
    return {"siglip": sigmoid_contrast(out, out.image, slice(0, 1), item_mask)}


def sigmoid_contrast(out, image, slots: slice, item_mask, normal=None):
  """Mean over the real images; 0 without any.

  Args:
    out: `models.dual_encoder.Outputs`, zeros where it is padding.
    image: [B, E] not normalised.
    slots: those whose texts are contrasted.
    item_mask: [B, K] bool, False = padding.
    normal: [B] bool, studies that are no negatives of one another; None: none.

  Returns:
    [].
  """
  real = item_mask[:, slots].any(1)
  check = normal is not None
  excluded = no_negatives(normal if check else real, real, check)
  return multi_positive_sigmoid(
      image, out.items[:, slots], item_mask[:, slots], excluded,
      logit_scale=out.logit_scale, logit_bias=out.logit_bias,
      num_images=clip.num_real(real)[None])[0]
