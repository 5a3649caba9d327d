"""A small model, and a batch with every kind of padding."""

import jax
import numpy as np

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.ops.intensity import standardise
from tests import tiny

B, S, STEP = 8, 2, 3
NUM_ITEMS = (4, 1, 2, 0, 3, 4, 2, 4)    # study 3 has none
NUM_SERIES = (2, 1, 2, 2, 1, 2, 2, 1)
NORMAL = (0, 1, 0, 0, 1, 0, 0, 1)
NUM_EXAMPLES = 6                        # the last two rows are padding
NUM_PIECES = (16, 9, 5)                 # word pieces of an item, in turn


def batch(c: schema.Config) -> dict:
  """Standardised voxels; the padding holds zeros."""
  x = tiny.batch(c, size=B, num_series=S)
  K, T = c.text.max_items, c.text.max_tokens
  x["series_mask"] = np.arange(S) < np.array(NUM_SERIES)[:, None]
  x["item_mask"] = np.arange(K) < np.array(NUM_ITEMS)[:, None]
  x["normal"] = np.array(NORMAL, bool)
  x["example_mask"] = np.arange(B) < NUM_EXAMPLES
  pieces = np.resize(NUM_PIECES, (B, K, 1))
  x["item_tokens"] = np.where(
      x["item_mask"][..., None] & (np.arange(T) < pieces), x["item_tokens"], 0)
  x["series_names"] = np.where(
      x["series_mask"][..., None], x["series_names"], 0)
  volume = np.asarray(standardise(x["volume"], 0.0, 255.0))
  x["volume"] = np.where(
      x["series_mask"][..., None, None, None], volume, np.float32(0))
  return x


def params(c: schema.Config) -> dict:
  """Random: at the initial values norms, biases and CLS are trivial.

  Scale and bias are as at the start: by chance their gradients, sums over all
  pairs, could cancel to nothing but rounding.
  """
  shapes = jax.eval_shape(lambda: tiny.model(c).init(
      jax.random.key(0), tiny.init_example(c))["params"])
  rng = np.random.default_rng(2)
  made = jax.tree.map(
      lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes)
  return made | {"logit_scale": np.float32(c.loss.init_logit_scale),
                 "logit_bias": np.float32(-2.0)}


def loss_fn(c: schema.Config, *, train: bool):
  """Returns `f(params, batch, key) -> (loss, (outputs, metrics))`."""
  model, objective = tiny.model(c), objectives.make(c)

  def loss(params, x, key):
    (view,) = objective.views(x, step=STEP, rng=key)
    out = model.apply({"params": params}, view, train=train,
                      rngs={"dropout": key})
    total, metrics = objective.loss((out,), params, x, step=STEP,
                                    rng=key)
    return total, (out, metrics)
  return loss
