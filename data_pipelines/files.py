"""Small files that are either complete or not there."""

import json
import pathlib


def write_json(path: pathlib.Path, value, *, indent: int | None = None):
  """Writes under another name first: a full disk leaves no half of a file."""
  unfinished = path.with_name(f".{path.name}")
  unfinished.write_text(json.dumps(value, indent=indent))
  unfinished.rename(path)
