"""A batch with expert rows, and a model that compiles in no time."""

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.models import heatmap
from itemclip_jax.models.dual_encoder import Outputs

B, X, T, E, SIDE, STEPS = 5, 3, 4, 6, 8, 1000  # X expert rows come last
KEY = jax.random.key(3)
PROCESSOR = heatmap.HeatmapProcessor((3, 4, 4), 8, 2)
WARM = 250


def batch(seed=0):
  """Row 4 is padding; row 6 shows an expert a part that nobody looked at."""
  rng = np.random.default_rng(seed)
  rows = B + X
  looked = rng.integers(1, 200, (rows, SIDE, SIDE)).astype(np.uint8)
  looked[:B] = looked[6] = 0
  return {
      "volume": rng.normal(size=(rows, 1, 3, SIDE, SIDE)).astype(np.float32),
      "item_tokens": rng.integers(1, 50, (rows, 1, T)).astype(np.int32),
      "item_mask": np.ones((rows, 1), bool),
      "example_mask": np.arange(rows) != 4,
      "expert": np.arange(rows) >= B, "heatmap": looked}


def params():
  rng = np.random.default_rng(1)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  made = jax.eval_shape(
      PROCESSOR.init, jax.random.key(0), jnp.zeros((1, 1, 3, SIDE, SIDE)),
      jnp.zeros((1, SIDE, SIDE)))["params"]
  return {"image": normal(3 * SIDE * SIDE, E) / 8, "words": normal(50, E),
          "scale": np.float32(2.0),
          "heatmap": jax.tree.map(lambda x: normal(*x.shape) / 4, made)}


def encode(p, view):
  """A model with nothing but the processor and one matrix for each side."""
  volume, made = view["volume"], None
  if "mix" in view:
    made = PROCESSOR.apply({"params": p["heatmap"]}, volume, view["heatmap"])
    volume = heatmap.mix(volume, made, view["mix"])
  rows = len(volume)
  return Outputs(
      image=volume.reshape(rows, -1) @ p["image"],
      items=p["words"][view["item_tokens"]].sum(2),
      tokens=jnp.zeros((rows, 1, E)), token_mask=jnp.ones((rows, 1), bool),
      logit_scale=jnp.exp(p["scale"]), logit_bias=jnp.zeros(()),
      reconstruction=made)


def run(objective, x, p=None, step=WARM, rng=KEY):
  p = params() if p is None else p
  views = objective.views(x, step=step, rng=rng)
  return objective.loss(tuple(encode(p, v) for v in views), p, x, step=step,
                        rng=rng)


def clip_by_hand(image, text, scale, competes=None):
  """Mean over rows and columns of the cross-entropy; unit vectors."""
  unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  logits = scale * unit(np.float64(image)) @ unit(np.float64(text)).T
  if competes is not None:
    logits = np.where(competes, logits, -np.inf)
  own = np.diagonal(logits)
  return (np.log(np.exp(logits).sum(0)) + np.log(np.exp(logits).sum(1))
          - 2 * own).mean() / 2
