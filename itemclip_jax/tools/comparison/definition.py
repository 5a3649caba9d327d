"""The studies of a folder: every `<name>.py` in it that has `get_study()`."""

import importlib.util
import pathlib

from itemclip_jax.config.comparison import Study
from itemclip_jax.errors import UserError


def names(folder: pathlib.Path) -> list[str]:
  """Of all studies of a folder.

  Raises:
    UserError: it holds none.
  """
  found = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
  if not found:
    raise UserError(f"There is no study in {folder}; run this in the folder of "
                    "the project, or name one with --studies.")
  return found


def load(folder: pathlib.Path, name: str) -> Study:
  """The study `name`; UserError where there is none."""
  if name not in names(folder):
    raise UserError(f"There is no study {name!r}; have "
                    f"{', '.join(names(folder))}.")
  spec = importlib.util.spec_from_file_location(
      f"study_{name}", folder / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_study()


def load_all(folder: pathlib.Path) -> dict[str, Study]:
  """Every study by name, in the order of their places."""
  found = {name: load(folder, name) for name in names(folder)}
  return dict(sorted(found.items(), key=lambda item: item[1].place))
