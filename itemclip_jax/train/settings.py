"""The settings of a run, compared with stored ones.

What the stored ones lack, as those of an older version do, counts as its
default.
"""

import dataclasses
import json
import pathlib

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.parallel import multihost
from itemclip_jax.train.writer import write_json

# Files that only begin a run; the vocabulary's digest is compared apart.
_BEGINNINGS = ("text.pretrained", "text.vocabulary", "vision.pretrained",
               "train.start_from")

# How a model is computed, not which one it is: memory and time.
_COMPUTED = ("vision.remat", "vision.scan", "text.remat", "text.scan")

# Settings that change no number of a run, or only last bits and what dropout
# draws, and may differ when it goes on.
_FREE = ("data.root", "data.num_threads", "data.prefetch", "mesh.", "eval.",
         "train.log_every", "train.save_every", "train.keep",
         "train.best_metric", "train.micro_batches", "attention", "loss.block",
         *_COMPUTED, *_BEGINNINGS)


def of_another_model(stored: dict, config: schema.Config) -> list[str]:
  """How the model of a stored config differs from ours; [] where it does not.

  Args:
    stored: nested plain dicts.
    config: ours.
  """
  return [d for d in _differences(_filled(stored), _plain(config))
          if d.startswith(("vision.", "text.", "joint."))
          and not d.startswith(_BEGINNINGS + _COMPUTED)]


def claim(workdir: pathlib.Path, config: schema.Config):
  """Writes config.json, or refuses a directory of other settings."""
  path = workdir / "config.json"
  ours = _plain(config)
  if path.exists():
    stored = _filled(read_json(path, "Choose another --workdir, or mend it."))
    if different := [d for d in _differences(stored, ours)
                     if not d.startswith(_FREE)]:
      raise UserError(
          f"{workdir} holds a run with other settings: {'; '.join(different)}. "
          "Choose another --workdir or go back to its settings.")
  multihost.sync("config")  # read by all before it is written by one
  if multihost.is_main():
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, ours)


def _plain(config: schema.Config) -> dict:
  """The settings as a JSON file gives them back: tuples become lists."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def _filled(stored: dict) -> dict:
  """The stored settings over the defaults."""
  known, stored = _plain(schema.Config()), json.loads(json.dumps(stored))
  return known | {
      key: known.get(key, {}) | value if isinstance(value, dict) else value
      for key, value in stored.items()}


def _differences(theirs: dict, ours: dict, where: str = "") -> list[str]:
  out = []
  for key in sorted(theirs.keys() | ours.keys()):
    a, b = theirs.get(key), ours.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      out += _differences(a, b, f"{where}{key}.")
    elif a != b:
      out.append(f"{where}{key} was {a!r}, is {b!r}")
  return out
