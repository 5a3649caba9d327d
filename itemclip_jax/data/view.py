"""What a model sees of stored voxels, whether they are read already or not."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from itemclip_jax.data.stored import Unread


@dataclasses.dataclass(frozen=True)
class View:
  """A window of stored voxels, padded where there are none, then flipped.

  Attributes:
    shape: D, H, W of it.
    offset: [3] int as in `volume.fit`, None: in the middle.
    flips: [3] bool, axes on which voxel i becomes voxel n - 1 - i.
  """
  shape: tuple[int, int, int]
  offset: np.ndarray | None = None
  flips: tuple[bool, bool, bool] = (False,) * 3

  def stack(
      self,
      stored: Sequence[np.ndarray | Unread],  # S series of one shape and type
      fill: float = 0.0,
  ) -> np.ndarray:                            # [S, *shape]
    """A copy of what it shows of all series."""
    out = np.empty((len(stored), *self.shape), stored[0].dtype)
    for i, row in enumerate(out):
      self.copy(stored[i], row, fill)
    return out

  def copy(
      self,
      stored: np.ndarray | Unread,            # one series
      out: np.ndarray,                        # [*shape] of the same type
      fill: float = 0.0,
  ):
    """Writes all of `out`.

    Raises:
      ValueError: the offset cuts and pads the same axis.
    """
    offset = self._offset(stored.shape)
    start, before = np.maximum(offset, 0), np.maximum(-offset, 0)
    size = np.minimum(np.subtract(stored.shape, start),
                      np.subtract(self.shape, before))
    out = np.flip(out, np.flatnonzero(self.flips))
    for axis, (a, b) in enumerate(zip(before, before + size)):
      planes = np.moveaxis(out, axis, 0)
      planes[:a] = planes[b:] = fill
      out = np.moveaxis(planes[a:b], 0, axis)
    if isinstance(stored, Unread):
      stored.read(out, start)
    else:
      out[...] = stored[tuple(map(slice, start, start + size))]

  def affine(
      self,
      stored: np.ndarray,                     # [4, 4] of the stored voxels
      have: tuple[int, int, int],             # their D, H, W
  ) -> np.ndarray:                            # [4, 4] float64
    """Where its voxels lie in the patient."""
    window = np.eye(4)
    window[:3, 3] = self._offset(have)
    axes, flip = np.flatnonzero(self.flips), np.eye(4)
    flip[axes, axes], flip[axes, 3] = -1, np.array(self.shape)[axes] - 1
    return stored @ window @ flip

  def _offset(self, have: tuple[int, int, int]) -> np.ndarray:
    slack = np.subtract(have, self.shape)
    if self.offset is None:
      return np.trunc(slack / 2).astype(int)
    offset = np.asarray(self.offset, int)
    if np.any((offset < np.minimum(slack, 0)) |
              (offset > np.maximum(slack, 0))):
      raise ValueError(
          f"Offset {offset.tolist()} both cuts and pads an axis where {have} "
          f"becomes {self.shape}; choose each between 0 and "
          f"{slack.tolist()}.")
    return offset
