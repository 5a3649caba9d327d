"""Measures one part of the software on this machine; prints a line of JSON.

    python -m itemclip_jax.tools.bench losses --B 32 --K 7 --N 1024 --E 512
    python -m itemclip_jax.tools.bench loader
    python -m itemclip_jax.tools.bench step
    python -m itemclip_jax.tools.bench attention

Run it on a machine that does nothing else, several times, and compare ratios:
seconds are of one machine, ratios of two programs are less so. What the numbers
mean, and which were found: docs/performance.md.
"""

import json
import sys

from absl import flags

from itemclip_jax import errors
from itemclip_jax.tools import benchmarks, command


def chosen(argv: list[str]) -> str:
  """The part that a command line names.

  Raises:
    UserError: it names none, or one that there is not.
  """
  have = ", ".join(benchmarks.names())
  if len(argv) < 2 or argv[1].startswith("-"):
    raise errors.UserError(f"Name what to measure, one of {have}; its flags: "
                           "bench NAME --help.")
  if argv[1] not in benchmarks.names():
    raise errors.UserError(f"There is no benchmark {argv[1]!r}; have {have}.")
  return argv[1]


def main(argv):
  print(json.dumps(benchmarks.module(argv[1]).measure()))


if __name__ == "__main__":
  settings = None
  if "--help" not in sys.argv[1:2]:
    try:
      part = benchmarks.module(chosen(sys.argv))
      settings = part.define_flags()
      flags.adopt_module_key_flags(part)   # for --help
    except errors.UserError as error:
      errors.fail(str(error))
  command.run(main, settings, operands=True)
