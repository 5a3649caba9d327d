"""Evaluators. Adding one is adding one file that defines `Evaluator`.

An evaluator sees every batch once (`update`), then yields its numbers
(`results`) and what is worth a picture (`examples`). It is built anew for the
trained and for the untrained model.
"""

import importlib
import pkgutil

from itemclip_jax.errors import UserError


def make(name: str, context):
  """Returns `itemclip_jax.evaluators.<name>.Evaluator(context)`.

  Raises:
    UserError: there is no such evaluator.
  """
  modules = {m.name: importlib.import_module(f"{__name__}.{m.name}")
             for m in pkgutil.iter_modules(__path__)}
  have = {n: m.Evaluator for n, m in modules.items() if hasattr(m, "Evaluator")}
  if name not in have:
    raise UserError(f"Unknown evaluator {name!r}; have {sorted(have)}. Change "
                    "config.eval.evaluators.")
  return have[name](context)
