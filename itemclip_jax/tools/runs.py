"""Evaluations as files, and the paired differences of two of them.

A run is a folder with results.json and, for differences, predictions/. What
both have is measured again on the rows that both have, by the same functions
that made results.json (`evaluators.measures`).
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from itemclip_jax import evaluators
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.evaluators import measures, predictions

_AGAIN = "Evaluate again to write it anew."


@dataclasses.dataclass(frozen=True)
class Run:
  """One evaluation.

  Attributes:
    letter: its name in the table.
    folder: where its results.json lies.
    numbers: full name -> "value", "ci95", "n".
    about: what the numbers are of.
  """
  letter: str
  folder: pathlib.Path
  numbers: dict[str, dict[str, Any]]
  about: dict[str, Any]

  @property
  def data(self) -> dict[str, Any]:
    """Data set, split and digest; {} where the file does not tell."""
    return self.about.get("data", {})

  @property
  def evaluators(self) -> dict[str, dict[str, Any]]:
    """By name: module, prompt set and what `measure` must know."""
    return self.about.get("evaluators", {})


def load(path: str, letter: str) -> Run:
  """Reads results.json; UserError where there is none or it is damaged."""
  file = pathlib.Path(path)
  if file.suffix != ".json":
    file = file / "results.json"
  if not file.is_file():
    raise UserError(f"There is no {file}; give the folder of an evaluation "
                    "(--mode=eval) or its results.json.")
  content = read_json(file, _AGAIN)
  numbers = {k: v for k, v in content.items() if "/" in k} if isinstance(
      content, dict) else {}
  if not numbers or not all(
      isinstance(v, dict) and "value" in v for v in numbers.values()):
    raise UserError(f"{file} is not the results of an evaluation; give the "
                    "folder of one.")
  return Run(letter, file.parent, numbers, content.get("about", {}))


def differences(
    first: Run, second: Run, *, num_resamples: int
) -> tuple[dict[str, measures.Difference], list[str]]:
  """Second minus first of every number that can be measured again in both.

  Returns:
    Differences by full name, and sentences on what they rest on.
  """
  found, notes = {}, _other_data(first, second)
  for name, entry in first.evaluators.items():
    other = second.evaluators.get(name)
    if other is None:
      continue
    pair = f"{first.letter} and {second.letter}"
    if entry["module"] != other["module"]:
      notes.append(f"{name}: {pair} were measured by {entry['module']} and "
                   f"{other['module']}; no differences.")
      continue
    if _digest(entry) != _digest(other):
      notes.append(f"{name}: {pair} were asked by different prompt sets "
                   f"({_version(entry)}, {_version(other)}).")
    try:
      tables = [_predictions(run, name) for run in (first, second)]
    except UserError as error:
      notes.append(f"{name}: no differences. {error}")
      continue
    rows = common_rows(*tables)
    notes += [f"{name}: {len(table['patient_id']) - len(kept)} of "
              f"{len(table['patient_id'])} rows are in {run.letter} only and "
              "not in the difference."
              for run, table, kept in zip((first, second), tables, rows)
              if len(kept) < len(table["patient_id"])]
    if not len(rows[0]):
      continue
    tables = [{k: column[kept] for k, column in table.items()}
              for table, kept in zip(tables, rows)]
    found |= measures.paired(
        *(_measure(run, name, table)
          for run, table in zip((first, second), tables)),
        tables[0]["patient_id"], num_resamples=num_resamples)
  return found, notes


def common_rows(
    first: predictions.Table, second: predictions.Table
) -> tuple[np.ndarray, np.ndarray]:
  """Numbers of the rows of the same unit, in the order of the first table.

  A unit is known by its study and, where a study has several rows, by as many
  of the other texts as it takes: not by more, since a text may be an answer.
  Of units that no text tells apart, the n-th belong together.
  """
  columns = ["study_id"]
  others = [c for c in predictions.TEXT if c in first and c in second
            and c not in ("study_id", "patient_id")]
  while others and not all(_distinct(t, columns) for t in (first, second)):
    columns.append(others.pop(0))
  where = [_row_of_unit(table, columns) for table in (first, second)]
  units = [unit for unit in where[0] if unit in where[1]]
  return tuple(np.array([w[unit] for unit in units], int) for w in where)


def _units(table: predictions.Table, columns: list[str]) -> list[tuple]:
  return list(zip(*(table[c].tolist() for c in columns)))


def _distinct(table: predictions.Table, columns: list[str]) -> bool:
  units = _units(table, columns)
  return len(set(units)) == len(units)


def _row_of_unit(table: predictions.Table, columns: list[str]
                 ) -> dict[tuple, int]:
  seen, rows = {}, {}
  for row, unit in enumerate(_units(table, columns)):
    seen[unit] = seen.get(unit, 0) + 1
    rows[*unit, seen[unit]] = row
  return rows


def _predictions(run: Run, name: str) -> predictions.Table:
  """The table, once it is sure that results.json follows from it."""
  path = run.folder / "predictions" / f"{name}.csv"
  table = predictions.read(path)
  if lacking := {"study_id", "patient_id"} - table.keys():
    raise UserError(f"{path} lacks the column {min(lacking)}.")
  measured = _measure(run, name, table)
  values = measured.statistic(
      np.ones((1, len(table["patient_id"])), np.int64))[0]
  for metric, value in zip(measured.names, values):
    told = run.numbers.get(metric, {}).get("value")
    told = math.nan if told is None else told
    if not np.isclose(value, told, rtol=1e-9, atol=1e-12, equal_nan=True):
      raise UserError(f"{path} gives {metric} = {value:.6g}, but results.json "
                      f"beside it says {told:.6g}. {_AGAIN}")
  return table


def _measure(run: Run, name: str, table) -> measures.Measures:
  entry = run.evaluators[name]
  return evaluators.module(entry["module"]).measure(name, table, entry["meta"])


def _other_data(first: Run, second: Run) -> list[str]:
  """Sentences where two runs were not measured on the same studies."""
  pair = f"{first.letter} and {second.letter}"
  if not (first.data and second.data):
    return [f"{pair}: one of the files does not tell what it is of; no "
            "differences."]
  told = [(f"{r.data.get('dataset')}, split {r.data.get('split')}")
          for r in (first, second)]
  if told[0] != told[1]:
    return [f"{pair} were measured on different data ({told[0]}; {told[1]})."]
  if first.data.get("sha256") != second.data.get("sha256"):
    return [f"{pair} were measured on different data: the digests of {told[0]} "
            "differ."]
  return []


def _digest(entry: dict[str, Any]) -> str | None:
  return (entry.get("prompt_set") or {}).get("sha256")


def _version(entry: dict[str, Any]) -> str:
  told = entry.get("prompt_set")
  return (f"version {told['version']} {told['sha256'][:8]}" if told else
          "none, the prompts of the data set")
