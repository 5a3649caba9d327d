"""Names, dates and numbers that point to a person.

Wide on purpose: an item loses little by losing a date. Sizes, vertebrae, series
and image numbers are none.
"""

import re

_MONTH = (r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|"
          r"july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|"
          r"dec(?:ember)?)")
_TITLE = r"(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Doctor|Nurse)\.?"
_NAME = r"[A-Z][\w'’-]+"

_IDENTIFIER = re.compile(
    r"\b(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}\b"             # 2021-03-04
    r"|\b\d{1,2}([-/.])\d{1,2}\1(?:19|20)?\d\d\b"            # 4/3/2021
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)?[ -](?i:{_MONTH})[., -]*(?:(?:19|20)\d\d)?\b"
    rf"|\b(?i:{_MONTH})\.? \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? (?:19|20)\d\d)?"
    rf"|\b(?i:{_MONTH})\.?,? (?:19|20)\d\d\b"
    r"|\b\d{1,2}:\d\d(?::\d\d)? ?(?i:[ap]m\b|[ap]\.m\.|hours|hrs|h\b)"
    rf"|\b{_TITLE} "
    rf"(?:[A-Z]\. ?){{0,3}}{_NAME}(?: {_NAME})?"
    r"|\b(?i:mrn|accession|patient id|patient name|name|dob|id|ssn|case)"
    r"(?i: (?:number|no\.?))?\s*[:#]\s*[\w./-]+"
    r"|\b(?i:mrn|accession)(?i: (?:number|no\.?))? [\w-]*\d[\w-]*"
    rf"|\b(?i:dictated|signed|reported|read|reviewed|discussed) "
    rf"(?i:by|with) (?:{_TITLE} )?{_NAME}(?: [A-Z]\.)?(?: {_NAME})*"
    r"|\b(?:tel|phone|telephone|pager)[.: ]+[\d+() -]{5,}"
    r"|\+?\(?\b\d{3}\)?[ -.]\d{3}[ -.]\d{4}\b"
    r"|\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]+\b"
    r"|\b[A-Z]{0,3}\d{6,}\b")

# Without one of these, or a cue word of the lexicon, a text has none.
_DIGITS = re.compile(
    r"\d(?:\d{3}|[-/]\d{1,2}[-/]\d|\.\d{1,2}\.\d|:\d\d)|[Mm]ay \d")


def may_have(text: str) -> bool:
  """Cheaper than `spans`; False is sure but for names without a title."""
  return _DIGITS.search(text) is not None


def spans(text: str) -> tuple[tuple[int, int], ...]:
  """Where identifiers stand in a text."""
  return tuple(match.span() for match in _IDENTIFIER.finditer(text))
