"""Trains or evaluates: flags -> checked config -> mesh -> one command.

    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo
    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo \\
        --mode=eval

Any setting can be changed on the command line: --config.train.steps=100. All
settings and their meaning: itemclip_jax/config/schema.py.
"""

import pathlib
import sys
import traceback

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from itemclip_jax.config import schema

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File of settings, e.g. configs/demo.py; a variant goes "
    "behind a colon: configs/chest_ct.py:released,smoke.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of this run: checkpoints, metrics, results. A "
    "run that was interrupted goes on from its newest checkpoint.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval"],
    "train: up to the last step, leaves final.json. eval: measures the newest "
    "checkpoint, leaves results.json and figures.")


def main(argv):
  logging.set_verbosity(logging.WARNING)  # Orbax tells a dozen lines a save
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  config = schema.from_config_dict(_CONFIG.value)  # fails before JAX starts
  workdir = pathlib.Path(_WORKDIR.value)

  # pylint: disable=g-import-not-at-top
  from itemclip_jax.parallel import mesh, multihost
  multihost.initialize()                           # before any JAX array
  devices = mesh.make_mesh(config.mesh.data, config.mesh.fsdp)

  if _MODE.value == "train":
    from itemclip_jax.train import loop
    loop.train(config, devices, workdir)
  else:
    from itemclip_jax.train import evaluate
    evaluate.evaluate(config, devices, workdir)


def tell(main_fn):
  """Wraps `main`: errors that this package raises become one sentence.

  Everything else, a mistake of ours or of a library, keeps its traceback.
  """
  def told(argv):
    try:
      main_fn(argv)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
      frames = traceback.extract_tb(error.__traceback__)
      package = pathlib.Path(__file__).parent
      if not pathlib.Path(frames[-1].filename).is_relative_to(package):
        raise
      sys.exit(f"itemclip_jax: {error}")
  return told


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(tell(main))
