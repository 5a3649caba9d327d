"""What workers made is kept in files, so that no work is done twice.

A study takes seconds to read and resample, its shard can only be written when
all studies are known. Between the two lies one file a study, named after the
digest of its job: an interrupted build finds it again, and a machine that
shares the disk can have made it. Rejected studies leave no file, they are cheap
and their archive may be mended before the next try.
"""

import dataclasses
import hashlib
import json
import pathlib
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipelines.result import Result

_REST = "rest"  # member of the file: JSON of all that is no array


@dataclasses.dataclass(frozen=True)
class Kept:
  """`fn` with a memory: a job -> the file of its result.

  Attributes:
    fn: job -> Result; a function of a module, so that it can be sent.
    folder: of the files.
  """
  fn: Callable[[Any], Result]
  folder: pathlib.Path

  def __call__(self, job) -> pathlib.Path | Result:
    """Makes the result unless it is there; a rejection is returned itself."""
    path = self.path(job)
    if path.exists():
      return path
    result = self.fn(job)
    if result.record is None:
      return result
    write(path, result)
    return path

  def path(self, job) -> pathlib.Path:
    name = f"{self.fn.__module__}.{self.fn.__qualname__}({job!r})"
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    # 256 folders: hundreds of thousands of files are slow in one.
    return self.folder / digest[:2] / f"{digest}.npz"

  def load(self, outcome: pathlib.Path | Result, job) -> Result:
    """Reads what `__call__` returned; makes it again where the file is bad."""
    if isinstance(outcome, Result):
      return outcome
    try:
      return read(outcome)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
      return self.fn(job)  # a crash of the machine left it incomplete


def write(path: pathlib.Path, result: Result):
  """Writes a result that has a record; complete or not at all."""
  arrays = {k: v for k, v in result.record.items()
            if isinstance(v, np.ndarray | np.generic)}
  rest = {"study": result.study, "log": result.log,
          "record": {k: v for k, v in result.record.items()
                     if k not in arrays},
          "order": list(result.record)}
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(f".{uuid.uuid4().hex}")
  with open(unfinished, "wb") as file:
    np.savez(file, **arrays, **{_REST: np.array(json.dumps(rest))})
  unfinished.rename(path)


def read(path: pathlib.Path) -> Result:
  """Reads what `write` wrote."""
  with np.load(path, allow_pickle=False) as members:
    arrays = {k: members[k] for k in members.files}
  rest = json.loads(str(arrays.pop(_REST)))
  values = rest["record"] | arrays
  return Result(rest["study"], {k: values[k] for k in rest["order"]},
                tuple(rest["log"]))
