"""Bytes where they lie in a shard, and voxels that are read when needed.

A shard is a Riegeli file: blocks of 64 KiB, each with a header of 24 bytes that
is no content. Places count bytes of the content, which is what is left when the
headers are taken out.

A chest CT of 25 MB costs as much as its way through memory. So its voxels stay
in the file until it is known where they go: as they lie they are read right to
there, and a window of them passes through a slab that stays in the processor.

Reference: https://github.com/google/riegeli, doc/riegeli_records_file_format.md
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import BinaryIO, NamedTuple

import numpy as np

from itemclip_jax.errors import UserError

_BLOCK, _BLOCK_HEADER = 1 << 16, 24
_CONTENT = _BLOCK - _BLOCK_HEADER     # of a block
_BLOCKS = 500                         # of one call: it takes 1024 buffers
_SLAB = 1 << 20                       # bytes; fits in the cache of a core


class Place(NamedTuple):
  """Where bytes lie: the file, and the first and the number of its content."""
  path: str
  begin: int
  size: int

  def part(self, begin: int, end: int) -> "Place":
    """Bytes [begin, end) of these."""
    return Place(self.path, self.begin + begin, end - begin)

  def read(self, spans: Sequence[tuple[int, int]] | None = None
           ) -> np.ndarray:              # [number of bytes] uint8
    """All of these bytes, or [begin, end) of some spans one after another.

    Raises:
      UserError: the file has fewer.
    """
    spans = [(0, self.size)] if spans is None else spans
    out = np.empty(sum(end - begin for begin, end in spans), np.uint8)
    at = 0
    with open(self.path, "rb", buffering=0) as file:
      for begin, end in spans:
        _fill(file, self.begin + begin, out[at:at + end - begin])
        at += end - begin
    return out


@dataclasses.dataclass(frozen=True)
class Unread:
  """Voxels in their file. An index takes a series, `np.asarray` reads all.

  place: of their bytes; shape: [S, D, H, W], or [D, H, W] of a series.
  """
  place: Place
  shape: tuple[int, ...]
  dtype: np.dtype

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: int) -> "Unread":
    index = range(len(self))[index]
    size = self.place.size // len(self)
    return Unread(self.place.part(index * size, (index + 1) * size),
                  self.shape[1:], self.dtype)

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    if copy is False:
      raise ValueError("Voxels in a file cannot be read without a copy.")
    return self.place.read().view(self.dtype).reshape(self.shape).astype(
        dtype or self.dtype, copy=False)

  def read(
      self,
      out: np.ndarray,                       # [d, h, w], of any strides
      start: tuple[int, int, int] = (0, 0, 0),
  ):
    """Fills `out` with the window of a series that begins at `start`.

    Raises:
      ValueError: `out` has another type, or is not within the series.
      UserError: the file has fewer bytes.
    """
    have, want = np.array(self.shape), np.array(out.shape)
    if out.dtype != self.dtype or (start + want > have).any():
      raise ValueError(f"{have} voxels of {self.dtype} do not fill {want} of "
                       f"{out.dtype} from {start} on.")
    (_, H, W), (d, h, w), (z, y, x) = self.shape, out.shape, start
    width, plane = self.dtype.itemsize, H * W
    with open(self.place.path, "rb", buffering=0) as file:
      if out.flags.c_contiguous and (h, w) == (H, W):
        _fill(file, self.place.begin + z * plane * width, out)
        return
      step = max(_SLAB // (plane * width), 1)    # slices
      slab = np.empty((min(step, d), H, W), self.dtype)
      for first in range(0, d, step):
        n = min(step, d - first)
        # From the first row that is wanted to the last.
        begin, end = y * W, (n - 1) * plane + (y + h) * W
        _fill(file, self.place.begin + ((z + first) * plane + begin) * width,
              slab.reshape(-1)[begin:end])
        out[first:first + n] = slab[:n, y:y + h, x:x + w]


def _fill(file: BinaryIO, begin: int, out: np.ndarray):
  """Reads content into a contiguous array, by a call for many blocks."""
  view = memoryview(out.reshape(-1).view(np.uint8))
  header, done = bytearray(_BLOCK_HEADER), 0
  while done < len(view):
    block, inside = divmod(begin + done, _CONTENT)
    first = done - inside               # where in `out` the block would begin
    buffers = []
    for at in range(first, min(len(view), first + _BLOCKS * _CONTENT),
                    _CONTENT):
      buffers += [view[max(at, done):at + _CONTENT], header]
    buffers.pop()                       # what follows the last piece
    wanted = sum(map(len, buffers))
    if os.preadv(file.fileno(), buffers,
                 block * _BLOCK + _BLOCK_HEADER + inside) < wanted:
      raise UserError(f"{file.name} was cut short. Delete the set and build it "
                      "again with data_pipelines.prepare.")
    done = min(at + _CONTENT, len(view))
