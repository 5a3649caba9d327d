"""The sentences of a report, each with the part that it plays.

A report tells of more than the pictures: why they were made, how, what came
before, what should come next. Headings tell ("HISTORY:"), and so do words of a
sentence (language.py). A heading of history reaches to the next heading; where
no heading of findings follows it, to the end of its line, or of its sentence in
a text of one line.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import sentences
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Source

FINDINGS, IMPRESSION, HISTORY = "findings", "impression", "history"

_OTHERS = ("history", "recommendation", "comparison", "technique")
_IMPRESSION = re.compile(
    r"\b(?:impressions?|conclusions?|summary|opinion|assessment|diagnosis)"
    r"[ *]*(?::|\n)", re.IGNORECASE)
# What speaks of people and papers.
_ASIDE = re.compile(
    r"\b(?:as (?:(?:described|detailed|stated|mentioned|noted|reported) )?"
    r"(?:above|below)|as (?:described|detailed|stated|mentioned|reported)"
    r"(?=[ .]*$)|see (?:above|below|report|text|comment)|informed|notified|"
    r"(?:tele)?phoned?|(?:discussed|communicated|reviewed|agreed) (?:with|to|"
    r"by)|(?:ask(?:s|ed)?|quer(?:y|ies|ied)|[ei]nquire[sd]?|wonder(?:s|ed)?) "
    r"(?:about|for|whether|if)|known (?:to have|for|case of)|thank(?:s| you)|"
    r"dictated|(?:electronically )?signed|verified by)\b", re.IGNORECASE)
# Words of which _ASIDE wants one: to look for them is faster.
_HINTS = frozenset(word + end for end in ("", ".", ",", ";", ":") for word in (
    "above below described detailed stated mentioned reported see informed "
    "notified telephoned telephone phoned phone discussed communicated agreed "
    "reviewed ask asks asked query queries queried enquire enquires enquired "
    "inquire inquires inquired wonder wonders wondered known thank thanks "
    "dictated signed verified").split())
_COMPARES = frozenset(
    "unchanged stable compared comparison previous previously prior again "
    "before above described known".split())
_WORD = re.compile(r"[a-z]+")


@dataclasses.dataclass(frozen=True)
class Statement:
  """A sentence or a clause of one.

  Attributes:
    within: FINDINGS or IMPRESSION, where it stands.
    aside: whether it is not about the pictures, but history, technique, advice
      or mere comparison.
    shown: the findings that it says are to be seen.
  """
  text: str
  source: Source
  within: str
  aside: bool
  analysis: language.Analysis

  @property
  def part(self) -> str:
    """FINDINGS, IMPRESSION or HISTORY."""
    return HISTORY if self.aside else self.within

  @functools.cached_property
  def shown(self) -> tuple[language.Mention, ...]:
    return () if self.aside else tuple(
        m for m in self.analysis.findings
        if not m.negated and m.context == "study")

  @property
  def abnormal(self) -> bool:
    """Whether it says that something abnormal is to be seen.

    What nothing is known of may well be.
    """
    return not self.aside and (
        bool(self.shown) or self.analysis.abnormal and not self.gone)

  @property
  def gone(self) -> bool:
    """Whether all that it tells of was there before and is no more."""
    return (not self.aside and not self.shown
            and any(m.gone for m in self.analysis.findings))

  @property
  def normal(self) -> bool:
    """Whether it says that something is normal, absent or gone."""
    return not self.aside and (self.analysis.normal or self.gone)

  @property
  def compares(self) -> bool:
    """Whether it speaks of an earlier or another statement."""
    return not _COMPARES.isdisjoint(_WORD.findall(self.text.lower()))


def read(record: Record,
         lexicon: lexicon_lib.Lexicon | None = None) -> tuple[Statement, ...]:
  """All statements of a report, in order."""
  lexicon = lexicon or lexicon_lib.load()   # one key of the cache for both
  return tuple(s for name, text in record.sections.items()
               for s in _section(name, text, lexicon))


def statement(text: str, source: Source, within: str, heading: str = "",
              lexicon: lexicon_lib.Lexicon | None = None) -> Statement:
  """One statement. heading: see sentences.Sentence."""
  analysis = language.analyse(text, heading, lexicon)
  aside = bool(heading) or analysis.kind in _OTHERS
  if not (aside or _HINTS.isdisjoint(text.lower().split())):
    # "Cyst in the pons as described above." still tells of a cyst.
    match = _ASIDE.search(text)
    aside = match is not None and not any(
        m.end <= match.start() for m in analysis.findings)
  return Statement(text, source, within, aside, analysis)


# The back-end and the checks of a record read it one after the other.
@functools.lru_cache(maxsize=64)
def _section(name: str, text: str, lexicon) -> tuple[Statement, ...]:
  marks = [] if name == IMPRESSION else [
      match.end() for match in _IMPRESSION.finditer(text)]
  within, before, found = FINDINGS, -1, []
  for sentence, heading, headed in _with_headings(name, text):
    if name == IMPRESSION:
      within = IMPRESSION
    elif headed:  # what the heading says holds until the next one
      within = IMPRESSION if any(
          before < mark <= sentence.start for mark in marks) else FINDINGS
    before = sentence.end
    found.append(statement(sentence.text,
                           Source(name, sentence.start, sentence.end), within,
                           heading, lexicon))
  return tuple(found)


def _with_headings(
    name: str, text: str) -> Iterator[tuple[sentences.Sentence, str, bool]]:
  """(sentence, heading that holds for it, whether one stands before it)."""
  split = sentences.split(text, name)
  ends = [0, *(s.end for s in split)]
  gaps = [text[end:s.start] for end, s in zip(ends, split)]
  headed = [any(map(str.isalpha, gap)) for gap in gaps]
  governed = True   # whether a heading of findings follows, seen from the end
  holds = [True] * len(split)
  for i in reversed(range(len(split))):
    if not split[i].heading:
      governed = not (headed[i] and _IMPRESSION.search(gaps[i]))
    elif i + 1 == len(split):
      governed = split[i].heading == "recommendation"
    holds[i] = governed
  same_line = alone = False
  for sentence, gap, first, hold in zip(split, gaps, headed, holds):
    if first:
      same_line, alone = True, gap.endswith("\n")
    elif "\n\n" in gap or "\n" in gap and not alone:
      same_line = False
    elif "\n" not in text.strip():
      same_line = False
    keeps = sentence.heading and (hold or same_line)
    yield sentence, sentence.heading if keeps else "", first
