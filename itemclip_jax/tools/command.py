"""Command lines of tools: what a user did wrong is told in one sentence."""

from absl import app
from absl import flags

from itemclip_jax import errors


def run(main):
  """Parses the flags, runs `main(argv)`; a mistake ends with exit code 2."""
  app.run(errors.told(main), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    errors.fail(f"{str(error).rstrip('.')}. All flags: --help.")
  if len(rest) > 1:
    errors.fail(f"{rest[1]!r} belongs to no flag; quote texts: --text=\"…\".")
  return rest
