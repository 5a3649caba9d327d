"""A recipe over a file: in order, in bounded memory, and on after a kill.

    y.jsonl            the results, complete or not there
    y.jsonl.partial    those of an unfinished run; the same command goes on
                       behind the last complete line
    y.jsonl.run.json   what the run was asked for; when it is finished, also
                       what came out of it, in numbers

Every line that is found there is checked against the input by its `raw_hash`:
an interrupted run ends with the bytes of an undisturbed one.
"""

import collections
import concurrent.futures
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import tqdm

from data_pipelines import errors
from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.itemize import engine
from data_pipelines.itemize import recipes
from data_pipelines.itemize import rules
from data_pipelines.itemize import tally
from data_pipelines.itemize.chat.budget import Estimate
from data_pipelines.itemize.contract import Result
from data_pipelines.itemize.lines import Line, Lines, survey
from data_pipelines.parallel import Workers

_AHEAD = 4  # questions per thread that wait for their turn


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is done to every record; can be sent to another process.

  Attributes:
    recipe: its name.
    lexicon: file of the user's own terms, "" without; of the rules.
    max_items: of a record.
  """
  recipe: str
  lexicon: str = ""
  max_items: int = engine.MAX_ITEMS

  def rules(self) -> rules.Rules:
    return _rules(self.lexicon)

  def settings(self, chat) -> dict:
    """What results depend on, besides the input; chat: None = the rules."""
    recipe, made = recipes.get(self.recipe), self.rules()
    own = self.lexicon and hashlib.sha256(
        pathlib.Path(self.lexicon).read_bytes()).hexdigest()
    return {"recipe": recipe.name, "recipe_version": recipe.version,
            "backend": chat.name if chat else made.name,
            "lexicon": own, "max_items": self.max_items,
            "chat": chat and chat.settings()}


def run(source: pathlib.Path, out: pathlib.Path, plan: Plan, *, chat=None,
        num_workers: int = 1, limit: int | None = None) -> dict:
  """Writes a result for every record of `source` to `out`.

  Args:
    source: JSON Lines of records.
    out: JSON Lines of results.
    plan: what to do.
    chat: a chat.backend.Chat; None: the rules.
    num_workers: processes of the rules, or questions under way at once; the
      result is the same for any number.
    limit: only so many records.

  Returns:
    `tally.summary` of all results, those found there included.

  Raises:
    PrepareError: the input is refused, or `out` belongs to another run.
  """
  lines = survey(source, limit)
  settings = plan.settings(chat)
  partial, about = beside(out, ".partial"), beside(out, ".run.json")
  begun = out if out.exists() else partial
  done = _found(begun, about, lines, settings)
  if out.exists() and done.count == len(lines):
    return tally.summary(done.counts)
  out.parent.mkdir(parents=True, exist_ok=True)
  try:
    if begun == out and out.exists():
      out.rename(partial)  # fewer records had been asked for
    write_json(about, {"settings": settings, "input": str(source.absolute())},
               indent=1)
    counts = _append(partial, done, _answers(
        plan, chat, dataclasses.replace(lines, start=done.count), num_workers))
    summary = tally.summary(counts)
    write_json(about, {"settings": settings, "input": str(source.absolute()),
                       "summary": summary}, indent=1)
    partial.rename(out)
  except OSError as error:
    if errors.is_disk_full(error):
      raise PrepareError(f"The disk under {out} is full; free some space and "
                         "run the same command again, it goes on where it "
                         "was.") from error
    raise
  return summary


def estimate(source: pathlib.Path, plan: Plan, chat, *,
             limit: int | None = None):
  """What `run` would ask a chat server: a chat.budget.Estimate.

  Raises:
    PrepareError: the input is refused.
  """
  recipe, total = recipes.get(plan.recipe), Estimate()
  for line in tqdm.tqdm(survey(source, limit), desc="counting tokens",
                        unit="record", mininterval=0.5):
    cleaned, warnings = engine.prepared(line.record()[0], recipe)
    if not engine.is_unreadable(warnings):
      total += chat.estimate(recipe, cleaned)
  return total


def beside(path: pathlib.Path, suffix: str) -> pathlib.Path:
  return path.with_name(path.name + suffix)


@dataclasses.dataclass(frozen=True)
class _Done:
  """What an earlier run left: lines, their bytes, their tally."""
  count: int = 0
  size: int = 0
  counts: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)


def _found(path: pathlib.Path, about: pathlib.Path, lines: Lines,
           settings: dict) -> _Done:
  """Checks the results that are there already, as far as they are complete."""
  if not path.exists():
    return _Done()
  repair = f"name another --out, or delete {path}"
  _same_settings(path, about, settings, repair)
  count, size, counts = 0, 0, collections.Counter()
  with open(path, "rb") as file:
    for line in lines:
      raw = file.readline()
      result = _result(raw, f"line {count + 1} of {path}")
      if result is None:
        break
      _require_made_from(line, result, settings, f"{path}", repair)
      counts += tally.count(result)
      count, size = count + 1, size + len(raw)
    if count == len(lines) and file.readline().endswith(b"\n"):
      raise PrepareError(f"{path} holds more than the {count} results asked "
                         f"for; {repair}.")
  return _Done(count, size, counts)


def _result(raw: bytes, where: str) -> Result | None:
  """What a line holds; None where a kill left no more than a part of it."""
  if not raw.endswith(b"\n"):
    return None
  try:
    return Result.from_json(json.loads(raw), where)
  except ValueError:
    return None


def _same_settings(path, about: pathlib.Path, settings: dict, repair: str):
  try:
    had = json.loads(about.read_text())["settings"]
  except (OSError, ValueError, KeyError):
    return  # the lines say enough
  for name in sorted(had.keys() | settings.keys()):
    # Through JSON, which turns tuples into lists.
    want = json.loads(json.dumps(settings.get(name)))
    if had.get(name) != want:
      raise PrepareError(f"{path} was made with {name} {had.get(name)!r}, "
                         f"asked for is {want!r}; {repair}.")


def _require_made_from(line: Line, result: Result, settings: dict, path: str,
                       repair: str):
  for name in ("recipe", "recipe_version", "backend"):
    had = getattr(result, name)
    # A fall-back to rules is one of chat's answers.
    if had != settings[name] and not (
        name == "backend" and tally.count(result)["warning:fallback"]):
      raise PrepareError(f"{path} was made with {name} {had!r}, asked for is "
                         f"{settings[name]!r}; {repair}.")
  record, _ = line.record()
  if (record.id, record.raw_hash()) != (result.id, result.raw_hash):
    raise PrepareError(f"{path} was made from another input: record "
                       f"{record.id!r} ({line.where()}) is not what was read "
                       f"then; {repair}.")


def _append(partial: pathlib.Path, done: _Done,
            answers: Iterable[tuple[str, collections.Counter]]):
  """Writes answers behind what is `done`; returns the tally of all."""
  counts = collections.Counter(done.counts)
  with open(partial, "ab") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise PrepareError(f"Another run is writing {partial}; wait for it, or "
                         "name another --out.") from error
    file.truncate(done.size)
    for text, added in answers:
      file.write(text.encode() + b"\n")
      file.flush()  # a kill costs what is under way and no more
      counts += added
    os.fsync(file.fileno())
  return counts


def _answers(plan: Plan, chat, lines: Lines, num_workers: int) -> Iterator:
  title = f"{plan.recipe} by {chat.name if chat else 'rules'}"
  if chat is not None:
    yield from _threaded(functools.partial(_answer, plan, chat), lines,
                         num_workers, title=title)
    return
  # More processes than records only cost their start.
  with Workers(min(num_workers, max(1, len(lines) // 100))) as workers:
    yield from workers.map(
        functools.partial(_answer, plan, None), lines, title=title)


def _answer(plan: Plan, chat, line: Line) -> tuple[str, collections.Counter]:
  """The line of a result, and its tally."""
  record, warnings = line.record()
  try:
    result = engine.itemize(record, plan.recipe, chat or plan.rules(),
                            max_items=plan.max_items,
                            lexicon=plan.rules().lexicon)
  except PrepareError:
    raise
  except Exception as error:
    # Its message may repeat the report; its frames do not.
    raise RuntimeError(f"Record {record.id!r} ({line.where()}) ended with "
                       f"{type(error).__name__}.").with_traceback(
                           error.__traceback__) from None
  result = dataclasses.replace(result, warnings=warnings + result.warnings)
  return result.line(), tally.count(result)


def _threaded(fn: Callable, jobs: Lines, num_threads: int, *,
              title: str) -> Iterator:
  """Yields `fn(job)` in order; a few jobs per thread are under way."""
  with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
    under_way = collections.deque()
    try:
      with tqdm.tqdm(desc=title, total=len(jobs), unit="record",
                     mininterval=0.5) as bar:
        for job in jobs:
          under_way.append(pool.submit(fn, job))
          if len(under_way) >= _AHEAD * num_threads:
            yield under_way.popleft().result()
            bar.update()
        while under_way:
          yield under_way.popleft().result()
          bar.update()
    finally:
      pool.shutdown(cancel_futures=True)


@functools.cache
def _rules(lexicon: str) -> rules.Rules:
  return rules.Rules(lexicon=lexicon) if lexicon else engine.default_rules()
