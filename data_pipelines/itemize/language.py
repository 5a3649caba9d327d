"""What a sentence of a report says: findings, places, sizes, yes or no.

    analyse("No effusion, but a 5 mm nodule in the left upper lobe.")
      .kind        "abnormal"
      .findings    pleural effusion (negated), lung nodule (left)
      .anatomy     ("pleura", "lung", "upper lobe")
      .numbers     ("5 mm",)
      .laterality  {"left"}

A text may have several sentences; scopes do not cross from one to the next.
What cues do is in scope.py, how findings are named in names.py, the vocabulary
in lexicon.py.
"""

import functools
import re
from typing import NamedTuple

from data_pipelines.itemize import identifiers
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import names
from data_pipelines.itemize import scope
from data_pipelines.itemize import tokens
from data_pipelines.itemize.clauses import Clause
from data_pipelines.itemize.cues import Event

# Headings whose sentences are not about what the images show.
NEUTRAL = ("history", "indication", "comparison", "technique",
           "recommendation")

_NUMBER = r"\d+(?:[.,]\d+)?"
_NUMBERS = re.compile(
    rf"({_NUMBER}(?:\s?(?:mm|cm))?(?:\s?(?:[x×*–-]|to|by)\s?{_NUMBER}"
    r"(?:\s?(?:mm|cm))?)*)(?:\s?(mm|cm|millimet|centimet))?", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_ONE = re.compile(rf"({_NUMBER})\s?(mm|cm)?", re.IGNORECASE)
_WORDS = {word: str(n) for n, word in enumerate(
    "two three four five six seven eight nine ten".split(), 2)}

class Mention(NamedTuple):
  """A finding in a text; term = text[start:end].

  context: "study", or "history", "family", "past", "hypothetical": what is not
  about these images. gone: was there and is no more; negated, too.
  """
  term: str
  canonical: str
  start: int
  end: int
  negated: bool
  uncertain: bool
  laterality: str | None
  context: str = "study"
  gone: bool = False


class Analysis(NamedTuple):
  """What `analyse` found.

  Attributes:
    findings: in order of their places.
    anatomy: names of anatomy.json, each followed by what it is part of.
    numbers: sizes in mm ("15 mm" for 1.5 cm), other numbers as they are.
    laterality: of "left", "right", "bilateral".
    identifiers: (start, end) of names, dates and file numbers.
    kind: "abnormal"; "normal" (asserts only normality); "history",
      "recommendation", "comparison", "technique" (only that); "unknown".
  """
  findings: tuple[Mention, ...]
  anatomy: tuple[str, ...]
  numbers: tuple[str, ...]
  laterality: frozenset[str]
  identifiers: tuple[tuple[int, int], ...]
  kind: str

  @property
  def normal(self) -> bool:
    return self.kind == "normal"

  @property
  def abnormal(self) -> bool:
    """Whether it is to be kept; what nothing is known of is."""
    return self.kind in ("abnormal", "unknown")


class Span(NamedTuple):
  """A word of a closed vocabulary in a text."""
  name: str
  start: int
  end: int


def analyse(text: str, heading: str = "",
            lexicon: lexicon_lib.Lexicon | None = None) -> Analysis:
  """Findings and the rest of a sentence.

  Args:
    text: a sentence, or a few.
    heading: of the part of the report, as sentences.split tells it.
    lexicon: lexicon.load(...) of the user's own files; None = the built-in one.
  """
  return _analyse(text, heading, lexicon or lexicon_lib.load())


@functools.lru_cache(maxsize=4096)
def _analyse(text, heading, lexicon) -> Analysis:
  words, raw = tokens.words(text)
  clauses = scope.read(lexicon.terms.find(words), words)
  kinds = {event.kind for clause in clauses for event in clause.events}
  mentions, anatomy = [], []
  if "anatomy" in kinds:
    for event in (e for clause in clauses for e in clause.events):
      if event.kind == "anatomy":
        anatomy += lexicon.parents[event.name]
  if "finding" in kinds:
    spans = tokens.spans(text, raw)
    for clause in clauses:
      for i, event in enumerate(clause.events):
        if event.kind == "finding":
          mentions += _mentions(clause.events, i, words, spans, text, lexicon)
    for mention in mentions:
      if organ := lexicon.findings[mention.canonical].organ:
        anatomy += lexicon.parents[organ]
  has_digits = _DIGIT.search(text) is not None
  numbers = _numbers(text, words, has_digits)
  return Analysis(
      tuple(mentions), tuple(dict.fromkeys(anatomy)), numbers,
      frozenset(event.name for clause in clauses for event in clause.events
                if event.kind == "side") if "side" in kinds else frozenset(),
      identifiers.spans(text) if "identifier" in kinds
      or has_digits and identifiers.may_have(text) else (),
      _kind(clauses, kinds, mentions, heading, numbers))


def forget():
  """Empties the memory of sentences that were analysed."""
  _analyse.cache_clear()


def vocabulary(text: str, name: str,
               lexicon: lexicon_lib.Lexicon | None = None) -> list[Span]:
  """Words of the closed vocabulary "severity" or "location", longest first."""
  words, raw = tokens.words(text)
  spans = tokens.spans(text, raw)
  trie = getattr(lexicon or lexicon_lib.load(), name)
  return [Span(meaning[1], spans[start][0], spans[end - 1][1])
          for start, end, meaning in trie.find(words)]


def _mentions(events: list[Event], i: int, words, spans, text: str,
              lexicon: lexicon_lib.Lexicon) -> list[Mention]:
  """The findings that one term makes: none, one, or one a place."""
  event = events[i]
  start, end = spans[event.start][0], spans[event.end - 1][1]
  side = names.side(events, i)
  return [Mention(text[start:end], name, start, end, event.negated,
                  event.uncertain, side, event.context, event.gone)
          for name in names.names(events, i, words, lexicon)]


def _numbers(text: str, words: list[str], has_digits: bool) -> tuple[str, ...]:
  found = [] if _WORDS.keys().isdisjoint(words) else [
      _WORDS[word] for word in words if word in _WORDS]
  for match in _NUMBERS.finditer(text) if has_digits else ():
    before = text[match.start() - 1:match.start()]
    if before.isalnum() or before in ("-", ".", "_"):
      continue                                     # "L4-5", "COVID-19"
    unit, group = (match[2] or "").lower()[:1], []
    for one in reversed(_ONE.findall(match[1])):   # a unit counts for all
      unit = one[1].lower()[:1] or unit            # numbers before it
      value = float(one[0].replace(",", "."))
      group.append(f"{value * 10 if unit == 'c' else value:g}"
                   + (" mm" if unit else ""))
    found += reversed(group)
  return tuple(dict.fromkeys(found))


def _kind(clauses: list[Clause], kinds: set[str], mentions: list[Mention],
          heading: str, numbers: tuple[str, ...]) -> str:
  if heading in NEUTRAL:
    return heading if heading != "indication" else "history"
  if "abnormal" in kinds or any(
      m.context == "study" and (m.gone or not m.negated) for m in mentions):
    return "abnormal"
  if kinds & {"history", "family", "past"}:
    return "history"
  if kinds & {"recommendation", "hypothetical"}:
    return "recommendation"
  if kinds & {"normal", "negation_before", "negation_after", "not"}:
    return "unknown" if _is_open(clauses) else "normal"
  if any(n.endswith("mm") for n in numbers) and "technique" not in kinds:
    return "unknown"
  for kind in ("comparison", "technique"):
    if kind in kinds:
      return kind
  return "unknown"


def _is_open(clauses: list[Clause]) -> bool:
  """Whether an "except ..." or "but ..." brings what nothing is known of."""
  known = {"normal", "negation_before", "negation_after", "not", "technique",
           "comparison", "finding"}
  return any(c.lead in ("exception", "terminator") and c.end > c.start + 1
             and not known & {e.kind for e in c.events} for c in clauses)
