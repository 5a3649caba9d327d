"""Counts again what `--mode=compile` found, from the compiler's text alone.

    python -m itemclip_jax.tools.recount --workdir=runs/compiled

Reads compile.txt.gz, and of compile.json only what it was compiled for; prints
the sums as JSON and where the time goes. --scopes lists the dearest operations.
"""

import gzip
import json
import pathlib

from absl import flags

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.tools import command
from itemclip_jax.train.ahead import estimate, files


def recount(workdir: pathlib.Path) -> dict:
  """The sums of `compile.txt.gz`, as `compile.json` holds them.

  Raises:
    UserError: the files are not there.
  """
  numbers, text = workdir / files.NUMBERS, workdir / files.TEXT
  if not (numbers.exists() and text.exists()):
    raise UserError(f"{workdir} lacks {files.NUMBERS} or {files.TEXT}; give "
                    "the --workdir of a --mode=compile whose step fits.")
  known = read_json(numbers, "Compile again.")
  with gzip.open(text, "rt") as file:
    return estimate.of_text(
        file.read(), schema.from_dict(known["config"]), known["topology"],
        known["model_flops_per_device"])


def main(argv):
  del argv
  found = recount(pathlib.Path(flags.FLAGS.workdir))
  lists = ("parts", "scopes", "collectives", "custom_calls", "estimate")
  print(json.dumps({k: v for k, v in found.items() if k not in lists}))
  for kind in ("custom_calls", "collectives"):
    for entry in found[kind]:
      print(json.dumps(entry))
  print(estimate.in_words(found))
  if flags.FLAGS.scopes:
    for entry in found["scopes"]:
      print(f"{entry['ms']:9.3f} ms  {entry['count']:6d} {entry['opcode']}  "
            f"{entry['scope']}")


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "Where --mode=compile wrote to.",
                      required=True)
  flags.DEFINE_bool("scopes", False, "Also list the dearest operations.")
  command.run(main)
