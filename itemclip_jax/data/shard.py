"""Records of ArrayRecord shards, checked once and then left where they lie.

ArrayRecord takes 9 ms for a chest CT of 25 MB that a plain read has in 2 ms: it
compares the record with its checksum, and copies it three times. So it reads
each large record once in a process, at its first visit; from then on whoever
asks for it is told its place in the file. A place is told only after both ways
gave the same bytes, and never where they are compressed.

The content of a shard (`data.stored`) is one chunk after another,

    header: 8 hash, 8 size of the data, 8 hash, 1 type, 7 number of records, 8
    data:   1 compression, length of the sizes, sizes, the records

little-endian, lengths and sizes in groups of seven bits. Ours hold one record.

Reference: https://github.com/google/riegeli, doc/riegeli_records_file_format.md
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import threading

from itemclip_jax.data.serialized import Layout, varint
from itemclip_jax.data.stored import Place
from itemclip_jax.errors import UserError

LARGE = 1 << 20                       # bytes, from which it is worth the effort
_CHUNK_HEADER = 40
_PROLOGUE = 32                        # bytes, more than come before a record


class Records:
  """`records[i]` -> a record and its layout; safe to read from threads.

  Raises:
    RuntimeError: ArrayRecord cannot read it.
  """

  def __init__(self, source: Sequence[bytes],
               files: Sequence[tuple[str, int, int]],
               layout: Callable[[bytes], Layout]):
    """Of one split.

    Args:
      source: ArrayRecord's.
      files: path, first record and number of records that `source` takes.
      layout: of a record; a known one keeps its own.
    """
    self._source, self._layout = source, layout
    self._numbers = [(path, first + i) for path, first, count in files
                     for i in range(count)]
    self._known: dict[int, tuple[Place, Layout]] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[bytes | Place, Layout]:
    if index in self._known:
      return self._known[index]
    record = self._source[index]
    if not record:                    # so ArrayRecord says it
      raise RuntimeError("the file was cut short")
    layout = self._layout(record)
    place = self._found(index, record) if len(record) >= LARGE else None
    if place is not None:
      self._known[index] = place, layout
    return record, layout

  def _found(self, index: int, record: bytes) -> Place | None:
    """Where the same bytes lie in the file."""
    path, number = self._numbers[index]
    try:
      with self._lock:                # one thread looks through the file
        place = _places(path)[number]
      same = place.size == len(record) and place.read().tobytes() == record
    except (OSError, AttributeError, IndexError, UserError):
      return None   # not local, no os.preadv, cut short, or of another kind
    return place if same else None


@functools.lru_cache(maxsize=4096)
def _places(path: str) -> list[Place]:
  """Of the records of a shard, up to the first that lies otherwise."""
  return list(_walk(path))


def _walk(path: str) -> Iterator[Place]:
  at = 0
  while True:
    try:
      head = Place(path, at, _CHUNK_HEADER + _PROLOGUE).read()
    except UserError:
      return                          # the end
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
