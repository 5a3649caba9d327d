"""Evaluators: what can be measured of a model on a split.

A name in config.eval.evaluators is that of a prompt set, a file of data
(`prompts`), or of a module here. A prompt set says which module measures it; so
a new benchmark is a new file of data. A module has

    class Evaluator:
      REQUIRES     keys of an example (`data.example`) that it cannot do without
      prompts      texts that are scored against all studies, for all evaluators
                   in one pass
      collect()    the table of what the model did: columns of one length, by
                   name. "study_id" and "patient_id" are among them; the latter
                   is what intervals resample
      meta()       what `measure` must know beside the table, as JSON
      examples(table)  what is worth a picture

    def measure(name, table, meta) -> measures.Measures

where `measure` is pure NumPy: from what a run has written (`predictions`),
anybody can measure it again, or beside another.
"""

import importlib
import pkgutil
from types import ModuleType

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import prompts


def find(name: str) -> tuple[ModuleType, prompts.PromptSet | None]:
  """The module that measures `name`, and its prompt set if it has one.

  Raises:
    UserError: there is no such evaluator.
  """
  if name.endswith(".json") or name in prompts.names():
    spec = prompts.load(name)
    return module(spec.evaluator), spec
  return module(name), None


def module(name: str) -> ModuleType:
  """`itemclip_jax.evaluators.<name>`; see `find` for the error."""
  if name in {m.name for m in pkgutil.iter_modules(__path__)}:
    found = importlib.import_module(f"{__name__}.{name}")
    if hasattr(found, "Evaluator"):
      return found
  every = {m.name: importlib.import_module(f"{__name__}.{m.name}")
           for m in pkgutil.iter_modules(__path__)}
  have = sorted(n for n, m in every.items() if hasattr(m, "Evaluator"))
  raise UserError(f"Unknown evaluator {name!r}; have {have}, the prompt sets "
                  f"{list(prompts.names())}, or a .json file of your own. "
                  "Change config.eval.evaluators.")
