"""Objectives. Adding one is adding one file: `name` is the module's name."""

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
