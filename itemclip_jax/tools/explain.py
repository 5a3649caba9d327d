"""Asks a trained model about one study: is it there, and where?

One raw study, laid out as for training (<study>/<series>/img.nii.gz, or a
single NIfTI file), and one or more sentences:

    python -m itemclip_jax.tools.explain --checkpoint=runs/demo \\
        --study=runs/demo/data/raw/test/test-00003 --out=runs/explain \\
        --text="Large cyst in the left frontal lobe." \\
        --text="Acute infarct of the brainstem."

One record of a built set; without --text, what its own report says:

    python -m itemclip_jax.tools.explain --checkpoint=runs/demo \\
        --study=runs/demo/data --record=test/test-00003 --out=runs/explain

Raw files are prepared as the training set was; a study that cannot be is
refused. In the folder --out, for text number 01, 02, ...:

    01.png               slices of every series under the attention
    01_<series>.nii.gz   attention on the grid of the series' own file, to be
                         laid over it in any viewer: the weight of the token
                         around a voxel, 0 where the model was shown nothing
    scores.json          written last:

      checkpoint, step, study, notes   what was asked; what was left out
      series    [{name, file}]   file: null where the original is not at hand
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
                             weight, centre_ras_mm (to the patient's right,
                             front, head), box (stored voxels [first, last + 1]
                             along d, h, w), file_voxel and file_box (the same
                             in the series' own file, null without it)}
        picture, overlays    files beside scores.json }]

This is a research tool, not a medical device.
"""

import dataclasses
import pathlib

from absl import flags
from absl import logging
import jax
import nibabel as nib
import numpy as np

from itemclip_jax.data import series_name
from itemclip_jax.errors import UserError
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import command
from itemclip_jax.tools import one_study
from itemclip_jax.tools import overlay
from itemclip_jax.tools import visualize
from itemclip_jax.train import trained as trained_lib
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
  vision = trained.config.vision
  grid = tuple(v // p for v, p in zip(vision.volume_shape, vision.patch))
  S = len(study.series_names)
  names = np.stack([series_name.codes(n, vision.name_length)
                    for n in study.series_names])
  ids = trained.tokenizer(texts)
  encoder, params = trained.encoder, trained.params
  with jax.set_mesh(trained.mesh):
    encoded = encoder.studies(params, study.volume[None], np.ones((1, S), bool),
                              names[None])
    asked = encoder.texts(params, ids)
    local, overall = encoder.scores(params, encoded, asked)
    weights = encoder.attention(encoded, asked, np.arange(len(texts))[None])
  local, overall, weights = jax.device_get((local[0], overall[0], weights[0]))
  return [
      Answer(text, float(local[n]), float(overall[n]),
             np.asarray(weights[n], np.float32).reshape(S, *grid),
             *_reading(trained.tokenizer, ids[n]))
      for n, text in enumerate(texts)]


def explain(checkpoint: pathlib.Path, study: pathlib.Path, out: pathlib.Path,
            *, record_name: str = "", texts: tuple[str, ...] = ()) -> dict:
  """Does what the header says; returns what scores.json holds.

  Raises:
    UserError: there is no study.
    UserError: a text is empty, or model, study and texts do not fit one
      another.
  """
  if empty := [n for n, text in enumerate(texts, 1) if not text.strip()]:
    raise UserError(f"Text {empty[0]} of {len(texts)} is empty; say what to "
                    "look for.")
  print(f"Loading the newest checkpoint of {checkpoint} ...", flush=True)
  trained = trained_lib.load(checkpoint, make_mesh(1, 1, jax.devices()[:1]))
  print(f"Reading {record_name or study} ...", flush=True)
  case = _read(trained, checkpoint, study, record_name)
  texts = texts or case.items
  if not texts:
    raise UserError("There is no --text, and raw files come without a report; "
                    "say what to look for: --text=\"…\".")
  print(f"Compiling for {len(case.series_names)} series, some seconds ...",
        flush=True)
  answers = answer(trained, case, list(texts))
  out.mkdir(parents=True, exist_ok=True)
  rows = []
  for n, reply in enumerate(answers, 1):
    picture = out / f"{n:02d}.png"
    _draw(picture, trained, case, reply)
    files = _write_overlays(out, f"{n:02d}", trained, case, reply)
    rows.append(_facts(trained, case, reply) | {
        "picture": picture.name, "overlays": [f.name for f in files]})
  scores = {
      "checkpoint": str(checkpoint), "step": trained.step,
      "study": record_name or str(study), "notes": list(case.notes),
      "series": [{"name": n, "file": None if f is None else str(f)}
                 for n, f in zip(case.series_names, case.files)],
      "texts": rows}
  write_json(out / "scores.json", scores)
  return scores


def _read(trained, checkpoint, study, record_name) -> one_study.Study:
  if record_name:
    case = one_study.read_record(
        study, record_name, trained.contract,
        checkpoint=f"the checkpoint in {checkpoint}")
  else:
    case = one_study.read_raw(study, trained.contract)
  return case.cut(trained.config.data.max_series)


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


def _draw(path: pathlib.Path, trained, case: one_study.Study, reply: Answer):
  """Outlines the lesion too where the text is a finding with ground truth."""
  lesion, visible = None, None
  if case.lesion_mask is not None and reply.text in case.items:
    k = case.items.index(reply.text)
    if (case.lesion_mask == k + 1).any():
      lesion, visible = case.lesion_mask == k + 1, case.item_visible[k] > 0
  visualize.attention_figure(
      case.volume, list(case.series_names), reply.attention,
      trained.config.vision.patch, text=reply.text, score=reply.tcsim,
      lesion_mask=lesion, visible=visible, affine=case.affine,
  ).savefig(path, dpi=120)


def _write_overlays(out: pathlib.Path, prefix: str, trained,
                    case: one_study.Study, reply: Answer) -> list[pathlib.Path]:
  written = []
  for s, name in enumerate(case.series_names):
    original = nib.load(case.files[s]) if case.files[s] else None
    shape, affine = case.volume.shape[1:], case.affine[s]
    if original is not None:
      shape, affine = original.shape, original.affine
    values = overlay.on_grid(
        reply.attention[s], trained.config.vision.patch, case.affine[s],
        shape=shape, grid_affine=affine)
    written.append(out / f"{prefix}_{name.replace('/', '_')}.nii.gz")
    overlay.write(written[-1], values, like=original, affine=affine,
                  largest=float(reply.attention.max()))
  return written


def _facts(trained, case: one_study.Study, reply: Answer) -> dict:
  """The numbers of one text; see the header."""
  each = reply.attention.sum((1, 2, 3), dtype=float)
  share = each / max(each.sum(), 1e-12)
  return {
      "text": reply.text, "tcsim": reply.tcsim,
      "global_cosine": reply.global_cosine,
      "pair_probability": float(trained.pair_probability(reply.tcsim)),
      "unknown_word_pieces": reply.unknown, "warnings": list(reply.warnings),
      "attends_to_nothing": max(0.0, 1 - float(each.sum())),
      "series_share": dict(zip(case.series_names, share.tolist())),
      "best_series": case.series_names[int(np.argmax(each))],
      "top_token": _top_token(trained.config.vision.patch, case,
                              reply.attention),
  }


def _top_token(patch, case: one_study.Study, attention: np.ndarray) -> dict:
  s, *token = np.unravel_index(np.argmax(attention), attention.shape)
  affine, box = case.affine[s], overlay.token_box(token, patch)
  centre = affine @ [*overlay.token_centre(token, patch), 1]
  voxel, file_box = None, None
  if case.files[s] is not None:
    image = nib.load(case.files[s])
    voxel = np.linalg.solve(image.affine, centre)[:3]
    voxel = np.rint(voxel).astype(int).tolist()
    file_box = overlay.box_on_grid(box, affine, shape=image.shape,
                                   grid_affine=image.affine)
  return {"series": case.series_names[s],
          "weight": float(attention[(s, *token)]),
          "centre_ras_mm": [round(float(x), 2) for x in centre[:3]],
          "box": box, "file_voxel": voxel, "file_box": file_box}


def _print(scores: dict, out: pathlib.Path):
  for note in scores["notes"]:
    print(note)
  print(f"{'text':42s} {'tcsim':>7s} {'pair':>6s}  best series")
  for n, row in enumerate(scores["texts"], 1):
    best = row["best_series"]
    print(f"{n:02d} {row['text'][:39]:39s} {row['tcsim']:7.3f} "
          f"{row['pair_probability']:6.3f}  {best} "
          f"({row['series_share'][best]:.0%} of attention)")
    for warning in row["warnings"]:
      print(f"   {warning}")
  print("pair: probability among the pairs of a training batch, not a risk.")
  print(f"Scores: {out / 'scores.json'}; pictures {out}/NN.png; overlays "
        f"{out}/NN_<series>.nii.gz")


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)  # Orbax warns of reading only
  given = flags.FLAGS
  out = pathlib.Path(given.out)
  _print(explain(pathlib.Path(given.checkpoint), pathlib.Path(given.study), out,
                 record_name=given.record, texts=tuple(given.text)), out)


if __name__ == "__main__":
  flags.DEFINE_string("checkpoint", None, "Run directory of the model; its "
                      "newest checkpoint is used.", required=True)
  flags.DEFINE_string("study", None, "Folder of one raw study, one NIfTI file, "
                      "or with --record a built data set.", required=True)
  flags.DEFINE_string("record", "", "SPLIT/STUDY of the built set that --study "
                      "names, such as test/test-00003.")
  flags.DEFINE_multi_string("text", [], "What to look for; may be given again. "
                            "With --record the default is its own report.")
  flags.DEFINE_string("out", None, "Folder of the results.", required=True)
  command.run(main)
