"""Severity, location and category of each finding that a sentence names.

All three are of closed vocabularies (lexicon/). A word of severity or location
belongs to a finding where no other finding, comma, "but" or the like stands
between them. Of several the nearest counts; a severity before the finding goes
before any behind it.

Reference: Liang et al., IEEE JBHI 2025 (the fields of its tuples).
"""

import re

from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import statements
from data_pipelines.itemize.contract import Triplet

DENIED = "no"   # the severity of a finding that is absent

_BARRIER = re.compile(r"[.;]|\b(?:but|however|although|without|no)\b|,",
                      re.IGNORECASE)
_SIDED = ("left ", "right ", "bilateral ")


def read(statement: statements.Statement,
         lexicon: lexicon_lib.Lexicon | None = None) -> list[Triplet]:
  """The triplets of a statement; none of what is not about the pictures."""
  lexicon = lexicon or lexicon_lib.load()
  mentions = [m for m in statement.analysis.findings if m.context == "study"]
  if statement.aside or not mentions:
    return []
  text = statement.text
  graded = language.vocabulary(text, "severity", lexicon)
  placed = language.vocabulary(text, "location", lexicon)
  found = []
  for n, mention in enumerate(mentions):
    category = lexicon.findings[mention.canonical].category(mention.term)
    if category is None:
      continue
    left = mentions[n - 1].end if n else 0
    right = mentions[n + 1].start if n + 1 < len(mentions) else len(text)
    severity = _nearest(text, graded, mention, left, right, behind=False)
    location = _nearest(text, placed, mention, left, right, behind=True)
    found.append(Triplet(
        severity=DENIED if mention.negated else severity,
        location=_with_side(location, mention.laterality),
        category=lexicon.same.get(category, category), negated=mention.negated,
        source=statement.source))
  return list(dict.fromkeys(found))


def _nearest(text: str, spans, mention, left: int, right: int, *,
             behind: bool) -> str | None:
  """The name of the nearest span between the findings before and after.

  behind: whether one behind the mention is as good as one before it.
  """
  best = None
  for span in spans:
    if mention.start <= span.start and span.end <= mention.end:
      gap, distance = "", 0
    elif left <= span.start and span.end <= mention.start:
      gap, distance = text[span.end:mention.start], mention.start - span.end
    elif mention.end <= span.start and span.end <= right:
      gap = text[mention.end:span.start]
      distance = span.start - mention.end + (0 if behind else len(text))
    else:
      continue
    if not _BARRIER.search(gap) and (best is None or distance < best[0]):
      best = distance, span.name
  return best and best[1]


def _with_side(location: str | None, side: str | None) -> str | None:
  if location is None or side is None or location == side or (
      location.startswith(_SIDED)):
    return location
  return f"{side} {location}"
