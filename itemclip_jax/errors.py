"""Mistakes of a user, told in one sentence instead of a traceback."""

from collections.abc import Iterable
import json
import pathlib
import sys


class UserError(ValueError):
  """The user can mend this: what was got, what was wanted, what to do."""


def told(main):
  """Wraps `main(argv)`: what a user can mend is told, with exit code 2.

  Everything else, a mistake of ours or of a library, keeps its traceback.
  """
  def run(argv):
    try:
      main(argv)
    except (UserError, FloatingPointError) as error:
      fail(str(error))
  return run


def fail(sentence: str):
  """Says what is wrong and ends with exit code 2."""
  print(f"itemclip_jax: {sentence}", file=sys.stderr)
  sys.exit(2)


def some(names: Iterable[str], most: int = 12) -> str:
  """Names in a sentence; of many the first and how many more there are."""
  names = list(names)
  if len(names) <= most:
    return ", ".join(names)
  return f"{', '.join(names[:most])} and {len(names) - most} more"


def read_json(path: pathlib.Path, repair: str):
  """What a JSON file holds.

  Args:
    path: of a file that exists.
    repair: what to do where it is damaged, an imperative sentence.

  Raises:
    UserError: it is no JSON.
  """
  try:
    return json.loads(path.read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise UserError(f"{path} is damaged ({error}). {repair}") from error
