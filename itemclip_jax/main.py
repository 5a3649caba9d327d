"""Trains or evaluates: flags -> checked config -> mesh -> one command.

    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo
    python -m itemclip_jax.main --config=configs/demo.py --workdir=runs/demo \\
        --mode=eval

Any setting can be changed on the command line: --config.train.steps=100. All
settings and their meaning: itemclip_jax/config/schema.py.
"""

import math
import pathlib
import sys

from absl import flags
from absl import logging
from ml_collections import config_flags

from itemclip_jax.config import schema
from itemclip_jax.data import memory
from itemclip_jax.tools import command

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
    "mode", "train", ["train", "eval", "compile"],
    "train: up to the last step, leaves final.json. eval: measures the newest "
    "checkpoint, leaves results.json and figures. compile: compiles the train "
    "step for chips that are not here, leaves compile.json.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "With --mode=compile: the chips, such as v5e:4x4, "
    "v6e:2x4, v5p:2x2x1 or v4:2x2x1.")


def main(argv):
  logging.set_verbosity(logging.ERROR)  # Orbax tells a dozen lines a save
  del argv
  config = schema.from_config_dict(_CONFIG.value)  # fails before JAX starts
  workdir = pathlib.Path(_WORKDIR.value)

  # pylint: disable=g-import-not-at-top
  if _MODE.value == "compile":
    from itemclip_jax.train.ahead import libtpu
    libtpu.prepare()
    from itemclip_jax.train import compile as compile_lib
    compile_lib.main(config, _TOPOLOGY.value, workdir)
    return

  memory.keep_freed(math.prod(config.vision.volume_shape))  # before threads
  from itemclip_jax.ops import attention
  from itemclip_jax.parallel import compile_cache, mesh, multihost
  multihost.initialize(_PEERS.value)               # before any JAX array
  compile_cache.use(workdir)
  devices = mesh.make_mesh(config.mesh.data, config.mesh.fsdp)

  with attention.using(config.attention):
    if _MODE.value == "train":
      _train(config, devices, workdir)
    else:
      from itemclip_jax.train import evaluate
      evaluate.evaluate(config, devices, workdir)


def _train(config: schema.Config, devices, workdir: pathlib.Path):
  # pylint: disable=g-import-not-at-top
  from itemclip_jax.train import interruption, loop
  try:
    loop.train(config, devices, workdir)
  except interruption.Interrupted as error:
    print(f"itemclip_jax: {error}", file=sys.stderr)
    sys.exit(interruption.EXIT_CODE)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  command.run(main, _CONFIG)
