"""Command lines of tools: what a user did wrong is told in one sentence."""

import functools
import re

from absl import app
from absl import flags

from itemclip_jax import errors

HELP = "All settings: itemclip_jax/config/schema.py; all flags: --help."

# Of a command line with a file of settings. The last five come from
# ml_collections: unknown key, wrong type, no file.
_FAULTS = (flags.Error, AttributeError, KeyError, TypeError, ValueError,
           OSError)


def run(main, config=None, *, operands: bool = False):
  """Parses the flags, runs `main(argv)`; a mistake ends with exit code 2.

  Args:
    main: what to run.
    config: the holder of a flag that names a file of settings, if there is one.
    operands: whether `main` takes what belongs to no flag, argv[1:].
  """
  app.run(errors.told(main), flags_parser=functools.partial(
      _parse, config=config, operands=operands))


def _parse(argv: list[str], config, operands: bool) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
    # A file that cannot be read is only missed here.
    _ = config is None or config.value is None or config.value.seed
  except flags.Error if config is None else _FAULTS as error:
    if config is None:
      errors.fail(f"{str(error).rstrip('.')}. All flags: --help.")
    errors.fail(f"{config_fault(error)} {HELP}")
  if len(rest) > 1 and not operands:
    errors.fail(f"{rest[1]!r} belongs to no flag; quote what has blanks. All "
                "flags: --help.")
  return rest


def config_fault(error: Exception) -> str:
  """The sentence in the nested message of a flag or config error."""
  text = str(error).replace("\\n", "\n").replace("\\", "")
  if hint := re.search(r'Did you mean "(\S+)" instead of "(\S+)"\?', text):
    return f"There is no setting {hint[2]!r}; did you mean {hint[1]!r}?"
  if key := re.search(r'Key "(\S+)" does not exist', text):
    return f"There is no setting {key[1]!r}."
  if isinstance(error, OSError):
    return f"The file of settings could not be read: {' '.join(text.split())}."
  last = text.strip().splitlines()[-1].strip(" '\"")
  return last.split("Error: ", 1)[-1] + ("" if last.endswith(".") else ".")
