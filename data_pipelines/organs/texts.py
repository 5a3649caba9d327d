"""What a report says of each organ: decomposed by a model, or found by rules.

The files hold { "<study>": { "<organ>": "what is said" } }, either

    two: findings, impression   as fVLM's prompts decompose the sections
    one                         merged already, as `itemize export --to=fvlm`

A normal organ is one of which the impression does not speak. Its sentence for
that is only said of an organ of which the findings do not speak either:

    order     both            findings only       impression only   neither
    "code"    IMPR. FIND.     FIND. (normal)      IMPR.             default
    "paper"   FIND. IMPR.     FIND. null (normal) null IMPR.        default

In the public code the text of "findings only" begins with the default sentence,
which is cut before it is tokenised; here it is cut at once.

References: Shui et al. 2025, https://arxiv.org/abs/2501.14548, section 3.1, and
its public code.
"""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Sequence

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import anatomies
from data_pipelines.itemize import engine
from data_pipelines.organs import grouping
from data_pipelines.volumes.nifti import SeriesError

ORDERS = ("code", "paper")
NOTHING = "null"   # stands for the section that does not speak of the organ


@dataclasses.dataclass(frozen=True)
class OrganText:
  """What is said of one organ of one study."""
  text: str
  normal: bool


# Organ -> text, of one study.
Texts = dict[str, OrganText]


def merged(organ: str, *, findings: str, impression: str, order: str
           ) -> OrganText:
  """The text of an organ from what the two sections say; "" = nothing."""
  code = anatomies.merged(organ, [impression], [findings])["text"]
  if order == "code":
    return told(organ, code)
  said, seen = (
      "" if (part := anatomies.merged(organ, [text], ()))["normal"]
      else part["text"] for text in (impression, findings))
  if not said and not seen:
    return told(organ, code)
  return OrganText(f"{seen or NOTHING} {said or NOTHING}", not said)


def told(organ: str, text: str) -> OrganText:
  """A merged text: normal if it begins with the sentence that says so."""
  default, text = anatomies.default(organ), text.strip()
  rest = text.removeprefix(default).strip()
  normal = not text or text.startswith(default)
  return OrganText(rest or default, normal)


def read(paths: Sequence[pathlib.Path], organs: Sequence[str], *,
         order: str) -> dict[str, Texts]:
  """The organs' texts of every study that the files name.

  Args:
    paths: one file of merged texts, or findings and impression.
    organs: whose texts are wanted; one that a study does not name is normal.
    order: of ORDERS; of two files only.

  Raises:
    PrepareError: a file is none of these, or names an organ nobody knows.
  """
  if len(paths) not in (1, 2):
    raise PrepareError(f"--organ_texts names {len(paths)} files; give one of "
                       "merged texts, or findings,impression.")
  files = [_read(path) for path in paths]
  if len(files) == 1:
    return {study: {o: told(o, said.get(o, "")) for o in organs}
            for study, said in files[0].items()}
  findings, impression = files
  return {study: {o: merged(o, findings=findings.get(study, {}).get(o, ""),
                            impression=impression.get(study, {}).get(o, ""),
                            order=order) for o in organs}
          for study in findings | impression}


def of_items(items: Sequence[str], organs: Sequence[str]) -> Texts:
  """By rules and the dictionary of anatomies, from the findings of a study.

  An organ that none of them speaks of is normal.

  Raises:
    SeriesError: they cannot be read, as those in another language.
  """
  record = {"id": "a", "sections": {"findings": "\n".join(items)}}
  result = engine.itemize(record, "anatomy")
  if engine.is_unreadable(result.warnings):
    raise SeriesError("rules cannot read its items "
                      f"({', '.join(result.warnings)})")
  said = result.anatomies
  return {o: OrganText(said[o]["text"], said[o]["normal"]) if o in said
          else told(o, "") for o in organs}


def _read(path: pathlib.Path) -> dict[str, dict[str, str]]:
  try:
    studies = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise PrepareError(f"{path} cannot be read ({error}); give a JSON file of "
                       "one entry a study.") from error
  known = grouping.known_organs()
  wanted = 'want { "<study>": { "<organ>": "text" } }'
  if not isinstance(studies, dict):
    raise PrepareError(f"{path} holds no object; {wanted}.")
  for study, said in studies.items():
    if not isinstance(said, dict) or not all(
        isinstance(text, str) for text in said.values()):
      raise PrepareError(f"{path}: the entry of {study!r} is no object of "
                         f"texts; {wanted}.")
    if unknown := sorted({o.lower() for o in said} - known):
      close = difflib.get_close_matches(unknown[0], known, n=1)
      hint = f"did you mean {close[0]!r}" if close else "mend its name"
      raise PrepareError(f"{path}: {study!r} tells of an unknown organ, "
                         f"{unknown[0]!r}; {hint}?")
  return {study: {o.lower(): text for o, text in said.items()}
          for study, said in studies.items()}
