"""AdamW with the published decay rule, linear warm-up and cosine to zero.

    lr(s) = base (s + 1) / warmup                        s < warmup
          = base (1 + cos(pi (s - warmup) / (total - warmup))) / 2

Decay applies to arrays of two or more axes whose name holds none of "bn", "ln",
"bias", "logit_scale". The spatial position table never moves.

Reference: the public ItemizedCLIP and open_clip training code.
"""

import jax
import jax.numpy as jnp
import optax

from itemclip_jax.config import schema

_NO_DECAY = ("bn", "ln", "bias", "logit_scale")
MAX_LOG_SCALE = 4.605170185988092  # ln 100


def schedule(base: float, warmup_steps: int, total_steps: int):
  """Returns step -> learning rate."""
  def rate(step):
    step = 1.0 * step  # a division of int32 would be float32 even under x64
    warm = base * (step + 1) / max(warmup_steps, 1)
    share = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    cosine = base * 0.5 * (1 + jnp.cos(jnp.pi * share))
    return jnp.where(step < warmup_steps, warm, cosine)
  return rate


def label(path: str, ndim: int, text_frozen: bool = False) -> str:
  """Returns "decay", "no_decay" or "frozen" for one parameter."""
  if path.endswith("spatial_position"):
    return "frozen"
  if text_frozen and path.startswith("text_tower/") and "norm" not in path:
    return "frozen"
  undecayed = ndim < 2 or any(part in path for part in _NO_DECAY)
  return "no_decay" if undecayed else "decay"


def labels(params, text_frozen: bool = False):
  """`label` of every leaf."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: label(
          jax.tree_util.keystr(path, simple=True, separator="/"),
          x.ndim, text_frozen), params)


def make_optimizer(
    config: schema.Config, total_steps: int) -> optax.GradientTransformation:
  """The optimiser of a run."""
  o = config.optimizer
  rate = schedule(o.learning_rate, config.train.warmup_steps, total_steps)

  def adamw(decay: float):
    return optax.adamw(rate, b1=o.beta1, b2=o.beta2, eps=o.eps,
                       weight_decay=decay)

  return optax.partition(
      {"decay": adamw(o.weight_decay), "no_decay": adamw(0.0),
       "frozen": optax.set_to_zero()},
      lambda params: labels(params, config.text.frozen))


def clamp_scale(params: dict) -> dict:
  """Limits the logarithm of the scale to [0, ln 100], after every update."""
  return params | {
      "logit_scale": jnp.clip(params["logit_scale"], 0.0, MAX_LOG_SCALE)}
