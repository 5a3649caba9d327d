"""Names of series: which are fit to be read, and their character codes."""

import string

import numpy as np

MAX_LENGTH = 200  # rows of the published encoder's position table

_CODES = {c: i + 1 for i, c in enumerate(string.ascii_lowercase)} | {
    "_": 27, "+": 28, "-": 29} | {
    c: 30 + i for i, c in enumerate(string.digits)} | {
    ".": 40, "*": 41, "(": 42, ")": 43, ",": 44}
_OTHER, _END = 45, 46


def fault(name: str) -> str | None:
  """What is wrong with a series name, or None."""
  if not name.strip():
    return "a series without a name"
  if len(name) > MAX_LENGTH:
    return (f"a series name of {len(name)} characters, {name[:20]!r}..., want "
            f"at most {MAX_LENGTH}")
  return None


def codes(name: str, length: int = 110) -> np.ndarray:
  """Character codes of a series name, [length] int32.

  Lower-cased, cut to `length - 1`, ended by 46, padded with 0.
  Source: the series-name encoder of Prima (Lyu et al. 2025).
  """
  found = [_CODES.get(c, _OTHER) for c in name.lower()[:length - 1]]
  out = np.zeros(length, np.int32)
  out[:len(found) + 1] = found + [_END]
  return out
