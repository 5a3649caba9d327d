"""Parts of `tools.bench`, one file each, looked up by its name.

A part has `define_flags()`, which declares its absl flags and returns the
holder of its file of settings, if it reads one, and `measure() -> dict`, which
reads them and returns what JSON can hold. What is compared runs in
a process of its own (`fresh.run`): peak memory is the process's, and caches,
compiled programs and threads of one do not help or hinder the other.
"""

import importlib
import pkgutil

_SHARED = ("ct_set", "fresh", "op_times")


def names() -> list[str]:
  """Of all parts."""
  return sorted(m.name for m in pkgutil.iter_modules(__path__)
                if m.name not in _SHARED)


def module(name: str):
  """The module of a part."""
  return importlib.import_module(f"{__name__}.{name}")
