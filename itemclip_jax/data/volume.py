"""Geometry and intensity of 3-D volumes. Plain NumPy.

A volume travels with its affine A: the patient position in RAS millimetres
(x to the right, y to the front, z to the head) of voxel (d, h, w) is
A @ (d, h, w, 1). Every step below that moves voxels returns the new affine, so
that a position in a stored volume can always be traced to the patient.

The resampling is that of the published code of HLIP (arXiv 2505.21862). MRI:
padding to a square, bilinear in the plane, nearest slice along the depth, a
centre crop. CT: Hounsfield units, trilinear to one spacing, padding with air or
a crop. Voxel centres lie at half indices; nothing is low-pass filtered.
"""

import dataclasses
from typing import Literal

import numpy as np

from itemclip_jax.data.view import View

# Percentiles that become 0 and 255 (HLIP's brain MRI scripts).
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
TISSUE_SHARE = 0.1       # of the high percentile: darker voxels are no tissue
MEDIANS = 2.0            # of the tissue, at the top of the stored range: dark
                         # and bright lesions are then equally far from it

# How raw intensities, whose unit is arbitrary in MRI, become 0..255.
INTENSITY = {
    "percentiles": f"percentiles {LOW_PERCENTILE}..{HIGH_PERCENTILE} of each "
                   "series -> 0..255",
    "median": f"0..{MEDIANS} medians of the tissue of each series -> 0..255",
}

# Centre and width in Hounsfield units, -1150 .. 350, of the chest CT loaders.
CHEST_WINDOW = (-400.0, 1500.0)


@dataclasses.dataclass(frozen=True)
class Volume:
  """voxels: [D, H, W]; affine: [4, 4] float64, (d, h, w) -> RAS mm."""
  voxels: np.ndarray
  affine: np.ndarray

  @property
  def shape(self) -> tuple[int, int, int]:
    return self.voxels.shape

  @property
  def spacing_mm(self) -> np.ndarray:  # [3]
    return np.linalg.norm(self.affine[:3, :3], axis=0)


def rescale(voxels: np.ndarray, intensity: str = "percentiles") -> np.ndarray:
  """Clips and maps to 0..255; float32 out.

  "percentiles" is HLIP's rule. It sets a lesion that fills less than half a per
  cent of the volume as bright as the brightest tissue, and lets a larger one
  darken all the rest. "median" leaves tissue where it is in either case.

  Raises:
    ValueError: the volume has one value only, or values that are not finite.
  """
  voxels = voxels.astype(np.float32)
  if not np.isfinite(voxels).all():
    raise ValueError("the volume holds values that are not finite")
  low, high = np.percentile(voxels, (LOW_PERCENTILE, HIGH_PERCENTILE))
  if low == high:  # e.g. a small object on an empty ground
    low, high = voxels.min(), voxels.max()
  if low == high:
    raise ValueError("the volume is constant")
  if intensity == "median":
    tissue = voxels[voxels > low + TISSUE_SHARE * (high - low)]
    high = low + MEDIANS * (np.median(tissue) - low)
  np.clip(voxels, low, high, out=voxels)
  voxels -= np.float32(low)
  voxels *= np.float32(255.0 / (high - low))
  return voxels


def hounsfield(
    stored: np.ndarray,  # [...] numbers of the file
    *,
    slope: float,
    intercept: float,
) -> np.ndarray:         # [...] float32, float64 for wide types
  """slope * stored + intercept.

  The published script converts both factors to the type of the file, which
  makes 0 of a slope of 1/2 in a file of integers; ours computes in floats.
  """
  stored = stored.astype(np.promote_types(stored.dtype, np.float32))
  return stored * float(slope) + float(intercept)


def clip_to_window(
    volume: Volume,
    window: tuple[float, float],  # centre, width
) -> Volume:
  """Clips, float32 out; to be done before a resize, as it shifts edges."""
  centre, width = window
  return dataclasses.replace(volume, voxels=np.clip(
      volume.voxels.astype(np.float32), centre - width / 2, centre + width / 2))


def fit(
    volume: Volume,
    shape: tuple[int, int, int],
    *,
    offset: np.ndarray | None = None,  # [3] int, None: in the middle
    fill: float = 0.0,
) -> Volume:
  """Cuts the axes that are too long and pads with `fill` those too short.

  Args:
    volume: any size.
    shape: the size wanted.
    offset: old index of the new first voxel: where a cut starts, or minus the
      number of voxels padded ahead. See `random_offset`.
    fill: for CT the lower end of the window, air.

  Raises:
    ValueError: an offset cuts and pads the same axis.
  """
  view = View(shape, offset)
  (voxels,) = view.stack([volume.voxels], fill)
  return Volume(voxels, view.affine(volume.affine, volume.shape))


def random_offset(
    have: tuple[int, int, int],
    want: tuple[int, int, int],
    rng: np.random.Generator,
) -> np.ndarray:  # [3] int
  """Offsets for `fit`, uniform over all the slack; for training on CT."""
  slack = np.subtract(have, want)
  return rng.integers(np.minimum(slack, 0), np.maximum(slack, 0), endpoint=True)


def pad_to_square(volume: Volume, fill: float = 0.0) -> Volume:
  """Pads height or width, half on each side, until they are equal."""
  D, H, W = volume.shape
  side = max(H, W)
  return fit(volume, (D, side, side), fill=fill)


def resize(
    volume: Volume,
    shape: tuple[int, int, int],
    *,
    depth: Literal["nearest", "linear"] = "nearest",
) -> Volume:
  """Nearest slices or linear along depth, bilinear in the plane; float32."""
  ratio = np.divide(volume.shape, shape)  # old voxels per new voxel
  voxels = volume.voxels.astype(np.float32)
  if depth == "linear":
    voxels = _linear(voxels, shape[0], axis=0)
  elif shape[0] != volume.shape[0]:
    voxels = voxels[((np.arange(shape[0]) + 0.5) * ratio[0]).astype(int)]
  voxels = _linear(_linear(voxels, shape[1], axis=1), shape[2], axis=2)
  # Centre of new voxel i lies at (i + 1/2) * ratio - 1/2 of the old index.
  return _moved(volume, voxels, offset=ratio / 2 - 0.5, scale=ratio)


def resample(
    volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
  """Trilinear to (nearly) a spacing; float32 out.

  The size is rounded down, as published, and covers the same field of view: so
  the true spacing, which the affine states, is up to one part in `size` wider.

  Raises:
    ValueError: the volume is thinner than one voxel of that spacing.
  """
  size = volume.shape * volume.spacing_mm / spacing_mm
  shape = tuple(size.astype(int).tolist())
  if min(shape) < 1:
    raise ValueError(
        f"A volume of {volume.shape} voxels of {volume.spacing_mm.tolist()} mm "
        f"is thinner than one voxel of {spacing_mm} mm; ask for a finer "
        "spacing or leave it out.")
  return resize(volume, shape, depth="linear")


def centre_crop(volume: Volume, shape: tuple[int, int, int]) -> Volume:
  """Cuts the middle out; a volume smaller than `shape` is an error."""
  if any(have < want for have, want in zip(volume.shape, shape)):
    raise ValueError(f"Cannot crop {shape} from a volume of {volume.shape}; "
                     "resize to at least that shape first.")
  return fit(volume, shape)


def to_grid(
    volume: Volume,
    *,
    resize_to: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> Volume:
  """HLIP's geometry of MRI and head CT; float32 out."""
  return centre_crop(resize(pad_to_square(volume), resize_to), shape)


def conform(
    volume: Volume,
    *,
    resize_to: tuple[int, int, int],
    shape: tuple[int, int, int],
    intensity: str = "percentiles",   # a key of INTENSITY
) -> Volume:
  """Raw intensities on the scanner's grid -> uint8 on the contract's grid."""
  volume = dataclasses.replace(
      volume, voxels=rescale(volume.voxels, intensity))
  volume = to_grid(volume, resize_to=resize_to, shape=shape)
  return dataclasses.replace(
      volume, voxels=np.rint(volume.voxels).astype(np.uint8))


def sample_labels(
    labels: Volume,
    *,
    shape: tuple[int, int, int],
    affine: np.ndarray,  # [4, 4] of the wanted grid
) -> np.ndarray:         # `shape`, dtype of the labels
  """Nearest-neighbour label map on another grid; 0 outside of it."""
  to_source = np.linalg.inv(labels.affine) @ affine
  axes = np.ogrid[tuple(slice(n) for n in shape)]
  index = []
  for row, size in zip(to_source[:3], labels.shape):
    # Leaving zeros out keeps the arrays small where axes run in parallel.
    at = row[3] + sum(r * a for r, a in zip(row, axes) if r)
    at = np.floor(at + 0.5).clip(-1, size)
    index.append(at.astype(np.int32) + 1)     # 0 and size + 1: the padding
  return np.pad(labels.voxels, 1)[tuple(index)]


def _linear(x: np.ndarray, size: int, axis: int) -> np.ndarray:
  """Linear interpolation along one axis; the border is replicated."""
  have = x.shape[axis]
  if have == size:
    return x
  at = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
  low = np.minimum(at.astype(int), max(have - 2, 0))
  high = np.minimum(low + 1, have - 1)
  weight = (at - low).astype(np.float32)
  weight = weight.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
  return x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight


def _moved(volume: Volume, voxels, *, offset, scale=(1, 1, 1)) -> Volume:
  """New voxels whose index i lies at `scale * i + offset` of the old one."""
  step = np.diag([*np.asarray(scale, float), 1.0])
  step[:3, 3] = offset
  return Volume(voxels=voxels, affine=volume.affine @ step)
