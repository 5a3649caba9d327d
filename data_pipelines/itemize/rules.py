"""The rules back-end: offline, deterministic, and what others are held against.

    ctrate_abnormal   sentences that say something abnormal, word by word
    summary_list      the same, cut down to their abnormal clauses, without
                      advice, history and mere comparison; what the impression
                      says again is said once
    verify2, dedup    see captions.py
    anatomy           see anatomies.py
    triplet           see triplets.py

A sentence is abnormal if it asserts a finding, with doubt or without, or if it
says something of which nothing is known (statements.py).
"""

import dataclasses
import re
from collections.abc import Sequence

from data_pipelines.itemize import anatomies
from data_pipelines.itemize import captions
from data_pipelines.itemize import checks
from data_pipelines.itemize import evidence
from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import statements
from data_pipelines.itemize import triplets
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.statements import Statement

# Where clauses part that may be told without each other.
_APART = re.compile(
    r"\s*;\s*|,?\s+(?:but|however|although|though|whereas|while)\s+(?:and )?|"
    r",?\s+(?:and\s+)?(?=(?:without|with no|with normal|with preserved)\b)|"
    r",\s+(?:and\s+)?(?=(?:no|not|recommend\w*|advise\w*|suggest|consider|"
    r"follow-up|unchanged|stable|compared)\b)|\s+[-–—]\s+", re.IGNORECASE)
# Where they part if each has a finding and a place of its own.
_PERHAPS = re.compile(r",?\s+(?:and|as well as)\s+|,\s+", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"(?:(?:also|again|additionally|in addition|furthermore|moreover|"
    r"incidentally|of note|note is made of|incidental note is made of|"
    r"finally|further|besides|secondly|firstly)\b[\s,:]*)+", re.IGNORECASE)


class Rules:
  """A back-end, as engine.itemize takes it."""
  name = "rules"

  def __init__(self, lexicon: str = ""):
    """lexicon: a file of the user's own terms, see lexicon.py; "" = none.

    Raises:
      PrepareError: the file is no lexicon.
    """
    self.lexicon = lexicon_lib.load(lexicon) if lexicon else lexicon_lib.load()

  def items(self, recipe, record: Record) -> Draft:
    """What the recipe makes of a cleaned record."""
    if recipe.reads == "captions":
      return _CAPTIONS[recipe.name](record)
    said = statements.read(record, self.lexicon)
    return _REPORTS[recipe.name](said, self.lexicon)


def _ctrate_abnormal(said: Sequence[Statement], lexicon) -> Draft:
  items, dropped = [], []
  for statement in said:
    for part in _short(statement, lexicon):
      if part.abnormal or part.gone:
        items.append(Item(part.text, (part.source,)))
      else:
        dropped.append(_dropped(part))
  return Draft(items=tuple(items), dropped=tuple(dropped))


def _summary_list(said: Sequence[Statement], lexicon) -> Draft:
  clauses, dropped = [], []
  for statement in (part for s in said for part in _short(s, lexicon)):
    found = _clauses(statement, lexicon) if statement.abnormal else []
    clauses += found
    if not found:
      dropped.append(_dropped(statement))
  kept, repeats = _distinct(clauses)
  dropped += [Dropped(clause.text, "duplicate") for clause in repeats]
  return Draft(items=tuple(_item(clause, lexicon) for clause in kept),
               dropped=tuple(dropped))


def _anatomy(said: Sequence[Statement], lexicon) -> Draft:
  return Draft(anatomies=anatomies.read(said, lexicon.groups))


def _triplet(said: Sequence[Statement], lexicon) -> Draft:
  return Draft(triplets=tuple(
      t for s in said for t in triplets.read(s, lexicon)))


def _dropped(statement: Statement) -> Dropped:
  return Dropped(statement.text, "normal" if statement.normal else "history")


def _clauses(statement: Statement, lexicon) -> list[Statement]:
  """The clauses of an abnormal statement that are abnormal themselves."""
  found = []
  for a, b in _spans(_APART, statement.text):
    clause = _clause(statement, a, b, lexicon)
    if not clause.abnormal:
      continue
    pieces = [_clause(statement, a + x, a + y, lexicon)
              for x, y in _spans(_PERHAPS, statement.text[a:b])
              if len(clause.shown) > 1]
    if len(pieces) > 1 and all(map(_stands_alone, pieces)):
      found += pieces
    else:
      found.append(clause)
  return found or [statement]


def _short(statement: Statement, lexicon) -> list[Statement]:
  """The statement; in place of one with too many words for an item, parts."""
  if len(statement.text.split()) <= checks.MAX_WORDS:
    return [statement]
  parts, start, end = [], 0, 0
  for a, b in _spans(_PERHAPS, statement.text):
    if end and len(statement.text[start:b].split()) > checks.MAX_WORDS:
      parts.append((start, end))
      start = a
    end = b
  return [_clause(statement, a, b, lexicon) for a, b in [*parts, (start, end)]]


def _clause(statement: Statement, start: int, end: int, lexicon) -> Statement:
  if (start, end) == (0, len(statement.text)):
    return statement
  source = dataclasses.replace(
      statement.source, start=statement.source.start + start,
      end=statement.source.start + end)
  return statements.statement(
      statement.text[start:end], source, statement.within, lexicon=lexicon)


def _spans(pattern: re.Pattern, text: str) -> list[tuple[int, int]]:
  """What lies between the matches, without those that hold nothing."""
  cuts = [m.span() for m in pattern.finditer(text)]
  spans = zip([0, *(b for _, b in cuts)], [*(a for a, _ in cuts), len(text)])
  return [(a, b) for a, b in spans if text[a:b].strip(" .,;:")]


def _stands_alone(clause: Statement) -> bool:
  own = evidence.of_statement(clause)
  return bool(clause.shown) and bool(own.sides | own.places)


def _distinct(
    clauses: Sequence[Statement]) -> tuple[list[Statement], list[Statement]]:
  """Clauses without those that only say less of what others say.

  A statement of the same part is never a repetition: two nodules of one lobe
  are two. One of the other part is, and one that compares with the past.
  """
  details = {id(c): evidence.of_statement(c) for c in clauses}
  ranked = sorted(clauses, key=lambda c: (
      -_detail(details[id(c)]), c.within != statements.FINDINGS))
  kept, repeats = [], []
  for clause in ranked:
    others = [k for k in kept if k.within != clause.within
              or k.compares or clause.compares]
    if clause.shown and all(
        any(_covers(details[id(o)], details[id(clause)], m) for o in others)
        for m in clause.shown):
      repeats.append(clause)
    else:
      kept.append(clause)
  in_order = {id(c): n for n, c in enumerate(clauses)}
  return (sorted(kept, key=lambda c: in_order[id(c)]), repeats)


def _detail(own: evidence.Facts) -> int:
  return len(own.sides) + len(own.places) + len(own.numbers)


def _covers(other: evidence.Facts, own: evidence.Facts, mention) -> bool:
  """True where `other` says all that `own` says of one of its findings."""
  return (any(m.canonical == mention.canonical for m in other.mentions)
          and own.numbers <= other.numbers
          and evidence.agree(own.sides, other.sides)
          and evidence.agree(own.places, other.places)
          and evidence.agree(own.anatomy, other.anatomy))


def _item(clause: Statement, lexicon) -> Item:
  lead = _LEAD_IN.match(clause.text)
  text = clause.text[lead.end() if lead else 0:].strip(" ,;:")
  label, colon, rest = text.partition(": ")
  if colon and len(label.split()) < 4:   # "Brain: cyst in the pons"
    named, said = (language.analyse(part, lexicon=lexicon)
                   for part in (label, rest))
    if not named.findings and 0 < len(named.anatomy) and (
        set(named.anatomy) <= set(said.anatomy)):
      text = rest.strip()
  text = text[:1].upper() + text[1:]
  return Item(text if text.endswith((".", "!", "?", ")")) else f"{text}.",
              (clause.source,))


_REPORTS = {"ctrate_abnormal": _ctrate_abnormal, "summary_list": _summary_list,
            "anatomy": _anatomy, "triplet": _triplet}
_CAPTIONS = {"verify2": captions.verify2, "dedup": captions.dedup}
