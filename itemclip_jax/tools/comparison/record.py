"""What a finished run leaves: `<row>-<budget>-seed<k>.json`.

It holds all results, the settings that are not defaults, digests, time and
machine, and of every headline number its values in `NUM_RESAMPLES` resamples of
the patients. The draws are the same in all runs on the same patients: their
seed is fixed. So the interval of a mean over seeds, and the paired difference
to any other run, made anywhere, follow from the JSONs alone, of some 50 kB
each; predictions would be a megabyte. A digest of patients and draws tells
whether two runs may be paired.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from itemclip_jax import evaluators
from itemclip_jax.config import schema
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.evaluators import bootstrap, predictions
from itemclip_jax.tools import runs

NUM_RESAMPLES = 500
FORMAT = 1

# Settings that tell nothing about a row: which seed, where, how fast.
_OWN = ("seed", "data.root", "medfilip.similarity_encoder", "data.num_threads",
        "data.prefetch", "mesh.", "eval.model", "train.start_from",
        "train.log_every", "train.save_every", "train.keep")

_NAME = re.compile(r"(?P<row>\w+)-(?P<budget>\w+)-seed(?P<seed>\d+)\.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """One finished run.

  Attributes:
    steps: of training.
    settings: setting -> value where it is not the default, but for `_OWN`.
    settings_sha256: of these.
    params_sha256: of the trained parameters.
    data: data set, split, studies, digest.
    seconds: "train" and "evaluate", on the wall.
    machine: "cores".
    software: name and version.
    numbers: all results: full name -> "value", "ci95", "n".
    resamples: headline number -> "sha256" of patients and draws, "values".
  """
  row: str
  budget: str
  seed: int
  steps: int
  settings: dict[str, Any]
  settings_sha256: str
  params_sha256: str
  data: dict[str, Any]
  seconds: dict[str, float]
  machine: dict[str, Any]
  software: str
  numbers: dict[str, dict[str, Any]]
  resamples: dict[str, dict[str, str]]
  format: int = FORMAT

  @property
  def file_name(self) -> str:
    return file_name(self.row, self.budget, self.seed)

  def draws(self, name: str) -> np.ndarray | None:
    """[R] values of the resamples; None for a number without."""
    kept = self.resamples.get(name)
    return None if kept is None else np.array(kept["values"].split(), float)


def file_name(row: str, budget: str, seed: int) -> str:
  """Of the record of a run."""
  return f"{row}-{budget}-seed{seed}.json"


def read(path: pathlib.Path) -> Record:
  """Reads a record.

  Raises:
    UserError: it is damaged, or not of the run that its name tells.
  """
  repair = "Delete it, and run that row and seed again."
  content = read_json(path, repair)
  fields = {f.name: f.type for f in dataclasses.fields(Record)}
  wrong = not isinstance(content, dict) or sorted(content) != sorted(fields)
  wrong = wrong or any(
      not isinstance(content[k], getattr(t, "__origin__", t))
      for k, t in fields.items())
  if wrong or content["format"] != FORMAT or not _holds_numbers(content):
    raise UserError(f"{path} is not the record of a run. {repair}")
  record = Record(**content)
  if record.file_name != path.name:
    raise UserError(f"{path} holds the run {record.file_name}; give it that "
                    "name, or delete it.")
  return record


def _holds_numbers(content: dict[str, Any]) -> bool:
  try:
    drawn = [np.array(r["values"].split(), float)
             for r in content["resamples"].values() if r["sha256"]]
    return all(len(d) == NUM_RESAMPLES for d in drawn) and all(
        {"value", "ci95", "n"} <= r.keys() for r in content["numbers"].values())
  except (AttributeError, KeyError, TypeError, ValueError):
    return False


def read_all(folder: pathlib.Path) -> list[Record]:
  """All records of a study; one row of one budget has one set of settings.

  Raises:
    UserError: a file is damaged, or was run with other settings.
  """
  found, first = [], {}
  for path in sorted(folder.glob("*.json")):
    if not _NAME.fullmatch(path.name):
      raise UserError(f"{path} has no name of a run, such as clip-small-seed0"
                      ".json; move it elsewhere.")
    record = read(path)
    same = first.setdefault((record.row, record.budget), record)
    require_settings(path, record, same.settings, folder / same.file_name)
    found.append(record)
  return found


def require_settings(path: pathlib.Path, record: Record,
                     wanted: dict[str, Any], whose):
  """Raises UserError where a record was run with other settings."""
  for key in sorted(record.settings.keys() | wanted.keys()):
    have, want = (s.get(key, "the default") for s in (record.settings, wanted))
    if have != want:
      raise UserError(f"{path} was run with {key} = {have}, but {whose} has "
                      f"{want}; delete the one that is out of date.")


def write(folder: pathlib.Path, record: Record):
  """Writes the file under another name first, so none meets half a file."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / record.file_name
  partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
  partial.write_text(_lines(dataclasses.asdict(record)))
  partial.replace(path)


def _lines(content: dict[str, Any]) -> str:
  """JSON with a line for every entry of the first two levels."""
  parts = []
  for key, value in content.items():
    text = json.dumps(value)
    if isinstance(value, dict) and value:
      entries = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
      text = "{\n  " + ",\n  ".join(entries) + "\n }"
    parts.append(f"{json.dumps(key)}: {text}")
  return "{\n " + ",\n ".join(parts) + "\n}\n"


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
  """Setting -> value where it is not the default; nested plain dicts in."""
  flat, defaults = (_flat(json.loads(json.dumps(c))) for c in (
      config, dataclasses.asdict(schema.Config())))
  return {k: v for k, v in sorted(flat.items())
          if not k.startswith(_OWN) and v != defaults.get(k)}


def digest(content: Any) -> str:
  """SHA-256 of what JSON can hold."""
  return hashlib.sha256(
      json.dumps(content, sort_keys=True).encode()).hexdigest()


def _flat(config: dict[str, Any], where: str = "") -> dict[str, Any]:
  out = {}
  for key, value in config.items():
    out |= _flat(value, f"{where}{key}.") if isinstance(value, dict) else {
        where + key: value}
  return out


def resamples(
    folder: pathlib.Path,
    names: set[str],
) -> dict[str, dict[str, str]]:
  """The values of `names` in resamples of the patients.

  Args:
    folder: of an evaluation.
    names: full names of numbers; those without interval get no entry.

  Raises:
    UserError: the evaluation lacks one of them.
  """
  run, found = runs.load(str(folder), "A"), {}
  if missing := sorted(names - run.numbers.keys()):
    raise UserError(f"The evaluation in {folder} lacks {', '.join(missing)}; "
                    "mend the study's numbers or its eval.evaluators.")
  for name, entry in run.evaluators.items():
    table = predictions.read(folder / "predictions" / f"{name}.csv")
    measured = evaluators.module(entry["module"]).measure(
        name, table, entry["meta"])
    if wanted := [n for n in measured.names if n in names]:
      columns = [measured.names.index(n) for n in wanted]
      sha, drawn = _resample(measured.statistic, columns, table["patient_id"])
      found |= {n: {"sha256": sha, "values": " ".join(f"{v:.5g}" for v in d)}
                for n, d in zip(wanted, drawn.T)}
  return found


def _resample(statistic, columns: list[int], patients: np.ndarray
              ) -> tuple[str, np.ndarray]:
  """Digest of who was drawn how often, and values [R, M]."""
  names, first = np.unique(patients, return_index=True)
  sha = hashlib.sha256("\n".join(names).encode())

  def chosen(counts):
    sha.update(np.ascontiguousarray(counts[:, first], np.int64).tobytes())
    return statistic(counts)[:, columns]

  _, drawn = bootstrap.resample(
      chosen, patients, num_resamples=NUM_RESAMPLES, seed=0)
  return sha.hexdigest(), drawn
