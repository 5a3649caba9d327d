"""Records of ArrayRecord shards, checked once and then read as fast as files.

ArrayRecord takes 9 ms for a chest CT of 25 MB that a plain read has in 2 ms: it
compares the record with its checksum, and copies it three times. So it reads
each large record once in a process, at its first visit; from then on the bytes
come straight from the file. A record is read so only after both ways gave the
same bytes, and never where it is compressed.

A shard is a Riegeli file: blocks of 64 KiB, each with a header of 24 bytes that
is no content. Taken together, the content is one chunk after another,

    header: 8 hash, 8 size of the data, 8 hash, 1 type, 7 number of records, 8
    data:   1 compression, length of the sizes, sizes, the records

little-endian, lengths and sizes in groups of seven bits. Ours hold one record.

Reference: https://github.com/google/riegeli, doc/riegeli_records_file_format.md
"""

from collections.abc import Iterator, Sequence
import functools
import os
import threading
from typing import NamedTuple

import numpy as np

from itemclip_jax.data.serialized import varint

LARGE = 1 << 20                       # bytes, from which it is worth the effort
_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_CONTENT = _BLOCK - _BLOCK_HEADER     # of a block
_BLOCKS = 500                         # of one call: it takes 1024 buffers
_PROLOGUE = 32                        # bytes, more than come before a record


class Place(NamedTuple):
  """Where a record lies: the file, and bytes of the content."""
  path: str
  begin: int
  size: int


class Records:
  """`records[i]` -> the bytes of a record; safe to read from threads.

  Raises:
    RuntimeError: ArrayRecord cannot read it.
  """

  def __init__(self, source: Sequence[bytes],
               files: Sequence[tuple[str, int, int]]):
    """Of one split.

    Args:
      source: ArrayRecord's.
      files: path, first record and number of records that `source` takes.
    """
    self._source = source
    self._numbers = [(path, first + i) for path, first, count in files
                     for i in range(count)]
    self._known: dict[int, Place] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> bytes | np.ndarray:
    if index in self._known:
      found = read(self._known[index])
      if found is not None:
        return found
    record = self._source[index]
    if not record:                    # so ArrayRecord says it
      raise RuntimeError("the file was cut short")
    if len(record) >= LARGE and index not in self._known:
      self._learn(index, record)
    return record

  def _learn(self, index: int, record: bytes):
    path, number = self._numbers[index]
    try:
      with self._lock:                # one thread looks through the file
        place = _places(path)[number]
      same = place.size == len(record) and read(place).tobytes() == record
    except (OSError, AttributeError, IndexError):
      return    # not local, no os.preadv, cut short, or another kind of file
    if same:
      self._known[index] = place


def read(place: Place) -> np.ndarray | None:  # [size] uint8
  """The bytes at a place, by a call for many blocks; None: there are fewer."""
  out = np.empty(place.size, np.uint8)
  view, header = memoryview(out), bytearray(_BLOCK_HEADER)
  file = os.open(place.path, os.O_RDONLY)
  try:
    done = 0
    while done < place.size:
      block, inside = divmod(place.begin + done, _CONTENT)
      first = done - inside           # where in `out` the block would begin
      buffers = []
      for begin in range(first, min(place.size, first + _BLOCKS * _CONTENT),
                         _CONTENT):
        buffers += [view[max(begin, done):begin + _CONTENT], header]
      buffers.pop()                   # what follows the last piece
      wanted = sum(map(len, buffers))
      if os.preadv(file, buffers,
                   block * _BLOCK + _BLOCK_HEADER + inside) < wanted:
        return None
      done = min(begin + _CONTENT, place.size)
    return out
  finally:
    os.close(file)


@functools.lru_cache(maxsize=4096)
def _places(path: str) -> list[Place]:
  """Of the records of a shard, up to the first that lies otherwise."""
  return list(_walk(path))


def _walk(path: str) -> Iterator[Place]:
  at = 0
  while (head := read(Place(path, at, _CHUNK_HEADER + _PROLOGUE))) is not None:
    size = int.from_bytes(head[8:16], "little")
    kind, count = head[24], int.from_bytes(head[25:32], "little")
    if kind == ord("r"):
      data = memoryview(head)[_CHUNK_HEADER:]
      if count != 1 or data[0]:
        return
      length, sizes = varint(data, 1)
      record, begin = varint(data, sizes)
      if begin != sizes + length:
        return
      yield Place(path, at + _CHUNK_HEADER + begin, record)
    at += _CHUNK_HEADER + size
