"""Which slices to show, in which direction, and attention between tokens."""

import numpy as np

DIRECTIONS = (("L", "R"), ("P", "A"), ("I", "S"))  # -/+ of the RAS axes


def is_picture(volume: np.ndarray, series_names) -> bool:
  """A photograph: one series without a name, whose depth is its colours."""
  return volume.shape[:2] == (1, 3) and list(series_names) == [""]


def is_placed(affine: np.ndarray) -> bool:
  """False where an affine gives the file's own axes, as of pictures and .pt.

  It is then diagonal and positive, and no contract has that order of axes:
  depth to the right, rows to the front, columns to the head.
  """
  axes = np.asarray(affine)[:3, :3]
  return not np.array_equal(axes, np.abs(axes * np.eye(3)))


def radiological(volume, attention, lesion_mask, affine):
  """Mirrors the series whose width runs to the patient's right."""
  volume, attention, affine = volume.copy(), attention.copy(), affine.copy()
  lesion_mask = None if lesion_mask is None else lesion_mask.copy()
  for s in range(len(volume)):
    width = affine[s, :3, 2]
    if width[0] <= 0 or np.argmax(np.abs(width)) != 0:
      continue
    affine[s, :3, 3] += width * (volume.shape[-1] - 1)
    affine[s, :3, 2] = -width
    for array in (volume, attention, lesion_mask):
      if array is not None:
        array[s] = array[s, ..., ::-1]
  return volume, attention, lesion_mask, affine


def upsample(
    attention: np.ndarray,   # [d, h, w] one series
    patch: tuple[int, ...],  # voxels of one token
    slices: list[int],       # stored slice numbers
) -> np.ndarray:             # [len(slices), H, W]
  """Linear interpolation between token centres, constant beyond the last."""
  depth, rows, columns = (
      _interpolation(n, p) for n, p in zip(attention.shape, patch, strict=True))
  return np.einsum("zd,dhw,yh,xw->zyx", depth[slices], attention, rows,
                   columns, optimize=True)


def pick_slices(
    attention: np.ndarray,         # [d, h, w] one series
    patch: tuple[int, ...],        # voxels of one token
    lesion: np.ndarray | None,     # [D, H, W] bool
    num_slices: int,
    tissue: np.ndarray,            # [D] bool, slices that show anatomy
) -> list[int]:
  """Slice numbers, increasing: top token, lesion's largest extent, around.

  The top token is shown at its centre. What room is left goes to the token
  layers around it, nearest first, unless they lie beyond the anatomy.
  """
  depth = attention.shape[0] * patch[0]
  centre = top_slice(attention, patch)
  wanted = [centre]
  if lesion is not None and lesion.any():
    wanted.append(largest_slice(lesion))
  wanted += sorted(range(depth), key=lambda z: (
      not tissue[z], (z - centre) % patch[0] != 0, abs(z - centre)))
  return sorted(list(dict.fromkeys(wanted))[:num_slices])


def edge_letters(affine: np.ndarray, axis: int) -> tuple[str, str]:
  """Patient directions at the low and the high end of a stored axis.

  Args:
    affine: [4, 4] stored (d, h, w) index -> RAS mm.
    axis: 0, 1 or 2 for d, h, w.
  """
  step = affine[:3, axis]
  along = int(np.argmax(np.abs(step)))
  low, high = DIRECTIONS[along]
  return (low, high) if step[along] > 0 else (high, low)


def _interpolation(tokens: int, patch: int) -> np.ndarray:
  """[tokens * patch, tokens] weights of linear interpolation, rows sum to 1."""
  at = np.clip((np.arange(tokens * patch) + 0.5) / patch - 0.5, 0, tokens - 1)
  return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(tokens)))


def top_slice(attention: np.ndarray, patch: tuple[int, ...]) -> int:
  """The middle slice of the most attended token of one series."""
  return int(np.argmax(attention.max((1, 2))) * patch[0] + patch[0] // 2)


def largest_slice(lesion: np.ndarray) -> int:
  """The slice in which a lesion covers most."""
  return int(np.argmax(lesion.sum((1, 2))))


def pixel_aspect(affine) -> float:
  """Height of a pixel over its width, 1 without an affine."""
  if affine is None:
    return 1.0
  return float(np.linalg.norm(affine[:3, 1]) / np.linalg.norm(affine[:3, 2]))
