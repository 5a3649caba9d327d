"""A model's answer -> indices, items, triplets; or what is wrong with it.

Answers are JSON objects; numbers of sentences and captions count from 1 in
prompts and answers, and from 0 everywhere else. Models wrap answers in thoughts
and code fences, which are taken off; apart from that nothing is guessed, since
a repair turn costs little and a wrong guess stays.
"""

import json
import re
from typing import Any, NamedTuple

from data_pipelines.itemize import recipes
from data_pipelines.itemize import sentences
from data_pipelines.itemize import similarity

MAX_ITEMS = 100   # of one answer; more is a model that repeats itself

_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_MARKER = re.compile(r"\|\|\s*finalist\s*\|\|", re.IGNORECASE)
_NUMBERED = re.compile(r"\A\(?\d{1,3}[.):]\s+")
_LISTED = re.compile(r"\s*(?:\(?\d{1,3}[.)](?!\d)|[-*•])\s*\w")
_AROUND = "<>\"“”„«»`*• \t"


class Unusable(Exception):
  """The answer cannot be used. The message may be logged."""


class Doubtful(Exception):
  """The answer could be better; value: what it comes to as it is.

  The message quotes the answer: it is for the server that gave it.
  """

  def __init__(self, reason: str, value: Any):
    super().__init__(reason)
    self.value = value


class Said(NamedTuple):
  """An item in the model's words; sources: which sentences or captions say it,
  () where the form of the answer has no place for them."""
  text: str
  sources: tuple[int, ...] = ()


def kept(answer: str, count: int, key: str = "keep") -> tuple[int, ...]:
  """Indices of {"keep": [numbers]}, ascending, each once.

  Raises:
    Unusable: they are not all numbers from 1 to `count`.
  """
  return _indices(_object(answer, key)[key], key, count)


def summary(answer: str, count: int) -> tuple[Said, ...]:
  """Items of {"items": [{"text", "sources"}]}, or of a numbered list."""
  text = _without_thought(answer)
  if similarity.fold(text) == similarity.fold(recipes.NORMAL_STUDY):
    return ()
  # Other lines are talk: without a number "I cannot help" is no finding.
  listed = [line for line in text.splitlines() if _LISTED.match(line)]
  if "{" in text or not listed:
    return _items(answer, count)
  return _limited([Said(_plain(line))
                   for line in sentences.numbered("\n".join(listed))])


def verified(answer: str, count: int) -> tuple[Said, ...]:
  """Items of the same object, or of "||finalist|| e1 | e2"."""
  if _MARKER.search(answer):
    return finalist(answer)
  return _items(answer, count)


def finalist(answer: str) -> tuple[Said, ...]:
  """Entries behind the last marker.

  They stand in its line, or in the next one that is not empty; further lines
  belong to them as long as one ends, or the next begins, with "|". What a model
  adds below does not.

  Raises:
    Unusable: there is no marker, or nothing behind it.
  """
  found = list(_MARKER.finditer(answer))
  if not found:
    raise Unusable("the line ||finalist|| is missing")
  first, *rest = answer[found[-1].end():].strip().splitlines() or [""]
  for line in rest:
    joined = first.rstrip().endswith("|") or line.lstrip().startswith("|")
    if not (joined and line.strip()):
      break
    first += " " + line
  entries = [_entry(part) for part in first.split("|")]
  entries = [Said(text) for text in entries if text]
  if not entries:
    raise Unusable("there is nothing behind ||finalist||")
  return _limited(entries)


def triplets(answer: str, count: int) -> tuple[dict[str, Any], ...]:
  """Objects of {"triplets": [...]}, or of a bare list.

  Returns:
    For each: severity, location (text or None), category (text), negated
    (bool), sentence (index).
  """
  value = _json(answer)
  values = value if isinstance(value, list) else _object(
      answer, "triplets")["triplets"]
  return tuple(_triplet(v, count) for v in _list_of_objects(values, "triplets"))


def _triplet(value: dict, count: int) -> dict[str, Any]:
  category = _field(value, "category")
  negated = value.get("negated", False)
  if category is None or not isinstance(negated, bool):
    raise Unusable('every triplet wants a "category" and "negated" true or '
                   "false")
  where, = _indices([value.get("sentence")], "sentence", count)
  return {"severity": _field(value, "severity"), "category": category,
          "location": _field(value, "location"), "negated": negated,
          "sentence": where}


def _field(value: dict, name: str) -> str | None:
  text = value.get(name)
  if not isinstance(text, str | None):
    raise Unusable(f'"{name}" must be a text or null')
  text = _plain(text or "").lower()
  return None if text in ("", "na", "n/a", "none", "null", "mask") else text


def _items(answer: str, count: int) -> tuple[Said, ...]:
  values = _list_of_objects(_object(answer, "items")["items"], "items")
  found = []
  for value in values:
    text = value.get("text")
    if not (isinstance(text, str) and _plain(text)):
      raise Unusable('every item wants a "text"')
    found.append(Said(_plain(text), _indices(
        value.get("sources"), "sources", count)))
    if not found[-1].sources:
      raise Unusable('every item wants the numbers of its "sources"')
  return tuple(found)


def _list_of_objects(values: Any, name: str) -> list[dict]:
  if not (isinstance(values, list)
          and all(isinstance(v, dict) for v in values)):
    raise Unusable(f'"{name}" must be a list of objects')
  return list(_limited(values))


def _limited(values: list) -> tuple:
  if len(values) > MAX_ITEMS:
    raise Unusable(f"there are more than {MAX_ITEMS} entries")
  return tuple(values)


def _indices(values: Any, name: str, count: int) -> tuple[int, ...]:
  if not isinstance(values, list):
    raise Unusable(f'"{name}" must be a list of numbers')
  # True is an int in Python, and 2.0 is somebody's rounding.
  if not all(type(v) is int and 1 <= v <= count for v in values):
    raise Unusable(f'"{name}" may hold whole numbers from 1 to {count} only')
  return tuple(sorted({v - 1 for v in values}))


def _object(answer: str, key: str) -> dict[str, Any]:
  value = _json(answer)
  if not (isinstance(value, dict) and key in value):
    raise Unusable(f'the answer must be one JSON object with "{key}"')
  return value


def _json(answer: str) -> Any:
  """The JSON of an answer, alone, in a fence, or between some words."""
  text = _without_thought(answer).strip().lstrip("\ufeff")
  starts = (text.find(mark) for mark in "{[")
  for some in (text, *_FENCED.findall(text)[-1:],
               *(text[start:] for start in starts if start >= 0)):
    some = some.strip()
    try:
      value, end = _DECODER.raw_decode(some)
    except (ValueError, RecursionError):
      continue
    if isinstance(value, dict | list) and "{" not in some[end:]:
      return value
  raise Unusable("the answer is not one JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len({name for name, _ in pairs}) < len(pairs):
    raise ValueError("a name comes twice")
  return dict(pairs)


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _without_thought(answer: str) -> str:
  return _THOUGHT.sub("", answer)


def _plain(text: str) -> str:
  """One line, without characters that only steer a terminal."""
  text = "".join(c if c.isprintable() else " " for c in text)
  return " ".join(text.split())


def _entry(text: str) -> str:
  text = _plain(text).strip(_AROUND)
  text = _NUMBERED.sub("", text).strip(_AROUND)
  if len(text) > 1 and text[0] == text[-1] == "'":
    text = text[1:-1]
  return text.strip()
