"""Tables of predictions: what a model said of every unit, one file a table.

`predictions/<evaluator>.csv` has one row a unit (a study, a finding of a study,
a text, ...) and a header. Columns named in `TEXT` are texts, all others
numbers. Integers are written without a point and floats by `repr`, so that what
is read back measures exactly what the results file says.
"""

import csv
import os
import pathlib
import re

import numpy as np

from itemclip_jax.errors import UserError

Table = dict[str, np.ndarray]  # column -> [N]

# "patient_id" is what the bootstrap resamples, "study_id" names the study.
TEXT = ("study_id", "patient_id", "item", "finding", "text", "truth", "query",
        "series")

_INTEGER = re.compile(r"-?\d+")
_AGAIN = "Evaluate again to write it anew."


def write(path: pathlib.Path, table: Table):
  """Writes the file under another name first, so none meets half a file.

  Args:
    path: its folder is made where there is none.
    table: columns of one length; floats of any width, integers and booleans.
  """
  columns = {name: np.asarray(column) for name, column in table.items()}
  shapes = {column.shape for column in columns.values()}
  if len(shapes) != 1 or len(next(iter(shapes))) != 1:
    raise ValueError(f"Columns have shapes {sorted(shapes)}; want one [N].")
  cells = [_cells(name, column) for name, column in columns.items()]
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
  with open(partial, "w", newline="", encoding="utf-8") as file:
    # Texts in quotes, all of them: csv forgets those with a carriage return.
    rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*cells))
  partial.replace(path)


def read(path: pathlib.Path) -> Table:
  """Reads a table back: texts as str, numbers as int64 or float64.

  Raises:
    UserError: there is no such file, or it is damaged.
  """
  path = pathlib.Path(path)
  try:
    ended = path.read_bytes().endswith(b"\n")
    with open(path, newline="", encoding="utf-8") as file:
      header, *rows = csv.reader(file, strict=True) if ended else [[]]
  except FileNotFoundError as error:
    raise UserError(f"There is no {path}. {_AGAIN}") from error
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"{path} is damaged ({error}). {_AGAIN}") from error
  if not header:  # the last number of a line without end may lack digits
    raise UserError(f"{path} is cut off or has no header. {_AGAIN}")
  for number, row in enumerate(rows, 1):
    if len(row) != len(header):
      raise UserError(f"Row {number} of {path} has {len(row)} cells; want "
                      f"{len(header)}. {_AGAIN}")
  if len(set(header)) != len(header) or "" in header:
    raise UserError(f"{path} has columns without a name of their own. {_AGAIN}")
  columns = zip(*rows) if rows else [()] * len(header)
  return {name: _column(path, name, cells)
          for name, cells in zip(header, columns)}


def _cells(name: str, column: np.ndarray) -> list:
  """[N] texts, ints or floats; raises ValueError where a name misleads."""
  is_text = column.dtype.kind in "UOT"
  if is_text != (name in TEXT) and column.size:
    raise ValueError(f"Column {name!r} is {column.dtype}; of texts there are "
                     f"{', '.join(TEXT)}.")
  if is_text:
    return [str(value) for value in column]
  return (column.astype(int) if column.dtype.kind == "b" else column).tolist()


def _column(path, name: str, cells: tuple[str, ...]) -> np.ndarray:
  if name in TEXT:
    return np.array(cells, str)
  whole = cells and all(_INTEGER.fullmatch(cell) for cell in cells)
  try:
    return np.array(cells, np.int64 if whole else np.float64)
  except (ValueError, OverflowError) as error:
    raise UserError(f"Column {name!r} of {path} holds what is no number "
                    f"({error}). {_AGAIN}") from error
