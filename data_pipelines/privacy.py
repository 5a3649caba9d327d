"""Names of studies and patients -> salted hashes, and the way back.

Beside the data set, never in it, stand two files that only its owner can read:

    <out>.salt         random; without it a hash cannot be tried out
    <out>.ids.jsonl    one line a study: its name in the archive and its hash

The same salt gives the same hashes, so that sets can be joined. Losing both
files makes the hashes final.
"""

import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Iterable

from data_pipelines.errors import PrepareError

_SALT_BYTES = 32
_MIN_SALT_BYTES = 16
_ID_BYTES = 16       # of a hash; a million studies do not collide


class Pseudonyms:
  """`names("Doe^John")` is the same text for the same salt, and no other."""

  def __init__(self, salt: bytes):
    # BLAKE2b takes keys of up to 64 bytes; a user's own file may be longer.
    self._key = hashlib.blake2b(salt).digest()

  def __call__(self, name: str) -> str:
    return hashlib.blake2b(
        name.encode(), key=self._key, digest_size=_ID_BYTES).hexdigest()


def beside(out: pathlib.Path, suffix: str) -> pathlib.Path:
  """`<out><suffix>`, a file next to the folder of the data set."""
  out = out.absolute()
  return out.with_name(out.name + suffix)


def open_salt(path: pathlib.Path, *, out: pathlib.Path) -> bytes:
  """Reads the salt, or draws one where there is none yet.

  Raises:
    PrepareError: it would lie inside of the data set, or is too short.
  """
  if path.resolve().is_relative_to(out.resolve()):
    raise PrepareError(f"--salt={path} lies inside of the data set {out}, and "
                       "would be given away with it; name a file elsewhere.")
  if not path.exists():
    write_private(path, secrets.token_hex(_SALT_BYTES))
  salt = path.read_bytes().strip()
  if len(salt) < _MIN_SALT_BYTES:
    raise PrepareError(f"The salt {path} has {len(salt)} bytes, want at least "
                       f"{_MIN_SALT_BYTES}; delete it and a new one is drawn.")
  return salt


def write_map(path: pathlib.Path, lines: Iterable[dict[str, str]]):
  """Writes the private table of names and hashes."""
  write_private(path, "".join(json.dumps(line) + "\n" for line in lines))


def write_private(path: pathlib.Path, text: str):
  """Writes a file that nobody but its owner may read, or none at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
  descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(descriptor, "w") as file:
    file.write(text)
  unfinished.rename(path)
