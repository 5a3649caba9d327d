"""Makes a trained model a folder that others can use without the run.

    python -m itemclip_jax.tools.release --checkpoint=runs/demo \\
        --out=released/demo

The folder holds the weights as safetensors, the settings, the vocabulary, what
was done to the volumes, and a model card to be completed by hand; see
`train.trained`. Every tool that takes a run directory takes it as well. Paths
of this machine are left out.

This is a research tool, not a medical device.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil

from absl import flags
from absl import logging
import jax
import numpy as np

import itemclip_jax
from itemclip_jax.config import schema
from itemclip_jax.data import record
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.interop import mapping, torch_io
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import command
from itemclip_jax.train import trained as trained_lib
from itemclip_jax.train.writer import write_json

# Settings that name files of the machine that trained.
_PATHS = (("data", "root"), ("text", "vocabulary"), ("text", "pretrained"),
          ("vision", "pretrained"), ("train", "start_from"))

_CARD = """---
library_name: itemclip_jax
tags:
- image-text
- zero-shot
- {modality}
---

# {name}

A vision-language model for images that come with a list of independent
findings, {parameters:,} parameters. It compares an image with short texts and
shows what each text attends to. {origin}

    python -m itemclip_jax.tools.explain --checkpoint=<this folder> \\
        --study=<folder of one study> --text="…" --out=<folder>

## What it was shown

Volumes that were prepared otherwise are refused.

| | |
|---|---|
{contract}

## What was measured

{results}

## Limits

Research use only; not a medical device. Its scores are no risks and nothing has
calibrated them. It knows images and reports like those it was trained on.

## To be stated by the publisher

Licence, origin and consent of the training data, intended use, contact.
"""


def release(checkpoint: pathlib.Path, out: pathlib.Path,
            step: int | None = None):
  """Writes the folder `out`, whole or not at all.

  Args:
    checkpoint: a run directory, or a released model.
    out: must not exist yet.
    step: of the run's checkpoint; None for the newest.

  Raises:
    UserError: `out` exists, or there is no such checkpoint.
  """
  checkpoint, out = pathlib.Path(checkpoint), pathlib.Path(out)
  if out.exists():
    raise UserError(f"--out={out} exists already; name a new folder.")
  trained = trained_lib.load(
      checkpoint, make_mesh(1, 1, jax.devices()[:1]), step)
  config, dataset = trained.config, trained.contract.dataset
  write(out, Parts(
      params=trained.params, config=config, contract=trained.contract,
      vocabulary=trained.vocabulary.read_bytes(), step=trained.step,
      origin=f"Trained with itemclip_jax {itemclip_jax.__version__}: objective "
             f"`{config.objective}`, {trained.step} steps on the data set "
             f"`{dataset}`."), measured(checkpoint))


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a released model is made of.

  Attributes:
    params: nested, all of them.
    config: of the model.
    contract: what was done to the volumes that it was trained on.
    vocabulary: contents of tokenizer.json.
    step: updates done; 0 where nobody knows.
    origin: where the parameters come from, sentences for the model card.
  """
  params: dict
  config: schema.Config
  contract: record.Contract
  vocabulary: bytes
  step: int
  origin: str


def write(out: pathlib.Path, parts: Parts, results: dict[str, dict]):
  """Writes a released model, whole or not at all.

  Args:
    out: the folder, which does not exist.
    parts: of the model.
    results: see `measured`.
  """
  partial = out.with_name(out.name + ".partial")
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  state = {path: np.asarray(jax.device_get(leaf))
           for path, leaf in mapping.flatten(parts.params).items()}
  torch_io.write_state(partial / trained_lib.WEIGHTS, state, {
      "release": trained_lib.RELEASE, "step": str(parts.step),
      "vocabulary_sha256": hashlib.sha256(parts.vocabulary).hexdigest()})
  write_json(partial / "config.json", settings(parts.config))
  write_json(partial / "contract.json", contract(parts.contract))
  (partial / "tokenizer.json").write_bytes(parts.vocabulary)
  (partial / "README.md").write_text(card(
      parts, out.name, sum(v.size for v in state.values()), results), "utf-8")
  partial.rename(out)


def settings(config) -> dict:
  """The resolved config without paths of this machine."""
  raw = dataclasses.asdict(config)
  for section, name in _PATHS:
    raw[section][name] = ""
  return raw


def contract(original) -> dict:
  """The contract without the place of the raw files."""
  raw = original.to_dict()
  return raw | {"recipe": {
      k: v for k, v in raw["recipe"].items() if k != "source"}}


def measured(checkpoint: pathlib.Path) -> dict[str, dict]:
  """The means that `--mode=eval` left in a run directory; {} without."""
  path = checkpoint / "results.json"
  if not path.is_file():
    return {}
  results = read_json(path, "Evaluate the run again.")
  return {k: v for k, v in results.items() if k.count("/") == 1}


def card(parts: Parts, name: str, num_parameters: int,
         results: dict[str, dict]) -> str:
  """The model card, in Markdown."""
  voxels = {k: v for k, v in contract(parts.contract).items()
            if v is not None and k not in ("recipe", "records")}
  number = lambda x: "undefined" if x is None else f"{x:.3f}"
  interval = lambda r: "" if r["ci95"] is None else " to ".join(
      f"{x:.3f}" for x in r["ci95"])
  table = "\n".join(
      f"| {k} | {number(r['value'])} | {interval(r)} | {r['n']} |"
      for k, r in results.items())
  if table:
    table = ("By the run that trained it, on its test split.\n\n"
             "| metric | value | 95 % interval | n |\n|---|---|---|---|\n"
             f"{table}")
  return _CARD.format(
      name=name, origin=parts.origin, parameters=num_parameters,
      modality=parts.contract.modality.lower(),
      contract="\n".join(f"| {k} | {json.dumps(v)} |"
                         for k, v in voxels.items()),
      results=table or "Nothing has been measured yet.")


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given = flags.FLAGS
  release(given.checkpoint, given.out, given.step)
  print(f"Released to {given.out}; complete its README.md.")


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Run directory of the model.",
                      required=True)
  flags.DEFINE_string("out", None, "The folder to make.", required=True)
  flags.DEFINE_integer("step", None, "Of the checkpoint; the newest without.")
  command.run(main)
