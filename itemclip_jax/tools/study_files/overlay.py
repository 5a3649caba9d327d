"""Attention on any grid in the patient, as a NIfTI overlay.

Attention belongs to tokens, boxes of `patch` stored voxels. Its value at a
point is interpolated linearly between token centres, is constant beyond the
outermost, and 0 where the model was shown nothing:

    voxel x of a grid --its affine--> patient mm --inv(stored affine)--> stored
    index i --(i + 1/2) / patch - 1/2--> token index

so that the file can be laid over the original in any viewer.
"""

import pathlib

import nibabel as nib
import numpy as np
from scipy import ndimage


def on_grid(
    attention: np.ndarray,     # [d, h, w] one series
    patch: tuple[int, int, int],
    affine: np.ndarray,        # [4, 4] stored (d, h, w) -> mm
    *,
    shape: tuple[int, int, int],
    grid_affine: np.ndarray,   # [4, 4] index of the wanted grid -> mm
) -> np.ndarray:               # `shape` float32
  """Samples the attention of one series at the voxel centres of a grid."""
  to_stored = _to_stored(affine, grid_affine)
  column = lambda x: np.asarray(x, float)[:, None, None]
  patch, size = column(patch), column(np.multiply(attention.shape, patch))
  rows, columns = np.ogrid[:shape[1], :shape[2]]
  out = np.zeros(shape, np.float32)
  for i in range(shape[0]):  # by planes: coordinates are six times the output
    at = np.stack([r[0] * i + r[1] * rows + r[2] * columns + r[3]
                   for r in to_stored])
    values = ndimage.map_coordinates(attention, (at + 0.5) / patch - 0.5,
                                     order=1, mode="nearest")
    shown = (np.abs(at + 0.5 - size / 2) <= size / 2).all(0)
    out[i] = np.where(shown, values, 0)
  return out


def token_centre(token, patch) -> np.ndarray:
  """Token (d, h, w) -> its centre as a stored index."""
  return (np.asarray(token) + 0.5) * np.asarray(patch) - 0.5


def token_box(token, patch) -> list[list[int]]:
  """Token (d, h, w) -> [[first, last + 1], ...] stored voxels of each axis."""
  return [[int(t * p), int((t + 1) * p)] for t, p in zip(token, patch)]


def box_on_grid(
    box: list[list[int]],
    affine: np.ndarray,        # [4, 4] stored (d, h, w) -> mm
    *,
    shape: tuple[int, int, int],
    grid_affine: np.ndarray,   # [4, 4] index of the wanted grid -> mm
) -> list[list[int]]:
  """The box around a stored box on another grid, cut where the grid ends."""
  corners = np.stack(np.meshgrid(*np.asarray(box) - 0.5, [1.0]), -1)
  to_grid = np.linalg.inv(grid_affine) @ affine
  corners = corners.reshape(-1, 4) @ to_grid[:3].T
  low = np.ceil(corners.min(0) - 1e-3).clip(0, shape)
  high = np.floor(corners.max(0) + 1e-3).clip(-1, np.subtract(shape, 1)) + 1
  return np.stack([low, high], 1).astype(int).tolist()


def write(path: pathlib.Path, values: np.ndarray, *,
          like: nib.Nifti1Image | None, affine: np.ndarray, largest: float):
  """Writes an overlay with the geometry of the image that it belongs to.

  Args:
    path: ends in .nii.gz.
    values: the attention, of the shape of `like`.
    like: the original; None: there is none, `affine` is all that is known.
    affine: [4, 4] index of `values` -> RAS mm.
    largest: top of the viewer's scale, the same for all series of a text.
  """
  image = nib.Nifti1Image(values.astype(np.float32), affine)
  if like is not None:
    # These and nothing else: other fields may hold the patient's name.
    for get, put in ((like.get_sform, image.set_sform),
                     (like.get_qform, image.set_qform)):
      put(*get(coded=True))
    image.header["xyzt_units"] = like.header["xyzt_units"]
  image.header["cal_min"], image.header["cal_max"] = 0, largest
  image.header["descrip"] = b"itemclip_jax attention"
  nib.save(image, path)


def _to_stored(affine, grid_affine) -> np.ndarray:
  """[3, 4]: index of the grid -> stored index."""
  return (np.linalg.inv(np.asarray(affine, float)) @ grid_affine)[:3]
