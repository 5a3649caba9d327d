"""Reports -> sentences, with the characters where each of them stands.

A period ends a sentence unless it is a decimal point, belongs to an
abbreviation ("Dr.", "e.g.", "No. 3") or to a number of a list. A line break
ends one where a list, a heading or a new statement follows, and does not where
a sentence was only wrapped. Numbers and bullets of lists and headings such as
"FINDINGS:" are no part of a sentence; headings of what is not about the images
("HISTORY:") are passed on in `Sentence.heading`.
"""

import re
from typing import NamedTuple

from data_pipelines import reports


class Sentence(NamedTuple):
  """text == the section's text[start:end]; heading: see HEADINGS."""
  text: str
  section: str
  start: int
  end: int
  heading: str = ""


# What a heading says of the sentences behind it; "": about the images.
HEADINGS = {
    "findings": "", "finding": "", "impression": "", "impressions": "",
    "conclusion": "", "conclusions": "", "result": "", "results": "",
    "report": "", "final report": "", "opinion": "", "summary": "",
    "interpretation": "", "observations": "", "ct chest": "", "chest ct": "",
    "diagnosis": "", "description": "", "discussion": "",
    "history": "history", "clinical history": "history",
    "patient history": "history", "past medical history": "history",
    "clinical information": "history", "clinical details": "history",
    "clinical data": "history", "clinical context": "history",
    "indication": "indication", "indications": "indication",
    "clinical indication": "indication", "reason for exam": "indication",
    "reason for examination": "indication", "reason for study": "indication",
    "clinical question": "indication",
    "comparison": "comparison", "comparisons": "comparison",
    "comparison study": "comparison", "prior studies": "comparison",
    "technique": "technique", "procedure": "technique", "exam": "technique",
    "examination": "technique", "protocol": "technique", "study": "technique",
    "contrast": "technique", "methods": "technique",
    "recommendation": "recommendation", "recommendations": "recommendation",
    "follow-up": "recommendation",
}
_LONGEST = 2 * max(map(len, HEADINGS))    # characters, decoration included
_KNOWN = "|".join(sorted(map(re.escape, HEADINGS), key=len, reverse=True))

# A heading at the start of a line, or a known one behind a sentence.
_HEADING = re.compile(
    rf"[ *#]{{0,8}}({_KNOWN})[ *]{{0,8}}(?::|(?=\n)|$)\**[ \t]*\n?",
    re.IGNORECASE)
_CAPITALS = re.compile(r"[A-Z][A-Z/& -]{2,40}:")
_MARKER = re.compile(
    r"\s*(?:\(?\d{1,2}[.)](?=\s|\D)|[-*•·▪◦‣–—>](?=\s*\w)|\(?[a-h][)]\s)\s*")
_INLINE = re.compile(r"\s+\(?\d{1,2}[.)]\s+(?=[A-Z\"'])")

_END = re.compile(
    r"[.!?]{1,10}[\"')\]]{0,4}(?=\s|$)|(?<=[a-z)0-9])\.(?=[A-Z][a-z])|\n"
    r"|(?<=\S)(?=\s\d{1,2}\)\s)")
_END_OR_SEMICOLON = re.compile(rf"{_END.pattern}|;(?=\s|$)")
_TAIL = re.compile(r"[\w.]*$")
_NEXT = re.compile(r"\s*(\S*)")

_ABBREVIATIONS = frozenset(
    "dr mr mrs ms prof st vs approx ca cf fig figs i.e e.g al resp ser im "
    "seq ref max min incl excl viz dept sr jr ant post sup inf lat med diam "
    "temp vol".split())
_MAYBE = frozenset("no nos etc ca fig art vv aa a.k.a".split())
_UNITS = frozenset("mm cm ml cc mg kg hu sec min in".split())
_GOES_ON = frozenset(
    "in x by long thick diameter wide size and at from to nodule mass deep "
    "lesion cyst of".split())
_OPEN = frozenset(
    "a an the of in on at with without and or to by from for as is are was "
    "were no not than that which into within right left mild small large "
    "moderate both measuring approximately about consistent".split())
_NARROW = 60    # characters; a line of lower-case text that is not wrapped


def split(text: str, section: str = "text", *,
          semicolons: bool = False) -> list[Sentence]:
  """Sentences of a clean text, in order.

  Args:
    text: as clean.clean gives it.
    section: what to call it.
    semicolons: whether they end sentences, too.
  """
  found, start, heading = [], 0, ""
  lower = text == text.lower()
  pattern = _END_OR_SEMICOLON if semicolons else _END
  begins = True     # a line or a statement begins at `start`
  for match in pattern.finditer(text):
    if match.start() < start:
      continue
    if begins:
      start, heading = _begin(text, start, heading)
      if match.start() < start:
        begins = False
        if match.end() < start or match[0] != "\n":
          continue
    if not (_breaks(text, start, match, lower) if match[0] == "\n"
            else _ends(text, start, match)):
      begins = False
      continue
    end = match.start() if match[0] == "\n" else match.end()
    _append(found, text, start, end, section, heading)
    start, begins = match.end(), True
  if begins:
    start, heading = _begin(text, start, heading)
  _append(found, text, start, len(text), section, heading)
  return found


def numbered(text: str, simple: bool = False) -> list[str]:
  """Items of a list, one a number or bullet; further lines belong to them.

  Where nothing is numbered, every line is an item. `simple` is the rule of the
  public code, see data_pipelines/reports.py.
  """
  if simple:
    return reports.numbered_items(text)
  lines = [line for line in text.split("\n") if line.strip()]
  marks = [_MARKER.match(line) for line in lines]
  if not any(marks):
    return [line.strip() for line in lines]
  items = []
  for line, mark in zip(lines, marks):
    if mark:
      items += _inline(line[mark.end():].strip())
    elif items and not _HEADING.fullmatch(line):
      items[-1] = f"{items[-1]} {line.strip()}"
  return [item for item in items if item]


def _inline(line: str) -> list[str]:
  """"A. 2. B. 3. C" -> A., B., C."""
  return [part.strip() for part in _INLINE.split(line)]


def _append(found, text: str, start: int, end: int, section: str, heading: str):
  part = text[start:end]
  start += len(part) - len(part.lstrip())
  part = part.strip()
  if any(map(str.isalnum, part)):
    found.append(Sentence(part, section, start, start + len(part), heading))


def _begin(text: str, start: int, heading: str) -> tuple[int, str]:
  """Where the words begin, behind headings, numbers and bullets."""
  while start < len(text) and text[start].isspace():
    start += 1
  while _may_head(text, start) and (match := _HEADING.match(text, start)):
    start, heading = match.end(), HEADINGS[match[1].lower()]
  if heading and _CAPITALS.match(text, start):
    heading = ""
  if not text[start:start + 2].isalpha() and (
      match := _MARKER.match(text, start)) and match.end() < len(text):
    start = match.end()
  return start, heading


def _may_head(text: str, start: int) -> bool:
  """Cheaper than _HEADING; False is sure."""
  end = start + _LONGEST
  return (text.find(":", start, end) >= 0 or text.find("\n", start, end) >= 0
          or end > len(text))


def _ends(text: str, start: int, match: re.Match) -> bool:
  """Whether a period is the end of a sentence."""
  at = match.start()
  if not match[0]:                              # "... 2) ...", not "(see 2) "
    return text.count("(", start, at) <= text.count(")", start, at)
  if match[0][0] != ".":
    return True
  following = _NEXT.match(text, match.end())[1]
  if match[0].startswith(".."):
    return not following[:1].islower()
  word = _TAIL.search(text, max(start, at - 12), at)[0].lower()
  if word in _ABBREVIATIONS:
    return not following
  if word in _MAYBE:
    return not (following[:1].islower() or following[:1].isdigit())
  if word in _UNITS and following.strip(".,") in _GOES_ON:
    return False
  if "." in word and len(word) < 6 and word.replace(".", "").isalpha():
    return following[:1].isupper()              # "a.m."
  if word.isdigit() and len(word) < 3 and text[start:at].strip() == word:
    return False                                # a number of a list
  if len(word) == 1 and text[at - 1].isupper():
    return not _is_initial(text, at, following)
  return True


def _is_initial(text: str, at: int, following: str) -> bool:
  """"J." of "Dr. J. Smith", and not "hepatitis B." """
  return bool(re.search(r"(?:\b[A-Z]\.|\b(?:Dr|Mr|Mrs|Ms|Prof|by)\.?) ?$",
                        text[max(0, at - 8):at - 1])
              or re.fullmatch(r"[A-Z]\.", following))


def _breaks(text: str, start: int, match: re.Match, lower: bool) -> bool:
  """Whether a line break ends a sentence."""
  at = match.start()
  line = text[max(start, text.rfind("\n", start, at) + 1):at].rstrip()
  rest = match.end()
  if rest >= len(text) or text[rest] == "\n" or not line:
    return True
  if (mark := _MARKER.match(text, rest)) and mark.end() > rest:
    return True
  if _HEADING.match(text, rest) or _CAPITALS.match(text, rest):
    return True
  last = _TAIL.search(line[-24:])[0].lower()
  if line.endswith((",", "-", "/", "(")) or last in _OPEN:
    return False
  if text[rest].isupper() or line.endswith((".", "!", "?", ";", ":")):
    return True
  return lower and len(line) < _NARROW
