"""What a report says of each anatomy, in one text, and whether it is normal.

As published, the impression comes before the findings, each ended by a period;
an anatomy of which the impression does not speak is normal, and its text begins
with the sentence that says so, which readers of the training file know normal
ones by. A report without any impression cannot be judged that way: there an
anatomy is abnormal if some sentence about it is.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548 and its code.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipelines.itemize import statements

_QUOTES = re.compile(r"[\"“”„«»()\[\]{}]|(?<!\w)['‘’]|['‘’](?!\w)")


def default(anatomy: str) -> str:
  """What is said of an anatomy that is normal."""
  name = anatomy[:1].upper() + anatomy[1:]
  return f"{name} shows no significant abnormalities."


def merged(
    anatomy: str, impression: Sequence[str], findings: Sequence[str]
) -> dict[str, Any]:
  """The text of an anatomy of a report that has an impression.

  Args:
    anatomy: its name.
    impression: what the impression says of it.
    findings: what the findings say of it.

  Returns:
    {"text": str, "normal": bool}.
  """
  said, seen = _ended(impression), _ended(findings)
  first = said or default(anatomy)
  return {"text": f"{first} {seen}".strip(), "normal": not said}


def read(report: Sequence[statements.Statement], names: Iterable[str]
         ) -> dict[str, dict[str, Any]]:
  """All anatomies of `names`, in their order."""
  said = [s for s in report if not s.aside]
  judged = any(s.within == statements.IMPRESSION for s in report)
  spoken_of = {}
  for statement in said:
    for name in statement.analysis.anatomy:
      spoken_of.setdefault(name, []).append(statement)
  found = {}
  for name in names:
    about = spoken_of.get(name, [])
    parts = {part: [s.text for s in about if s.within == part]
             for part in (statements.IMPRESSION, statements.FINDINGS)}
    if not judged and any(s.abnormal for s in about):
      found[name] = {"text": _ended(parts[statements.FINDINGS]),
                     "normal": False}
    else:
      found[name] = merged(name, *parts.values())
  return found


def _ended(texts: Sequence[str]) -> str:
  """The texts as sentences in a row, without quotes and brackets."""
  plain = [" ".join(_QUOTES.sub(" ", text).split()).rstrip(" .;:,")
           for text in texts]
  plain = [re.sub(r"\s+([.,;:])", r"\1", text) for text in plain]
  return " ".join(f"{text}." for text in plain if text)
