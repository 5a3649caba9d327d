"""Asks a trained model about one study: is it there, and where?

One study of any kind that the model was trained on
(`tools.study_files.one_study` says which files) and one or more sentences:

    python -m itemclip_jax.tools.explain --checkpoint=runs/demo \\
        --study=runs/demo/data/raw/test/test-00003 --out=runs/explain \\
        --text="Large cyst in the left frontal lobe." \\
        --text="Acute infarct of the brainstem."

One record of a built set; without --text, what its own report says:

    python -m itemclip_jax.tools.explain --checkpoint=runs/demo \\
        --study=runs/demo/data --record=test/test-00003 --out=runs/explain

--checkpoint is a run directory (its newest checkpoint, or that of --step, or
with --best that of the best validation) or a released model. In the folder
--out, for text number 01, 02, ...:

    index.html           one page with all that follows, for people
    01.png               slices of every series under the attention
    01_planes.png        three planes of the patient through its peak, and the
                         share of attention of each series
    01_<series>.nii.gz   attention on the grid of the series' own files, to be
                         laid over them in any viewer: the weight of the token
                         around a voxel, 0 where the model was shown nothing
    attention_<series>.dcm   with --dicom_seg, of DICOM series: one segment a
                         text, where its attention is at least half of its
                         largest in the study (`tools.study_files.dicom_seg`)
    scores.json          written last:

      checkpoint, step, study, notes   what was asked; what was left out
      series    [{name, file}]   file: null where the original is not at hand
      dicom_seg [{series, file}]
      texts     [{
        text
        tcsim                cosine of the text and the tokens it attends to
        global_cosine        cosine of the text and the whole study's vector
        pair_probability     of the training objective, from tcsim: that of a
                             positive among the pairs of a training batch. No
                             risk, not calibrated. Compare studies by tcsim.
        unknown_word_pieces  share of the text that the vocabulary lacks
        warnings             sentences
        attends_to_nothing   weight that went to no token, 0 .. 1
        series_share         series -> share of the other attention, sums to 1
        best_series          the largest of these
        top_token            the most attended token of the study: {series,
                             weight, place (in words), centre_ras_mm (to the
                             patient's right, front, head; null where the file
                             does not say), box (stored voxels [first,
                             last + 1] along d, h, w), file_voxel and file_box
                             (the same in the original grid: that of the NIfTI
                             file, or slice, row and column of DICOM; null
                             where it is not at hand)}
        picture, planes, overlays    files beside scores.json; planes is null
                             where the patient's directions are not known }]

This is a research tool, not a medical device.
"""

import dataclasses
import pathlib

from absl import flags
from absl import logging
import jax
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import command
from itemclip_jax.tools.study_files import dicom_seg as dicom_seg_lib
from itemclip_jax.tools import explain_files
from itemclip_jax.tools.study_files import one_study
from itemclip_jax.tools.study_files import place
from itemclip_jax.train import trained as trained_lib
from itemclip_jax.train.checkpoint import Checkpoints
from itemclip_jax.train.writer import write_json


@dataclasses.dataclass(frozen=True)
class Answer:
  """What the model says to one text.

  Attributes:
    text: as asked.
    tcsim: cosine of the text and what it pools from the tokens.
    global_cosine: cosine of the text and the study's vector.
    attention: [S, d, h, w] mean over heads, zero slot removed.
    unknown: share of the text's word pieces that are not in the vocabulary.
    warnings: sentences for people.
  """
  text: str
  tcsim: float
  global_cosine: float
  attention: np.ndarray
  unknown: float
  warnings: tuple[str, ...]


def answer(trained: trained_lib.Trained, study: one_study.Study,
           texts: list[str]) -> list[Answer]:
  """Compares a study with texts."""
  ids = trained.tokenizer(texts)
  encoder, params = trained.encoder, trained.params
  with jax.set_mesh(trained.mesh):
    encoded = encoder.studies(params, *one_study.inputs(study, trained.config))
    asked = encoder.texts(params, ids)
    local, overall = encoder.scores(params, encoded, asked)
    weights = encoder.attention(encoded, asked, np.arange(len(texts))[None])
  local, overall, weights = jax.device_get((local[0], overall[0], weights[0]))
  return [
      Answer(text, float(local[n]), float(overall[n]),
             np.asarray(weights[n], np.float32).reshape(
                 -1, *trained.config.vision.grid),
             *_reading(trained.tokenizer, ids[n]))
      for n, text in enumerate(texts)]


def explain(checkpoint: pathlib.Path, study: pathlib.Path, out: pathlib.Path,
            *, record_name: str = "", texts: tuple[str, ...] = (),
            step: int | None = None, best: bool = False,
            dicom_seg: bool = False) -> dict:
  """Does what the header says; returns what scores.json holds.

  Raises:
    UserError: there is no study.
    UserError: a text is empty, or model, study and texts do not fit one
      another, or there is no such checkpoint.
  """
  if empty := [n for n, text in enumerate(texts, 1) if not text.strip()]:
    raise UserError(f"Text {empty[0]} of {len(texts)} is empty; say what to "
                    "look for.")
  if dicom_seg:
    dicom_seg_lib.require()
  if best:
    step = _best_step(checkpoint, step)
  print(f"Loading the model of {checkpoint} ...", flush=True)
  trained = trained_lib.load(checkpoint, make_mesh(1, 1, jax.devices()[:1]),
                             step)
  if trained.config.vision.mixture_tokens:
    raise UserError(f"The model of {checkpoint} attends to mixture tokens, "
                    "which have no place in the picture; explain another one.")
  print(f"Reading {record_name or study} ...", flush=True)
  case = one_study.read(study, trained, record_name=record_name,
                        checkpoint=str(checkpoint))
  texts = texts or case.items
  if not texts:
    raise UserError("There is no --text, and raw files come without a report; "
                    "say what to look for: --text=\"…\".")
  print(f"Compiling for {len(case.series_names)} series, some seconds ...",
        flush=True)
  answers = answer(trained, case, list(texts))
  about = {"checkpoint": str(checkpoint), "step": trained.step,
           "study": record_name or str(study)}
  return write(out, trained, case, answers, about, dicom_seg=dicom_seg)


def write(out: pathlib.Path, trained: trained_lib.Trained,
          case: one_study.Study, answers: list[Answer], about: dict, *,
          dicom_seg: bool) -> dict:
  """Writes all files; `about` heads scores.json, which is returned."""
  out.mkdir(parents=True, exist_ok=True)
  patch, segments = trained.config.vision.patch, []
  if dicom_seg:
    segments = explain_files.write_segments(
        out, case, [a.text for a in answers],
        np.stack([a.attention for a in answers]), patch)
  rows = [
      _facts(trained, case, reply) | explain_files.write_text(
          out, f"{n:02d}", case, reply.attention, patch, text=reply.text,
          score=reply.tcsim, limits=_limits(trained.contract))
      for n, reply in enumerate(answers, 1)]
  scores = about | {
      "notes": list(case.notes),
      "series": [{"name": n, "file": None if f is None else str(f)}
                 for n, f in zip(case.series_names, case.files)],
      "dicom_seg": segments, "texts": rows}
  explain_files.write_page(out, scores, case)
  write_json(out / "scores.json", scores)
  return scores


def _best_step(workdir: pathlib.Path, step: int | None) -> int:
  """The checkpoint of the least `train.best_metric` in validation."""
  if step is not None:
    raise UserError("--step and --best both choose a checkpoint; leave one "
                    "out.")
  with Checkpoints(workdir, read_only=True) as checkpoints:
    newest = checkpoints.latest()
    meta = None if newest is None else checkpoints.meta(newest)
  if meta is not None:
    metric = meta["config"]["train"]["best_metric"]
    with Checkpoints(workdir, metric=metric, read_only=True) as checkpoints:
      if (step := checkpoints.best()) is not None:
        return step
  raise UserError(f"There is no best checkpoint in {workdir}: it is no run "
                  "directory, or the run had no validation; leave --best out.")


def _limits(contract) -> tuple[float, float] | None:
  """Stored values shown black and white: the window the model sees through."""
  if contract.window is None:
    return None
  centre, width = contract.window
  return centre - width / 2, centre + width / 2


def _reading(tokenizer, ids: np.ndarray) -> tuple[float, tuple[str, ...]]:
  """How much of a text the model can read: unknown share and warnings."""
  words = ids[ids != 0][1:-1]  # without [CLS] and [SEP]
  unknown = tokenizer.unknown_rate(words) if len(words) else 1.0
  warnings = []
  if unknown:
    warnings.append(
        f"{unknown:.0%} of the word pieces are not in the vocabulary, so the "
        "model cannot read them; use words of the training reports.")
  if ids[-1] != 0:
    warnings.append(f"The text fills all {len(ids)} word pieces that the model "
                    "reads; what is behind them is cut.")
  return unknown, tuple(warnings)


def _facts(trained, case: one_study.Study, reply: Answer) -> dict:
  """The numbers of one text; see the header."""
  return {
      "text": reply.text, "tcsim": reply.tcsim,
      "global_cosine": reply.global_cosine,
      "pair_probability": float(trained.pair_probability(reply.tcsim)),
      "unknown_word_pieces": reply.unknown, "warnings": list(reply.warnings),
      **place.shares(case, reply.attention),
      "top_token": place.top_token(case, reply.attention,
                                   trained.config.vision.patch),
  }


def _print(scores: dict, out: pathlib.Path):
  for note in scores["notes"]:
    print(note)
  print(f"{'text':42s} {'tcsim':>7s} {'pair':>6s}  where")
  for n, row in enumerate(scores["texts"], 1):
    top = row["top_token"]
    print(f"{n:02d} {row['text'][:39]:39s} {row['tcsim']:7.3f} "
          f"{row['pair_probability']:6.3f}  "
          f"{', '.join(filter(None, (top['series'], top['place'])))}")
    for warning in row["warnings"]:
      print(f"   {warning}")
  print("pair: probability among the pairs of a training batch, not a risk.")
  print(f"Page: {out / 'index.html'}; all numbers: {out / 'scores.json'}")


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given = flags.FLAGS
  out = pathlib.Path(given.out)
  _print(explain(pathlib.Path(given.checkpoint), pathlib.Path(given.study), out,
                 record_name=given.record, texts=tuple(given.text),
                 step=given.step, best=given.best, dicom_seg=given.dicom_seg),
         out)


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Run directory of the model, or the "
                      "folder of a released one.", required=True)
  flags.DEFINE_integer("step", None, "Of the checkpoint; default: the newest.")
  flags.DEFINE_bool("best", False, "The checkpoint of the best validation.")
  flags.DEFINE_string("study", None, "Folder or file of one raw study, or with "
                      "--record a built data set.", required=True)
  flags.DEFINE_string("record", "", "SPLIT/STUDY of the built set that --study "
                      "names, such as test/test-00003.")
  flags.DEFINE_multi_string("text", [], "What to look for; may be given again. "
                            "With --record the default is its own report.")
  flags.DEFINE_bool("dicom_seg", False, "Write DICOM Segmentations too; needs "
                    "the extra dicom-seg.")
  flags.DEFINE_string("out", None, "Folder of the results.", required=True)
  command.run(main)
