"""Clauses: the parts of a sentence that a cue does not reach beyond.

They end at "but", "except" and the like, and at a comma or "and" between two
parts that have verbs of their own: "the heart is large, and no effusion is
seen", but not "no effusion, mass or nodule is seen".
"""

import dataclasses

from data_pipelines.itemize.cues import Event

ENDS = frozenset(("terminator", "exception", "stop"))
JOINTS = frozenset(("comma", "and"))
_VERBS = frozenset(("verb", "seen", "negation_after", "uncertain_after",
                    "gone_after"))
_STATEMENTS = _VERBS | {"normal", "abnormal", "negation_before"}
_ABBREVIATED = frozenset(("vs", "dr", "approx", "no", "mr", "mrs"))


@dataclasses.dataclass(slots=True)
class Clause:
  """lead: the kind of the event before it, "" where there is none."""
  lead: str
  events: list[Event]
  start: int = 0
  end: int = 0                 # in words


def split(events: list[Event], words: list[str]) -> list[Clause]:
  """The clauses of a sentence; events that end one are in none."""
  out, piece, lead, begin = [], [], "", 0
  for event in events:
    if event.kind in ENDS and not _is_inside(event, words):
      out += _parts(lead, piece, begin, event.start)
      piece, lead, begin = [], event.kind, event.end
    else:
      piece.append(event)
  return out + _parts(lead, piece, begin, len(words))


def _is_inside(event: Event, words: list[str]) -> bool:
  """Whether a period belongs to an abbreviation such as "e.g."."""
  if words[event.start] != "." or event.start == 0:
    return False
  before = words[event.start - 1]
  return len(before) == 1 and before.isalpha() or before in _ABBREVIATED


def _parts(
    lead: str, events: list[Event], begin: int, end: int) -> list[Clause]:
  """Splits what lies between two ends, words begin <= i < end."""
  if begin >= end:
    return []
  joints = [i for i, e in enumerate(events) if e.kind in JOINTS]
  if not joints:
    return [Clause(lead, events, begin, end)]
  current = events[:joints[0]]
  out, at, verb = [], begin, _has(_VERBS, current)
  # "Apart from a cyst, the kidney is normal" ends at its first comma.
  exception = lead == "exception" and _has(_STATEMENTS, events[joints[0]:])
  for i, stop in zip(joints, [*joints[1:], len(events)]):
    joint, part = events[i], events[i + 1:stop]
    part_verb = _has(_VERBS, part)
    if exception or verb and part_verb and _has_subject(part, joint):
      out.append(Clause(lead, current, at, joint.start))
      lead, current, at, verb = "", part, joint.end, part_verb
      exception = False
    else:
      current += (joint, *part)
      verb |= part_verb
  return [*out, Clause(lead, current, at, end)]


def _has_subject(part: list[Event], joint: Event) -> bool:
  """Whether a part does not begin with its verb, as in "... and is large"."""
  return part[0].start > joint.end or part[0].kind not in _VERBS | {"not"}


def _has(kinds: frozenset[str], events: list[Event]) -> bool:
  for event in events:
    if event.kind in kinds:
      return True
  return False
