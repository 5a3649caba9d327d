"""Writes what texts found in a study: pictures, overlays, and one page.

`tools.explain` says which files these are. A picture, which lies in no patient,
gets neither planes nor overlays.
"""

import pathlib
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.tools.study_files import dicom_seg
from itemclip_jax.tools.study_files import one_study
from itemclip_jax.tools.study_files import overlay
from itemclip_jax.tools.pages import page
from itemclip_jax.tools.figures import planes
from itemclip_jax.tools.figures import slices
from itemclip_jax.tools import visualize
from itemclip_jax.tools.study_files.raw import files as raw_files

Patch = tuple[int, int, int]
_DPI = 120


def write_text(
    out: pathlib.Path, prefix: str, study: one_study.Study,
    attention: np.ndarray,     # [S, d, h, w]
    patch: Patch, *, text: str, score: float,
    limits: tuple[float, float] | None,
) -> dict:
  """Pictures and overlays of one text; returns their names for scores.json.

  Args:
    out: folder.
    prefix: of the names.
    study: as the model saw it.
    attention: of the text.
    patch: voxels of one token.
    text: the title; where it is a finding with ground truth, the lesion is
      outlined too.
    score: TCSim.
    limits: stored values shown black and white; None: by series.
  """
  lesion, visible = _truth(study, text)
  picture, three = out / f"{prefix}.png", out / f"{prefix}_planes.png"
  names = list(study.series_names)
  visualize.attention_figure(
      study.volume, names, attention, patch, text=text, score=score,
      lesion_mask=lesion, visible=visible, affine=study.affine, limits=limits,
  ).savefig(picture, dpi=_DPI)
  figure = planes.places_figure(
      study.volume, names, attention, patch, study.affine, lesion_mask=lesion,
      limits=limits)
  if figure is not None:
    figure.savefig(three, dpi=_DPI)
  return {"picture": picture.name,
          "planes": None if figure is None else three.name,
          "overlays": _write_overlays(out, prefix, study, attention, patch)}


def write_segments(
    out: pathlib.Path, study: one_study.Study, texts: Sequence[str],
    attention: np.ndarray,     # [n, S, d, h, w]
    patch: Patch,
) -> list[dict]:
  """A DICOM Segmentation for every series where a text reaches half its peak.

  Raises:
    UserError: no series was read from DICOM files.
  """
  if not any(study.dicom):
    raise UserError("--dicom_seg needs a study of DICOM files, whose slices "
                    "it refers to; leave it out and use the NIfTI overlays.")
  peaks, written = attention.max((1, 2, 3, 4)), []
  for s, (name, files) in enumerate(zip(study.series_names, study.dicom)):
    if not files:
      continue
    sources = dicom_seg.read(files)
    voxels = dicom_seg.masks(attention[:, s], peaks, patch, study.affine[s],
                             sources)
    if voxels.any():
      path = out / f"attention_{_safe(name)}.dcm"
      dicom_seg.write(path, sources, voxels, texts, number=s + 1)
      written.append({"series": name, "file": path.name})
  return written


def write_page(out: pathlib.Path, scores: dict, study: one_study.Study):
  """index.html, from what scores.json holds and the pictures beside it."""
  images = {
      name: page.inline((out / name).read_bytes())
      for row in scores["texts"] for name in (row["picture"], row["planes"])
      if name}
  page.write(out / "index.html", page.render(
      "explain.html", name=study.name, images=images,
      picture=slices.is_picture(study.volume, study.series_names),
      has_truth=study.lesion_mask is not None, **scores))


def _truth(study: one_study.Study, text: str):
  """Lesion [S, D, H, W] and its visibility [S] of a text, or None twice."""
  if study.lesion_mask is None or text not in study.items:
    return None, None
  k = study.items.index(text)
  lesion = study.lesion_mask == k + 1
  return (lesion, study.item_visible[k] > 0) if lesion.any() else (None, None)


def _write_overlays(out, prefix, study, attention, patch) -> list[str]:
  """The names of the files, one a series, on its original's grid."""
  if slices.is_picture(study.volume, study.series_names):
    return []
  written = []
  for s, name in enumerate(study.series_names):
    original = study.geometry[s]
    # As the model was shown it, where the original is not at hand.
    shape, affine = original or (study.volume.shape[1:], study.affine[s])
    values = overlay.on_grid(attention[s], patch, study.affine[s], shape=shape,
                             grid_affine=affine)
    is_nifti = original and study.files[s].name.endswith(raw_files.NIFTI)
    written.append(f"{prefix}_{_safe(name)}.nii.gz")
    overlay.write(out / written[-1], values, affine=affine,
                  like=nib.load(study.files[s]) if is_nifti else None,
                  largest=float(attention.max()))
  return written


def _safe(name: str) -> str:
  return name.replace("/", "_")
