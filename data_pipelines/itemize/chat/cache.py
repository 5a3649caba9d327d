"""Answers on disk: a rerun asks nothing, costs nothing and gives the same.

The key is the digest of all that an answer depends on, so nothing in here is
ever out of date. Answers repeat what reports say: only their owner may read the
file. SQLite keeps it whole when a run is killed.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator

from data_pipelines.errors import PrepareError

_VERSION = 1
_WAIT = 60.0  # seconds for another process that writes
_TABLE = ("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, "
          "text TEXT NOT NULL, finish TEXT NOT NULL, "
          "tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL) "
          "WITHOUT ROWID")


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model said.

  finish: why it stopped, as the server names it; tokens: sent, received.
  """
  text: str
  finish: str
  tokens_in: int
  tokens_out: int


def key(*, recipe: str, version: str, template: str, model: str,
        parameters: dict, messages: list[dict[str, str]]) -> str:
  """The digest under which an answer is kept."""
  value = [recipe, version, template, model, parameters, messages]
  return hashlib.sha256(
      json.dumps(value, sort_keys=True).encode()).hexdigest()


class Cache:
  """A table of answers that threads and processes share."""

  def __init__(self, path: pathlib.Path | str):
    """Opens it, or makes it where there is none.

    path: a file, or ":memory:" to keep nothing.

    Raises:
      PrepareError: there is something else, or the disk does not let us.
    """
    self._path, self._lock = path, threading.Lock()
    self._under_way = {}   # key -> Future of its answer
    with self._told():
      if path != ":memory:":
        _make_private(pathlib.Path(path))
      # Autocommit: every answer is on disk before the next question.
      self._table = sqlite3.connect(
          path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
      self._table.execute("PRAGMA journal_mode=WAL")
      self._table.execute("PRAGMA synchronous=NORMAL")
      version, = self._table.execute("PRAGMA user_version").fetchone()
      if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"version {version}")
      self._table.execute(_TABLE)
      self._table.execute(f"PRAGMA user_version={_VERSION}")

  def get(self, name: str) -> Answer | None:
    with self._lock, self._told():
      row = self._table.execute(
          "SELECT text, finish, tokens_in, tokens_out FROM answers "
          "WHERE key = ?", (name,)).fetchone()
    return row and Answer(*row)

  def answer(self, name: str, ask: Callable[[], Answer]) -> Answer:
    """What is kept, or what `ask()` says, which is kept from then on.

    Threads that want the same answer at once wait for the first of them: many
    reports are the same sentence, and each is paid once.
    """
    with self._lock:
      other = self._under_way.get(name)
      if other is None:
        own = self._under_way[name] = concurrent.futures.Future()
    if other is not None:
      return other.result()
    try:
      own.set_result(self.get(name) or self._put(name, ask()))
    except BaseException as error:
      own.set_exception(error)
    finally:
      with self._lock:
        del self._under_way[name]
    return own.result()

  def _put(self, name: str, answer: Answer) -> Answer:
    """Returns what is kept: another process may have been faster."""
    with self._lock, self._told():
      self._table.execute(
          "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)",
          (name, *dataclasses.astuple(answer)))
    return self.get(name)

  def close(self):
    with self._lock:
      self._table.close()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    try:
      yield
    except (sqlite3.Error, OSError) as error:
      raise PrepareError(
          f"The cache of answers {self._path} cannot be used ({error}); name "
          "another file, or delete it where it is no such cache.") from error


def _make_private(path: pathlib.Path):
  path.parent.mkdir(parents=True, exist_ok=True)
  os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
