"""CLIP and its relatives on random features in place of towers."""

import functools

import jax
import numpy as np

from itemclip_jax.config.systems import Baselines
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives import (
    clip, dreamlip, flair, hlip, llip, multi_positive, siglip)
from tests.losses import inputs

B, K, N, E, A = 8, 2, 5, inputs.E, inputs.A
CLOSE = dict(rtol=2e-5, atol=1e-6)  # float32, sums in another order
KEY = jax.random.key(3)
ATTENTION = ItemAttention(E, A)
PARAMS = {"item_attention": jax.tree.map(np.float32, inputs.params())}

# Slots used, objective. Of two slots the second is a sentence.
CASES = {
    "clip": (1, clip.Objective()),
    "siglip": (1, siglip.Objective()),
    "multi_positive": (K, multi_positive.Objective(True)),
    "dreamlip": (K, dreamlip.Objective()),
    "dreamlip of the batch": (K, dreamlip.Objective(
        Baselines(grouping_over="batch", grouping_scale=3.0,
                  grouping_sigma=-1.0))),
    "flair": (K, flair.Objective(ATTENTION)),
    "flair per image, in blocks": (K, flair.Objective(
        ATTENTION, Baselines(flair_divisor="images"), block=2)),
    "llip": (1, llip.Objective(ATTENTION, Baselines(flair_mps_weight=0.0))),
    "hlip": (K, hlip.Objective(Baselines(normal_pairs="flagged"))),
    "hlip sigmoid": (K, hlip.Objective(
        Baselines(normal_pairs="flagged", contrast="sigmoid"))),
}


def features(slots=K, bias=-1.0) -> Outputs:
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return Outputs(
      image=normal(B, E), tokens=normal(B, N, E), items=normal(B, slots, E),
      second=normal(B, E) if slots > 1 else None,
      token_mask=np.arange(N) < np.array([5, 3, 5, 4, 1, 5, 5, 2])[:, None],
      logit_scale=np.float32(5.0), logit_bias=np.float32(bias))


def batch(slots=K, num_items=None, real=(True,) * B) -> dict:
  n = np.full(B, slots) if num_items is None else np.array(num_items)
  return {"item_mask": np.arange(slots) < n[:, None],
          "normal": np.array([1, 0, 1, 0, 0, 1, 0, 1], bool),
          "example_mask": np.array(real)}


@functools.cache
def loss(objective):
  """Returns a compiled f(outputs, batch) -> (metrics, gradients)."""
  def total(params, floats, token_mask, x):
    out = floats.replace(token_mask=token_mask)
    return objective.loss((out,), params, x, step=0, rng=KEY)
  grad = jax.jit(jax.grad(total, (0, 1), has_aux=True))

  def run(out, x, params=PARAMS):
    grads, metrics = grad(params, out.replace(token_mask=None),
                          out.token_mask, x)
    return jax.device_get((metrics, grads))
  return run


def value(objective, out, x) -> dict:
  return loss(objective)(out, x)[0]


def taken(tree, rows):
  """Some examples of outputs or a batch."""
  return jax.tree.map(lambda v: v[rows] if np.ndim(v) else v, tree)
