"""Features of studies and texts, for models and statistics of your own.

One study of any kind, as for `tools.explain`:

    python -m itemclip_jax.tools.embed --checkpoint=runs/demo \\
        --study=mri/patient7 --out=patient7.npz --text="Acute infarct."

All studies of a split of a built set (killed and started again, it goes on):

    python -m itemclip_jax.tools.embed --checkpoint=runs/demo \\
        --study=runs/demo/data --split=test --out=test.npz

The .npz holds, all float32 as the model gives them, not normalised,

    study_id [n], patient_id [n]   patient_id of a split only
    image    [n, E]   the studies' global vectors
    text     [P, E]   the embeddings of `texts` [P]; without --text of nothing
    tokens   [S, d, h, w, E]   of one study, with `series_names` [S] and
             `token_affine` [S, 4, 4]: index (d, h, w) of a token -> its centre
             in RAS mm

A cosine of `image` and `text` is a score; what a text finds in the tokens goes
through the item attention (`tools.explain`, `evaluators.scoring`).
"""

import dataclasses
import pathlib
import shutil

from absl import flags
from absl import logging
import jax
import numpy as np

from itemclip_jax.data import example as example_lib
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import features, scoring
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import command
from itemclip_jax.tools.study_files import one_study
from itemclip_jax.train import trained as trained_lib


def embed(checkpoint: pathlib.Path, study: pathlib.Path, out: pathlib.Path, *,
          record_name: str = "", split: str = "", texts: tuple[str, ...] = (),
          batch: int = 32) -> dict[str, np.ndarray]:
  """Does what the header says; returns what the file holds.

  Raises:
    UserError: there is no such model or study, they do not fit one another, or
      a text is empty.
  """
  out = pathlib.Path(out)
  if out.suffix != ".npz":
    raise UserError(f"--out={out} must end in .npz.")
  if record_name and split:
    raise UserError("--record names one study and --split all of one; leave "
                    "one out.")
  out.parent.mkdir(parents=True, exist_ok=True)
  devices = jax.devices() if split else jax.devices()[:1]
  trained = trained_lib.load(checkpoint, make_mesh(devices=devices))
  if split:
    batch = -(-batch // len(devices)) * len(devices)
    found = _of_split(trained, study, split, out, batch)
  else:
    found = _of_study(trained, one_study.read(
        study, trained, record_name=record_name, checkpoint=str(checkpoint)))
  found |= _of_texts(trained, texts)
  partial = out.with_name(out.name + ".partial")
  with partial.open("wb") as file:
    np.savez_compressed(file, **found)
  partial.replace(out)
  return found


def _of_texts(trained: trained_lib.Trained, texts) -> dict[str, np.ndarray]:
  if not texts:
    return {"texts": np.zeros(0, "U1"),
            "text": np.zeros((0, trained.config.joint.width), np.float32)}
  scorer = scoring.Scorer(
      trained.encoder, trained.params, trained.tokenizer, trained.mesh,
      grid=trained.config.vision.grid)
  return {"texts": np.array(texts), "text": scorer.texts(texts)}


def _of_study(trained: trained_lib.Trained, case: one_study.Study
              ) -> dict[str, np.ndarray]:
  config = trained.config
  with jax.set_mesh(trained.mesh):
    out = jax.device_get(trained.encoder.features(
        trained.params, *one_study.inputs(case, config)))
  for note in case.notes:
    print(note)
  # Token t has its centre at stored index (t + 1/2) patch - 1/2.
  patch = np.array(config.vision.patch, float)
  to_stored = np.diag([*patch, 1.0])
  to_stored[:3, 3] = patch / 2 - 0.5
  S = len(case.series_names)
  return {
      "study_id": np.array([case.name]), "image": out.image.astype(np.float32),
      "tokens": out.tokens[0].astype(np.float32).reshape(
          S, *config.vision.grid, -1),
      "series_names": np.array(case.series_names),
      "token_affine": case.affine @ to_stored}


def _of_split(trained: trained_lib.Trained, root: pathlib.Path, split: str,
              out: pathlib.Path, batch: int) -> dict[str, np.ndarray]:
  """What is encoded stays beside `out` until all is."""
  config = dataclasses.replace(trained.config, data=dataclasses.replace(
      trained.config.data, root=str(root)))
  trained.contract.require_same(record.read_contract(root), here="the model",
                                there=str(root))
  folder = out.with_name(out.name + ".features")
  with jax.set_mesh(trained.mesh):
    studies = features.encode(
        split, example_lib.MakeExample(config, trained.tokenizer,
                                       air=trained.contract.air),
        trained.encoder, trained.params, trained.mesh, folder=folder,
        batch=batch, what=f"split {split}")
  found = {"study_id": studies.study_id, "patient_id": studies.patient_id,
           "image": studies.image}
  shutil.rmtree(folder)
  return found


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given = flags.FLAGS
  found = embed(pathlib.Path(given.checkpoint), pathlib.Path(given.study),
                pathlib.Path(given.out), record_name=given.record,
                split=given.split, texts=tuple(given.text), batch=given.batch)
  shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in found.items())
  print(f"Wrote {given.out}: {shapes}.")


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Run directory, released or "
                      "converted model.", required=True)
  flags.DEFINE_string("study", None, "One study (folder of series or of DICOM "
                      "files, NIfTI, picture), or with --record or --split a "
                      "built data set.", required=True)
  flags.DEFINE_string("record", "", "SPLIT/STUDY of the built set.")
  flags.DEFINE_string("split", "", "All studies of this split of the built "
                      "set.")
  flags.DEFINE_multi_string("text", [], "A text to embed as well; may be given "
                            "again.")
  flags.DEFINE_integer("batch", 32, "Studies of a split encoded at a time.")
  flags.DEFINE_string("out", None, "The .npz file.", required=True)
  command.run(main)
