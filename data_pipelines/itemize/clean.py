"""Raw text of a report or caption -> plain text of one spelling.

What happens, in this order: wrongly decoded characters, control characters,
Unicode NFC, HTML, marks of de-identification, tables, white space. Line breaks
stay, since they end sentences; all other white space becomes one space. The
time is linear in the length of the text.

    "<p>Nodule&nbsp;of ___ 5 mm</p>"  ->  "Nodule of 5 mm", ("deidentified",
                                                             "markup")
"""

import html
import re
import unicodedata
from typing import NamedTuple

from data_pipelines.itemize import spoken

MAX_CHARACTERS = 50_000    # beyond it the text is no single report


class Cleaned(NamedTuple):
  """Plain text, and what was found: keys of contract.WARNINGS."""
  text: str
  flags: tuple[str, ...]


# Control, zero-width and private characters, byte order marks; tab and line
# feed stay.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b-\u200f"
                      "\u202a-\u202e\u2060-\u2064\ufeff\ue000-\uf8ff]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_QUOTES = str.maketrans("‘’‚‛′“”„‟″\u2010\u2011\u2012\u2212",
                        "'" * 5 + '"' * 5 + "-" * 4)

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.{0,500}?-->|<![A-Za-z]"
                  r"[^<>]{0,500}>", re.DOTALL)
_HIDDEN = re.compile(
    r"<(script|style)\b[^<>]{0,500}>[^<]{0,5000}(?:</\1\s*>|$)", re.IGNORECASE)
_ROW_END = re.compile(r"</(?:td|th)\s*>(?=\s*<t[dh]\b)", re.IGNORECASE)
_BLOCK = re.compile(r"</?(?:p|div|br|hr|li|ul|ol|tr|table|h[1-6]|section|"
                    r"article|body|html|head|title|tbody|thead)\b[^<>]{0,500}>",
                    re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]\w{1,15});", re.I)

# UTF-8 that was read as Windows-1252 or Latin-1: a lead byte and what follows.
_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161"
                       "\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a"
                       "\u20ac\u2122]{1,3}")
_MARK = re.compile(r"\[\*\*.{0,200}?\*\*\]|_{2,}|\b[Xx]{3,}\b"
                   r"|\[(?:redacted|removed|name|date|anonymi[sz]ed|"
                   r"deidentified)\]", re.IGNORECASE)
_BEFORE_STOP = re.compile(r"(?<=\S) +(?=[.,;:])(?![.,;:]\d)")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BLANK_LINES = re.compile(r"\n\s*\n")
_RULE = re.compile(r"[\s|:+=-]*")


def clean(text: str) -> Cleaned:
  """Makes a text plain; the flags tell what was done or what is wrong with it.

  A text without a word becomes "". "language" and "too_long" are only told:
  the text is there all the same.
  """
  flags = []
  if len(text) > MAX_CHARACTERS:
    flags.append("too_long")
  if not text.isascii() or "\r" in text or not text.isprintable():
    text = _characters(text, flags)
  if "<" in text or "&" in text:
    text = _without_markup(text, flags)
  if "_" in text or "[" in text or "xx" in text.lower():
    marked = _MARK.sub(" ", text)
    if marked != text:
      flags.append("deidentified")
      text = marked
  if "|" in text or "\t" in text:
    text = _without_tables(text, flags)
  text = _tidy(text)
  if spoken.is_foreign(text):
    flags.append("language")
  return Cleaned(text, tuple(dict.fromkeys(flags)))


def _characters(text: str, flags: list[str]) -> str:
  # First, since half of what was decoded wrongly are control characters.
  for _ in range(2):   # some texts were decoded wrongly twice
    mended = _MOJIBAKE.sub(_mend, text)
    if mended == text:
      break
    flags.append("mojibake")
    text = mended
  text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
  if text.isascii():
    return text
  if "\ufffd" in text:
    flags.append("mojibake")
    text = text.replace("\ufffd", " ")
  return unicodedata.normalize("NFC", text.translate(_QUOTES))


def _mend(match: re.Match) -> str:
  """The character that the bytes were meant to be, or what was there."""
  raw = bytearray()
  for character in match[0]:
    try:
      raw += character.encode("cp1252")
    except UnicodeEncodeError:
      if ord(character) > 255:
        return match[0]
      raw.append(ord(character))
  for end in range(len(raw), 1, -1):
    try:
      return raw[:end].decode("utf-8") + match[0][end:]
    except UnicodeDecodeError:
      continue
  return match[0]


def _without_markup(text: str, flags: list[str]) -> str:
  before = text
  if "<" in text:
    text = _ROW_END.sub("\t", _HIDDEN.sub(" ", text))
    text = _TAG.sub(" ", _BLOCK.sub("\n", text))
  text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
  if text != before:
    flags.append("markup")
    text = text.replace("\xa0", " ").translate(_QUOTES)
  return text


def _without_tables(text: str, flags: list[str]) -> str:
  """Rows of cells become "first cell: second, third." """
  lines = text.split("\n")
  for i, line in enumerate(lines):
    if line.count("|") < 2 and "\t" not in line.strip():
      continue
    if _RULE.fullmatch(line):
      lines[i] = ""
    else:
      cells = [c.strip() for c in re.split(r"[|\t]", line) if c.strip()]
      if len(cells) < 2:
        lines[i] = " ".join(cells)
        continue
      row = f"{cells[0].rstrip(':')}: {', '.join(cells[1:])}"
      lines[i] = row if row.endswith((".", "!", "?")) else f"{row}."
    flags.append("markup")
  return "\n".join(lines)


def _tidy(text: str) -> str:
  text = _SPACES.sub(" ", text)
  if "\n" in text:
    text = "\n".join(line.strip() for line in text.split("\n"))
    text = _BLANK_LINES.sub("\n\n", text)
  if any(stop in text for stop in (" .", " ,", " ;", " :")):
    text = _BEFORE_STOP.sub("", text)
  text = text.strip()
  return text if any(map(str.isalnum, text)) else ""
