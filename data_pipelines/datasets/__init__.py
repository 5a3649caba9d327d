"""Data sets. Adding one is adding one file: `name` is the module's name.

A module defines `Dataset`, a frozen dataclass whose fields are its options (the
flags of `data_pipelines.prepare` with the same names) and whose methods are

    bytes_needed() -> int                 rough size on disk of the whole build
    fetch(out, workers) -> Path           makes sure of the raw archive
    contract() -> record.Contract         what is done to every volume
    findings(raw) -> dict                 label columns and prompts
    builder(raw, out, workers, log)       its TFDS builder, not yet run
"""

import dataclasses
import importlib
import pkgutil

from data_pipelines.errors import PrepareError


def names() -> list[str]:
  return sorted(m.name for m in pkgutil.iter_modules(__path__))


def make(name: str, **options):
  """Returns `data_pipelines.datasets.<name>.Dataset(**options)`."""
  if name not in names():
    raise PrepareError(
        f"There is no data set {name!r}; choose one of {', '.join(names())}.")
  cls = importlib.import_module(f"{__name__}.{name}").Dataset
  fields = sorted(f.name for f in dataclasses.fields(cls))
  if unknown := sorted(options.keys() - set(fields)):
    raise PrepareError(f"Data set {name} has no option {', '.join(unknown)}; "
                       f"it has {', '.join(fields)}.")
  return cls(**options)
