"""What ends a build with one sentence instead of a traceback."""

import errno
import pathlib
import shutil


class PrepareError(Exception):
  """The user can mend this: what was got, what was wanted, what to do."""


def require_free(folder: pathlib.Path, num_bytes: int):
  """Raises before a build that the disk under `folder` cannot hold.

  What an interrupted build left in `folder` counts as free.
  """
  existing = folder.absolute()
  while not existing.exists():
    existing = existing.parent
  free = shutil.disk_usage(existing).free + sum(
      path.stat().st_size for path in folder.rglob("*") if path.is_file())
  if free < num_bytes:
    raise PrepareError(
        f"{folder} has {free / 1e9:.2f} GB free and the data set wants about "
        f"{num_bytes / 1e9:.2f} GB: free some space or name another --out.")


def is_disk_full(error: BaseException | None) -> bool:
  """True where `error`, or what caused it, is "no space left on device".

  Writers in C++ report it as text only, hence the second test.
  """
  while error is not None:
    if getattr(error, "errno", None) == errno.ENOSPC:
      return True
    if "no space left" in str(error).lower():
      return True
    error = error.__cause__ or error.__context__
  return False


def disk_full_sentence(folder: pathlib.Path, num_bytes: int) -> str:
  return (f"The disk under {folder} is full: the whole data set wants about "
          f"{num_bytes / 1e9:.2f} GB; free some space and run the same command "
          "again, it goes on where it was.")
