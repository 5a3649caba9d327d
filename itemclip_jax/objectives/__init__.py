"""Objectives. Adding one is adding one file: `name` is the module's name.

Each module has a frozen dataclass `Objective` with

    REQUIRES                          keys that it reads of a batch
    from_config(config, dtype)
    views(batch, *, step, rng)        what the model encodes: a tuple of batches
    loss(outputs, params, batch, *, step, rng)    (float32 scalar, metrics)
    init_extra(make)                  {}, or {"peer": make(1)}: a second model,
                                      taught in turn; `batch["peer"]` then holds
                                      the outputs of the one that rests

and, where the defaults do not do, `models` (2 with a peer) and
`log_scale_range` (of the logit scale's logarithm). `loss` is a pure function;
all draws come from `rng` and `step`.
"""

import importlib
import pkgutil

from itemclip_jax.errors import UserError


def names() -> list[str]:
  return sorted(m.name for m in pkgutil.iter_modules(__path__))


def make(config, dtype=None):
  """Returns `itemclip_jax.objectives.<config.objective>.Objective`.

  `dtype` is that of the model's matmuls.

  Raises:
    UserError: there is no such module.
  """
  if config.objective not in names():
    raise UserError(f"Unknown objective {config.objective!r}; have {names()}. "
                    "Set config.objective to one of them.")
  module = importlib.import_module(f"{__name__}.{config.objective}")
  return module.Objective.from_config(config, dtype)
