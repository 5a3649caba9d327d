"""Does a report say what a text says: findings, sides, places, numbers.

A text is held against those statements of the report that speak of its findings
and do not speak of another side or place; what follows such a statement without
a finding of its own ("It measures 5 mm.") belongs to it. So "8 mm nodule in the
left lung" is not backed by a nodule of 5 mm on the left and one of 8 mm on the
right.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import similarity
from data_pipelines.itemize.statements import Statement

# Findings that stand for any other.
GENERIC = frozenset("abnormality abnormalities lesion finding".split())
SHARED = 0.5   # words of a text without findings, in a statement about it

_SIDES = {"left": {"left"}, "right": {"right"}, "bilateral": {"left", "right"}}
_MEASURE = re.compile(
    r"(?P<numbers>\d+(?:[.,]\d+)?"
    r"(?:\s*(?:x|×|by|to|-|–)\s*\d+(?:[.,]\d+)?)*)"
    r"\s*-?\s*(?P<unit>mm|cm|(?:mill|cent)imet(?:er|re)s?)?\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_COUNTS = {word: float(n) for n, word in enumerate(
    "two three four five six seven eight nine ten".split(), 2)}
_PLACES = {word: word for word in (
    "upper lower middle frontal parietal temporal occipital apical basal "
    "anterior posterior medial lateral superior inferior central peripheral "
    "subpleural perihilar proximal distal cervical thoracic lumbar sacral "
    "cerebellar periventricular subcortical").split()} | {
        "mid": "middle", "apex": "apical", "apices": "apical", "base": "basal",
        "bases": "basal", "basilar": "basal", "bibasilar": "basal",
        "bibasal": "basal", "biapical": "apical", "peripherally": "peripheral",
        "cerebellum": "cerebellar", "centrally": "central"}
_WORD = re.compile(r"[a-z]+")


@dataclasses.dataclass(frozen=True)
class Facts:
  """What can be checked of a text."""
  text: str
  mentions: tuple[language.Mention, ...]
  sides: frozenset[str]
  places: frozenset[str]
  anatomy: frozenset[str]
  numbers: frozenset[float]


def facts(text: str, lexicon: lexicon_lib.Lexicon | None = None) -> Facts:
  found = language.analyse(text, lexicon=lexicon)
  return _facts(text, found, tuple(found.findings))


def unsupported(text: str, statements: Sequence[Statement],
                lexicon: lexicon_lib.Lexicon | None = None) -> tuple[str, ...]:
  """Which facts of a text the statements do not have, by kind.

  Returns:
    Of "finding", "side", "place", "anatomy", "number"; () where all is backed.
  """
  item = facts(text, lexicon)
  units = _units(statements)
  absent = [m for m in item.mentions
            if not any(_is_a(m, o) for u in units for o in u.mentions)]
  about = _about(item, units)
  if absent or not about:
    return ("finding",)
  near = [u for u in about if agree(item.sides, u.sides)
          and agree(item.places, u.places)]
  wrong = [kind for kind, names in (
      ("side", "sides"), ("place", "places"), ("anatomy", "anatomy"),
      ("number", "numbers"))
      if not getattr(item, names) <= frozenset().union(
          *(getattr(u, names) for u in near))]
  if "side" not in wrong and not all(_sided(m, near) for m in item.mentions):
    wrong.append("side")
  return tuple(wrong)


def mentions(statements: Sequence[Statement]) -> list[language.Mention]:
  """What the statements assert and deny."""
  return [m for s in statements for m in (*s.shown, *_negated(s))]


def contradicted(text: str, said: Sequence[language.Mention],
                 lexicon: lexicon_lib.Lexicon | None = None) -> bool:
  """True where a finding is asserted that is only denied in what is said, or
  the other way round; a side that both name must agree."""
  for mention in facts(text, lexicon).mentions:
    same = [o for o in said if _is_a(mention, o) and agree(
        _sides(mention), _sides(o))]
    if same and all(o.negated != mention.negated for o in same):
      return True
  return False


def represented(statement: Statement, said: Sequence[Facts]) -> bool:
  """True where texts with these facts say all that a statement shows."""
  sides = of_statement(statement).sides
  return all(
      any(not m.negated and _is_a(m, o)
          and agree(_sides(m) or one.sides, _sides(o) or sides)
          for one in said for m in one.mentions)
      for o in statement.shown)


@functools.lru_cache(maxsize=4096)
def numbers(text: str) -> frozenset[float]:
  """The numbers of a text; those with a unit of length in millimetres."""
  found = {_COUNTS[w] for w in _WORD.findall(text.lower()) if w in _COUNTS}
  for match in _MEASURE.finditer(text):
    scale = 10 if (match["unit"] or "").lower().startswith("c") else 1
    found |= {round(scale * float(n.replace(",", ".")), 3)
              for n in _NUMBER.findall(match["numbers"])}
  return frozenset(found)


@functools.lru_cache(maxsize=4096)
def places(text: str) -> frozenset[str]:
  """Words that tell one part of an organ from another."""
  return frozenset(_PLACES[w] for w in _WORD.findall(text.lower())
                   if w in _PLACES)


def of_statement(statement: Statement) -> Facts:
  """The facts of a statement: its findings shown and denied."""
  return _facts(statement.text, statement.analysis,
                (*statement.shown, *_negated(statement)))


def agree(a: frozenset, b: frozenset) -> bool:
  """False where both name something, and nothing in common."""
  return not a or not b or bool(a & b)


def _facts(text: str, found, mentions) -> Facts:
  sides = frozenset().union(*(_SIDES[side] for side in found.laterality))
  return Facts(text, mentions, sides, places(text), frozenset(found.anatomy),
               numbers(text))


def _units(statements: Sequence[Statement]) -> list[Facts]:
  """What statements say, each with those that only go on from it."""
  units, section = [], None
  for statement in statements:
    if statement.aside:
      continue
    own = of_statement(statement)
    if units and not statement.analysis.findings and (
        section == statement.source.section):
      units[-1] = _joined(units[-1], own)
    units.append(own)
    section = statement.source.section
  return units


def _joined(a: Facts, b: Facts) -> Facts:
  return Facts(f"{a.text} {b.text}", a.mentions + b.mentions, a.sides | b.sides,
               a.places | b.places, a.anatomy | b.anatomy,
               a.numbers | b.numbers)


def _about(item: Facts, units: list[Facts]) -> list[Facts]:
  """The units that speak of what the text speaks of."""
  if not item.mentions:
    words = set(similarity.content_words(item.text))
    return [u for u in units if len(
        words & set(similarity.content_words(u.text))) >= SHARED * len(words)]
  return [u for u in units
          if any(_is_a(m, o) for m in item.mentions for o in u.mentions)]


def _negated(statement: Statement) -> tuple[language.Mention, ...]:
  return tuple(m for m in statement.analysis.findings if m.negated)


def _is_a(mention, other) -> bool:
  """True where `other`, of the report, is what `mention` names, or a kind of
  it."""
  if mention.canonical == other.canonical or mention.canonical in GENERIC:
    return True
  return _words(mention.canonical) <= (
      _words(other.canonical) | _words(other.term))


@functools.lru_cache(maxsize=4096)   # of names of findings
def _words(name: str) -> frozenset[str]:
  return frozenset(similarity.fold(name).split())


def _sides(mention) -> frozenset[str]:
  return frozenset(_SIDES.get(mention.laterality, ()))


def _sided(mention, units: list[Facts]) -> bool:
  """True where some mention of the finding, or its sentence, has its side."""
  have = frozenset()
  for unit in units:
    for other in unit.mentions:
      if _is_a(mention, other) and other.negated == mention.negated:
        have |= _sides(other) or unit.sides
  return _sides(mention) <= have
