"""Lines of the input: which there are, whether they are sound, what they hold.

A file is read twice, a line in memory at a time. The first reading refuses it
before any work is done (and paid): lines that are no record, ids that come
twice. Errors name the line and the id, never the text.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import tqdm

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.contract import Record

MAX_BYTES = 1 << 26   # of a line: no report, but a file without line ends
MAX_SHOWN = 5         # mistakes told at once


class Line(NamedTuple):
  """A line that is not blank. number: from 1, blank lines counted."""
  file: str
  number: int
  raw: bytes

  def where(self) -> str:
    return f"line {self.number} of {self.file}"

  def record(self) -> tuple[Record, tuple[str, ...]]:
    """What it holds, and warnings.

    Raises:
      PrepareError: it is no record.
    """
    text, warnings = _decoded(self.raw)
    try:
      value = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise PrepareError(f"Line {self.number} of {self.file} is not JSON; want "
                         "one object a line.") from error
    return Record.from_json(value, self.where()), warnings


@dataclasses.dataclass(frozen=True)
class Lines:
  """The first `stop` lines of a file but for `start`; a sized iterable."""
  path: pathlib.Path
  start: int
  stop: int

  def __len__(self) -> int:
    return self.stop - self.start

  def __iter__(self) -> Iterator[Line]:
    for number, line in enumerate(read(self.path)):
      if number >= self.stop:
        return
      if number >= self.start:
        yield line


def read(path: pathlib.Path) -> Iterator[Line]:
  """Every line that is not blank.

  Raises:
    PrepareError: there is no such file, or it is no text of short lines.
  """
  try:
    file = open(path, "rb")
  except OSError as error:
    raise PrepareError(f"{path} cannot be read ({error.strerror}); give a file "
                       "of one JSON object a line.") from error
  with file:
    for number, raw in enumerate(
        iter(lambda: file.readline(MAX_BYTES), b""), 1):
      if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PrepareError(f"{path} is UTF-16; save it as UTF-8.")
      if len(raw) == MAX_BYTES:
        raise PrepareError(f"Line {number} of {path} has more than "
                           f"{MAX_BYTES >> 20} MB; want one report a line.")
      if raw.strip():
        yield Line(path.name, number, raw)


def survey(path: pathlib.Path, limit: int | None = None) -> Lines:
  """Checks the first `limit` lines, or all.

  Raises:
    PrepareError: some line is no record, an id comes twice, or there is none.
  """
  # Eight bytes of a digest: hundreds of thousands of ids may be long.
  seen, faults, num_faults, count = set(), [], 0, 0
  for line in tqdm.tqdm(read(path), desc="checking lines", unit="line",
                        mininterval=0.5, disable=None):
    if limit is not None and count == limit:
      break
    count += 1
    try:
      name = line.record()[0].id
      digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
      if digest in seen:
        raise PrepareError(f"Record {name!r} ({line.where()}) has the id of a "
                           "line before it.")
      seen.add(digest)
    except PrepareError as error:
      num_faults += 1
      if num_faults <= MAX_SHOWN:
        faults.append(str(error))
  if faults:
    more = num_faults - len(faults)
    raise PrepareError("\n".join(faults) + (
        f"\nAnd {more} more of {count} lines." if more else ""))
  if not count:
    raise PrepareError(f"{path} holds no line; want one JSON object a line.")
  return Lines(path, 0, count)


def _decoded(raw: bytes) -> tuple[str, tuple[str, ...]]:
  try:
    return raw.decode("utf-8-sig"), ()
  except UnicodeDecodeError:
    # The few bytes that mean nothing there become U+FFFD.
    return raw.decode("cp1252", "replace"), ("encoding",)
