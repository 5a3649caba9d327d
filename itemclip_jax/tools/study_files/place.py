"""Where a text's attention lies, in numbers and in words.

Words name coordinates and series, never anatomy: the model was not asked for
it, and a box of voxels is no organ.
"""

import numpy as np

from itemclip_jax.tools.study_files import one_study
from itemclip_jax.tools.study_files import overlay
from itemclip_jax.tools.figures import slices

# towards minus, towards plus, along the RAS axes
_WAYS = (("to the patient's left", "to the patient's right"),
         ("to the back", "to the front"), ("down", "up"))
_NEAR_MM = 0.5           # less is no distance worth a word


def shares(study: one_study.Study, attention: np.ndarray) -> dict:
  """Of the attention [S, d, h, w]: what scores.json says about series."""
  each = attention.sum((1, 2, 3), dtype=float)
  share = each / max(each.sum(), 1e-12)
  return {
      "attends_to_nothing": max(0.0, 1 - float(each.sum())),
      "series_share": dict(zip(study.series_names, share.tolist())),
      "best_series": study.series_names[int(np.argmax(each))],
  }


def top_token(study: one_study.Study, attention: np.ndarray,
              patch: tuple[int, int, int]) -> dict:
  """The most attended token of the study; `tools.explain` has the fields."""
  s, *token = np.unravel_index(np.argmax(attention), attention.shape)
  affine, box = study.affine[s], overlay.token_box(token, patch)
  out = {"series": study.series_names[s],
         "weight": float(attention[(s, *token)]),
         "centre_ras_mm": None, "box": box, "file_voxel": None,
         "file_box": None}
  if not slices.is_placed(affine):
    return out | {"place": _in_picture(box, study.volume.shape)}
  centre = affine @ [*overlay.token_centre(token, patch), 1]
  middle = affine @ [*(np.array(study.volume.shape[1:]) - 1) / 2, 1]
  out["centre_ras_mm"] = [round(float(x), 2) for x in centre[:3]]
  out["place"] = in_words(centre[:3], (centre - middle)[:3])
  if study.geometry[s] is not None:
    shape, grid_affine = study.geometry[s]
    voxel = np.linalg.solve(grid_affine, centre)[:3]
    out["file_voxel"] = np.rint(voxel).astype(int).tolist()
    out["file_box"] = overlay.box_on_grid(box, affine, shape=shape,
                                          grid_affine=grid_affine)
  return out


def in_words(centre: np.ndarray, off: np.ndarray) -> str:
  """A position in RAS mm, and how far off the volume's middle it lies."""
  letters = " ".join(
      f"{pair[int(mm >= 0)]}\u00a0{abs(mm):.0f}"
      for pair, mm in zip(slices.DIRECTIONS, centre))
  parts = [f"{abs(mm):.0f}\u00a0mm {ways[int(mm > 0)]}"
           for ways, mm in zip(_WAYS, off) if abs(mm) >= _NEAR_MM]
  if not parts:
    return f"in the middle of the volume ({letters}\u00a0mm)"
  listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
  return f"{listed} of the volume's middle ({letters}\u00a0mm)"


def _in_picture(box, shape) -> str:
  """For what has no place in a patient: parts of its height and width."""
  down, along = (np.mean(edges) / size
                 for edges, size in zip(box[1:], shape[2:]))
  return f"{down:.0%} of the way down, {along:.0%} from left to right"
