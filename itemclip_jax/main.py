"""Trains or evaluates: flags -> checked config -> mesh -> one command.

    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo
    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo \\
        --mode=eval

Any setting can be changed on the command line: --config.train.steps=100. All
settings and their meaning: itemclip_jax/config/schema.py.
"""

import pathlib
import re
import sys

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from itemclip_jax import errors
from itemclip_jax.config import schema

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File of settings, e.g. configs/demo.py; a variant goes "
    "behind a colon: configs/chest_ct.py:released,smoke.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of this run: checkpoints, metrics, results. A "
    "run that was interrupted goes on from its newest checkpoint.")
_PEERS = flags.DEFINE_string(
    "peers", "none", "Processes that train together, started with the same "
    "command: auto (TPU pod slice, Slurm, MPI) or HOST:PORT,COUNT,INDEX with "
    "the address of process 0, their number, and which this one is. All must "
    "see the same --workdir.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval"],
    "train: up to the last step, leaves final.json. eval: measures the newest "
    "checkpoint, leaves results.json and figures.")


def main(argv):
  logging.set_verbosity(logging.ERROR)  # Orbax tells a dozen lines a save
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  config = schema.from_config_dict(_CONFIG.value)  # fails before JAX starts
  workdir = pathlib.Path(_WORKDIR.value)

  # pylint: disable=g-import-not-at-top
  from itemclip_jax.parallel import mesh, multihost
  multihost.initialize(_PEERS.value)               # before any JAX array
  devices = mesh.make_mesh(config.mesh.data, config.mesh.fsdp)

  if _MODE.value == "train":
    from itemclip_jax.train import interruption, loop
    try:
      loop.train(config, devices, workdir)
    except interruption.Interrupted as error:
      print(f"itemclip_jax: {error}", file=sys.stderr)
      sys.exit(interruption.EXIT_CODE)
  else:
    from itemclip_jax.train import evaluate
    evaluate.evaluate(config, devices, workdir)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; a mistake in it is told in one sentence."""
  try:
    rest = flags.FLAGS(argv)
    _ = _CONFIG.value.seed  # a file that cannot be read is only missed here
    return rest
  # The last five come from ml_collections: unknown key, wrong type, no file.
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError,
          OSError) as error:
    errors.fail(f"{_short(error)} All settings: itemclip_jax/config/schema.py; "
                "all flags: --help.")


def _short(error: Exception) -> str:
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


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(errors.told(main), flags_parser=parse_flags)
