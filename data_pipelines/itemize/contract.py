"""What goes through itemisation: records in, drafts between, results out.

Each is a line of JSON Lines outside and a frozen dataclass inside. The way of
a record:

    Record --clean--> Record --backend.items--> Draft --dedup, checks-->
           Draft --dedup, cap, normal item--> Result

The engine cleans; a back-end and the checks see a record whose sections and
captions are clean, and every `Source` counts the characters of THOSE texts. A
back-end splits as it needs. The seams:

    recipes.get(name) -> Recipe     .name, .version, .reads, .normal (or None)
    backend.items(recipe, record) -> Draft;  backend.name, "rules", "chat:model"
    checks.check(recipe, record, draft, lexicon) -> Draft      what it refuses
                                    goes to `dropped`, what it misses to
                                    `warnings`

An input line:

    {"id": "a1", "sections": {"findings": "...", "impression": "...",
     "text": "..."}, "captions": ["...", ...], "meta": {}}

with at least one of `sections` and `captions`, each section optional; other
keys are not read. Errors name the record and never its text.

A back-end says "normal" by a draft without items that has dropped something as
"normal", or by the recipe's canonical normal item; an empty report says nothing
and is not normal.
"""

import dataclasses
import hashlib
import json
from typing import Any

from data_pipelines.errors import PrepareError

SECTIONS = ("findings", "impression", "text")
CAPTION = "caption:"   # and a number: the section of a caption's sentences

# Why something is no item.
REASONS = {
    "normal": "says that something is normal or absent",
    "duplicate": "says what another item says",
    "support": "fewer captions say so than the recipe wants",
    "unsupported": "names what the source does not, or contradicts it",
    "empty": "nothing is left of it",
    "identifier": "names a person, a date or a number of a file",
    "too_long": "more words than an item may have",
    "history": "history, technique, comparison or recommendation",
    "cap": "beyond the number of items that a record may have",
}

# What is worth knowing of a record; details may follow behind a colon.
WARNINGS = {
    "empty": "there was no text; no item, and not normal either",
    "nothing_left": "there was text, none of it became an item; not normal",
    "encoding": "the line is not UTF-8; it was read as Windows-1252",
    "language": "not in English, which the recipes read; no item",
    "too_long": "more text than any report has; no item",
    "deidentified": "marks of de-identification were taken out",
    "markup": "HTML or a table was taken apart",
    "mojibake": "characters were decoded wrongly and mended",
    "missing": "abnormal sentences that no item speaks of, their number",
    "overlap": "two items say almost the same",
    "capped": "more items than a record may have, their number",
    "fallback": "the chat server's answer was no use; made by rules",
}


@dataclasses.dataclass(frozen=True)
class Record:
  """A report, or the captions of a picture.

  sections: of SECTIONS; captions: in order; meta: the user's own, unread.
  """
  id: str
  sections: dict[str, str] = dataclasses.field(default_factory=dict)
  captions: tuple[str, ...] = ()
  meta: dict[str, Any] = dataclasses.field(default_factory=dict)

  def texts(self) -> dict[str, str]:
    """Name -> text of every section, then of every caption."""
    return self.sections | {
        f"{CAPTION}{n}": text for n, text in enumerate(self.captions)}

  def raw_hash(self) -> str:
    """sha256 of all that a result depends on, as hexadecimal digits."""
    value = [self.id, self.sections, list(self.captions)]
    encoded = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(encoded).hexdigest()

  @classmethod
  def from_json(cls, value: Any, where: str) -> "Record":
    """Checks what a line holds.

    Args:
      value: the parsed line.
      where: what to call it in an error, e.g. "line 3 of x.jsonl".

    Raises:
      PrepareError: it is no record; the text of the report is not repeated.
    """
    if not isinstance(value, dict):
      raise PrepareError(f"{_upper(where)} is a {_kind(value)}, want an object "
                         'such as {"id": "a1", "sections": {"text": "..."}}.')
    name = value.get("id")
    if not (isinstance(name, str) and name.strip()):
      raise PrepareError(f"{_upper(where)} has no id, want a text of its own: "
                         '{"id": "a1", ...}.')
    where = f"record {name!r} ({where})"
    sections, captions = value.get("sections"), value.get("captions")
    if sections is None and captions is None:
      raise PrepareError(f"{_upper(where)} has neither sections nor captions; "
                         "give one of them.")
    meta = value.get("meta")
    if not isinstance(meta, dict | None):
      raise PrepareError(f"{_upper(where)}: meta is a {_kind(meta)}, want an "
                         "object.")
    return cls(_sound(name), _sections(sections, where),
               _captions(captions, where), meta or {})

  def to_json(self) -> dict[str, Any]:
    return {"id": self.id, "sections": self.sections,
            "captions": list(self.captions), "meta": self.meta}


@dataclasses.dataclass(frozen=True, order=True)
class Source:
  """Characters start <= i < end of a section of the cleaned record.

  section: of SECTIONS, or "caption:0", "caption:1", ...
  """
  section: str
  start: int
  end: int


@dataclasses.dataclass(frozen=True)
class Item:
  """One statement. support: captions, or places, that say it."""
  text: str
  sources: tuple[Source, ...] = ()
  support: int = 1
  flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Triplet:
  """A finding in closed vocabularies; None = the sentence does not say."""
  severity: str | None
  location: str | None
  category: str
  negated: bool = False
  source: Source | None = None


@dataclasses.dataclass(frozen=True)
class Dropped:
  """What did not become an item; reason: a key of REASONS."""
  text: str
  reason: str


@dataclasses.dataclass(frozen=True)
class Draft:
  """What a back-end makes of a record.

  anatomies: name -> {"text": str, "normal": bool}; warnings: see WARNINGS;
  tokens: sent to and received from a language model.
  """
  items: tuple[Item, ...] = ()
  anatomies: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  triplets: tuple[Triplet, ...] = ()
  dropped: tuple[Dropped, ...] = ()
  warnings: tuple[str, ...] = ()
  tokens: tuple[int, int] = (0, 0)
  backend: str = "rules"


@dataclasses.dataclass(frozen=True)
class Result:
  """What a line of the output holds."""
  id: str
  recipe: str
  recipe_version: str
  backend: str
  raw_hash: str
  items: tuple[Item, ...] = ()
  normal: bool = False
  anatomies: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  triplets: tuple[Triplet, ...] = ()
  dropped: tuple[Dropped, ...] = ()
  warnings: tuple[str, ...] = ()
  tokens: tuple[int, int] = (0, 0)

  def to_json(self) -> dict[str, Any]:
    """In the order in which a line shows it."""
    value = {"id": self.id, "recipe": self.recipe,
             "recipe_version": self.recipe_version, "backend": self.backend,
             "items": [dataclasses.asdict(item) for item in self.items],
             "normal": self.normal}
    if self.anatomies:
      value["anatomies"] = self.anatomies
    if self.triplets:
      value["triplets"] = [dataclasses.asdict(t) for t in self.triplets]
    return value | {
        "dropped": [dataclasses.asdict(d) for d in self.dropped],
        "warnings": list(self.warnings), "raw_hash": self.raw_hash,
        "tokens": {"in": self.tokens[0], "out": self.tokens[1]}}

  def line(self) -> str:
    """One line of the output, without its end."""
    return json.dumps(self.to_json(), ensure_ascii=False)

  @classmethod
  def from_json(cls, value: Any, where: str) -> "Result":
    """Raises PrepareError where a line is none of the output's."""
    try:
      return cls(
          id=value["id"], recipe=value["recipe"],
          recipe_version=value["recipe_version"], backend=value["backend"],
          raw_hash=value["raw_hash"], normal=value["normal"],
          items=tuple(Item(i["text"], _sources(i["sources"]), i["support"],
                           tuple(i["flags"])) for i in value["items"]),
          anatomies=value.get("anatomies", {}),
          triplets=tuple(_triplet(t) for t in value.get("triplets", ())),
          dropped=tuple(Dropped(**d) for d in value["dropped"]),
          warnings=tuple(value["warnings"]),
          tokens=(value["tokens"]["in"], value["tokens"]["out"]))
    except (KeyError, TypeError, AttributeError) as error:
      raise PrepareError(
          f"{_upper(where)} is not what data_pipelines.itemize writes; give "
          "the --out of a finished run.") from error


def _sources(values) -> tuple[Source, ...]:
  return tuple(Source(**value) for value in values)


def _triplet(value: dict[str, Any]) -> Triplet:
  source = value["source"]
  return Triplet(**value | {"source": source and Source(**source)})


def _sections(value: Any, where: str) -> dict[str, str]:
  if not isinstance(value, dict | None):
    raise PrepareError(f"{_upper(where)}: sections is a {_kind(value)}, want "
                       f"an object with some of {', '.join(SECTIONS)}.")
  value = value or {}
  if unknown := sorted(value.keys() - set(SECTIONS)):
    raise PrepareError(
        f"{_upper(where)} has the section {unknown[0]!r}, want some of "
        f"{', '.join(SECTIONS)}; rename it, or put it into meta.")
  for name, text in value.items():
    if not isinstance(text, str | None):
      raise PrepareError(f"{_upper(where)}: section {name} is a "
                         f"{_kind(text)}, want a text.")
  # In a fixed order, whatever the line's: items come in the order of sections.
  return {name: _sound(value[name]) for name in SECTIONS
          if value.get(name) is not None}


def _captions(value: Any, where: str) -> tuple[str, ...]:
  if value is None:
    return ()
  if not (isinstance(value, list) and all(isinstance(c, str) for c in value)):
    raise PrepareError(f"{_upper(where)}: captions is no list of texts; mend "
                       "it.")
  return tuple(_sound(caption) for caption in value)


def _sound(text: str) -> str:
  """Halves of surrogate pairs, which no file can hold, become U+FFFD."""
  return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _kind(value: Any) -> str:
  """JSON's word for a type."""
  return {list: "list", dict: "object", str: "text", bool: "truth value",
          int: "number", float: "number"}.get(type(value), "null")


def _upper(sentence: str) -> str:
  return sentence[0].upper() + sentence[1:]
