"""The terms of a sentence as events, and what cues mean that stand together.

    not + seen            speaks of what is before it, as "absent" does
    no, not + change      says nothing about presence: "no change in the nodule"
    no, not + normal      is abnormal: "not clear"
    no, not + without     a double negation, cancels
    not + excluded        uncertain
    no longer + seen      was there and is gone

Between the two, fillers may stand ("not clearly seen"), and one word that the
lexicon does not know.
"""

NEGATIONS = frozenset(("negation_before", "not"))
# Cues that are joined -> what may stand between them and the next one.
_BETWEEN = {"not": frozenset(("filler", "verb", "determiner", "side")),
            "negation_before": frozenset(("filler", "seen", "starter")),
            "none": frozenset(("filler",)),
            "gone_after": frozenset(("filler", "verb", "determiner"))}


class Event:
  """A term of the lexicon in a sentence; words start <= i < end.

  The last four are of findings: what the cues make of it.
  """
  negated = False
  uncertain = False
  gone = False           # was there, is not any more
  context = "study"      # or "history", "family", "past", "hypothetical"

  def __init__(self, start: int, end: int, kind: str, name: str):
    self.start, self.end, self.kind, self.name = start, end, kind, name


def joined(events: list[Event], words: list[str]) -> list[Event]:
  """The events with cues that stand together made one."""
  out, i = [], 0
  while i < len(events):
    event = events[i]
    if event.kind not in _BETWEEN:
      out.append(event)
      i += 1
      continue
    at = _partner(events, i, words)
    kind, used = _together(event, events[at] if at else None, words)
    if kind is None:
      out.append(event)
    elif kind:
      end = events[at].end if used else event.end
      out.append(Event(event.start, end, kind, kind))
    i = at + 1 if used else i + 1
  return out


def _partner(events: list[Event], i: int, words: list[str]) -> int | None:
  """Index of the next event that is no filler."""
  at, gap, between = events[i].end, 0, _BETWEEN[events[i].kind]
  is_neither = words[events[i].start] == "neither"
  if is_neither:
    between |= {"anatomy", "verb"}                # "neither lung is clear"
  for j in range(i + 1, len(events)):
    gap += events[j].start - at
    kind = events[j].kind
    if gap > 1:
      return None
    if kind not in between:
      is_other = gap and kind in NEGATIONS        # "no swelling nor cyst"
      return None if is_other or is_neither and kind != "normal" else j
    at = events[j].end
  return None


def _together(event: Event, partner: Event | None, words: list[str]):
  """(kind of both, whether the partner is used up).

  None: the event stays as it is; "": it goes.
  """
  kind = partner.kind if partner else ""
  is_last = event.end >= len(words) or words[event.end] in ",.;)"
  if event.kind == "gone_after":
    return _no_longer(kind) if words[event.start] == "no" else (None, False)
  if event.kind == "none":
    if kind == "seen":
      return "negation_after", True
    return "negation_after" if is_last else "negation_before", False
  if words[event.start:event.end] == ["no"] and _is_number(words, event.end):
    return "", False                              # "No. 3"
  if kind in ("change", "normal"):
    return {"change": "comparison", "normal": "abnormal"}[kind], True
  if kind == "negation_after" and words[partner.end - 1] in ("excluded", "out"):
    return "uncertain_after", True
  if kind in ("gone_after", "negation_after") or (
      kind in NEGATIONS and words[partner.start] != "nor"):
    return "", True
  if event.kind == "not" and kind == "seen":
    return "negation_after", True
  return ("negation_after" if is_last else None), False    # "... this is not."


def _no_longer(kind: str):
  if kind == "normal":
    return "abnormal", True
  if kind in ("finding", "with"):
    return "gone_before", False
  return ("gone_after", True) if kind == "seen" else (None, False)


def _is_number(words: list[str], at: int) -> bool:
  return words[at:at + 1] == ["."] and at + 1 < len(words) and (
      words[at + 1][0].isdigit())
