"""AdamW or SGD, the published decay rule, linear warm-up, falling cosine.

    lr(s) = base (s + 1) / warmup                            s < warmup
          = least + (base - least) (1 + cos(pi c)) / 2
            c = (s - warmup) / (total - warmup)              one cycle
              = n (s - warmup) / (total - warmup) mod 1      n cycles

SGD has no momentum and adds weight_decay times the parameter to its gradient;
AdamW subtracts it from the parameter.

Decay applies to arrays of two or more axes whose name holds none of "bn", "ln",
"bias", "logit_scale". The spatial position table never moves.

References: the public ItemizedCLIP and open_clip training code; restarts:
Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, and with SGD the
public code of MedFILIP.
"""

import jax
import jax.numpy as jnp
import optax

from itemclip_jax.config import schema

_NO_DECAY = ("bn", "ln", "bias", "logit_scale")
_PROCESSOR = "processor_"
MAX_LOG_SCALE = 4.605170185988092  # ln 100


def schedule(base: float, warmup_steps: int, total_steps: int, *,
             cycles: int = 1, least: float = 0.0):
  """Returns step -> learning rate."""
  def rate(step):
    step = 1.0 * step  # a division of int32 would be float32 even under x64
    warm = base * (step + 1) / max(warmup_steps, 1)
    # Divided last: exact where a cycle begins.
    share = cycles * (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    if cycles > 1:
      share %= 1
    cosine = least + (base - least) * 0.5 * (1 + jnp.cos(jnp.pi * share))
    return jnp.where(step < warmup_steps, warm, cosine)
  return rate


def label(path: str, ndim: int, text_frozen: bool = False) -> str:
  """Returns "decay", "no_decay" or "frozen" for one parameter.

  Those of the processor of heatmaps begin with "processor_".
  """
  if path.endswith("spatial_position"):
    return "frozen"
  if text_frozen and path.startswith("text_tower/") and "norm" not in path:
    return "frozen"
  undecayed = ndim < 2 or any(part in path for part in _NO_DECAY)
  family = _PROCESSOR if path.startswith("heatmap/") else ""
  return family + ("no_decay" if undecayed else "decay")


def labels(params, text_frozen: bool = False):
  """`label` of every leaf."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: label(
          jax.tree_util.keystr(path, simple=True, separator="/"),
          x.ndim, text_frozen), params)


def hold_frozen(params: dict, text_frozen: bool) -> dict:
  """`params`, those that never move without gradient: none is worked out."""
  names = labels(params, text_frozen)
  return jax.tree.map(
      lambda x, name: jax.lax.stop_gradient(x) if name == "frozen" else x,
      params, names)


def make_optimizer(
    config: schema.Config, total_steps: int) -> optax.GradientTransformation:
  """The optimiser of a run; eCLIP's processor moves at its own rate."""
  o = config.optimizer
  rate = schedule(o.learning_rate, config.train.warmup_steps, total_steps,
                  cycles=o.cycles, least=o.min_learning_rate)

  def update(decay: float):
    if o.name == "sgd":
      return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
    return optax.adamw(rate, b1=o.beta1, b2=o.beta2, eps=o.eps,
                       weight_decay=decay)

  parts = {"decay": update(o.weight_decay), "no_decay": update(0.0)}
  if config.vision.heatmap_width:
    parts |= {f"{_PROCESSOR}{name}": optax.chain(
        part, optax.scale(config.eclip.processor_rate))
              for name, part in parts.items()}
  return optax.partition(parts | {"frozen": optax.set_to_zero()},
                         lambda params: labels(params, config.text.frozen))


def clamp_scale(params: dict, limits: tuple[float, float] = (
    0.0, MAX_LOG_SCALE)) -> dict:
  """Limits the logarithm of the scale, to [0, ln 100], after every update."""
  return params | {"logit_scale": jnp.clip(params["logit_scale"], *limits)}
