"""What a finding is called where it lies: calcification of the coronaries.

The places of a term are those that follow it ("plaques in the aorta and the
carotid arteries"), or, where they tell nothing, those before it ("the heart is
enlarged").
"""

from data_pipelines.itemize.cues import Event
from data_pipelines.itemize.lexicon import Lexicon

_NEAR = 30     # events to both sides in which a place is looked for
_AFTER = frozenset(("side", "determiner", "filler", "starter", "verb", "seen",
                    "or", "comma", "uncertain_before", "negation_after"))
_BEFORE = frozenset(("side", "determiner", "filler", "starter", "verb", "seen",
                     "not", "uncertain_before", "negation_before", "now",
                     "gone_before", "colon"))
_LIST = frozenset(("and", "or", "comma", "side", "determiner"))


def names(events: list[Event], i: int, words: list[str],
          lexicon: Lexicon) -> list[str]:
  """The findings that the term events[i] makes: none, one, or one a place."""
  event = events[i]
  finding = lexicon.findings[event.name]
  if finding.weak and _is_called_normal(events, i):
    return []
  if finding.attribute and i + 1 < len(events) and (
      events[i + 1].kind == "finding" and events[i + 1].start <= event.end + 1):
    return []
  if event.name in lexicon.heads and lexicon.anatomy_words.isdisjoint(
      words[event.start:event.end]):
    for places in (_places_after(events, i), _places_before(events, i)):
      found = list(dict.fromkeys(
          name for place in places
          if (name := _at(event.name, place, lexicon))))
      if found:
        own = len(places) > 1 and any(
            finding.organ in lexicon.parents[place] for place in places)
        return [event.name, *found] if own else found
  return [] if finding.weak else [
      event.name, *_shared(events, i, words, lexicon)]


def side(events: list[Event], i: int) -> str | None:
  """The side nearest to a finding, before it if there is one."""
  sides = set()
  for event in reversed(events[max(0, i - _NEAR):i]):
    if event.kind == "finding":
      break
    if event.kind == "side":
      sides.add(event.name)
  for event in events[i + 1:i + _NEAR] if not sides else ():
    if event.kind in ("finding", "comma") or not events[i].negated and (
        event.kind in ("not", "negation_before", "negation_after")):
      break
    if event.kind == "side":
      sides.add(event.name)
  return "bilateral" if len(sides) > 1 else next(iter(sides), None)


def _at(finding: str, place: str, lexicon: Lexicon) -> str | None:
  return next((lexicon.place_of[finding, part]
               for part in lexicon.parents[place]
               if (finding, part) in lexicon.place_of), None)


def _places_after(events: list[Event], i: int) -> list[str]:
  places, last = [], min(i + _NEAR, len(events))
  while i + 2 < last and events[i + 2].kind == "finding" and (
      events[i + 1].kind in ("and", "or", "comma")):
    i += 2                       # "cysts and stones of the kidneys"
  for j in range(i + 1, last):
    event = events[j]
    if event.kind == "anatomy":
      places.append(event.name)
      continue
    if event.kind not in (_LIST if places else _AFTER) or (
        event.kind == "comma" and not _is_list(events[j + 1:j + 3], places)):
      break
  return places


def _is_list(following: list[Event], places: list[str]) -> bool:
  """Whether a comma is followed by places and not by a statement on one."""
  kinds = [event.kind for event in following] + ["", ""]
  return kinds[0] in ("anatomy", "side") and kinds[1] != "verb" and (
      not places or kinds[1] in ("and", "or", "comma"))


def _places_before(events: list[Event], i: int) -> list[str]:
  places = []
  if i > 2 and events[i - 1].kind in ("or", "and") and (
      events[i - 2].kind == "finding" and events[i - 3].kind == "anatomy"
      and events[i - 2].start == events[i - 3].end):
    i -= 2                       # "pericardial thickening or effusion"
  for event in reversed(events[max(0, i - _NEAR):i]):
    if event.kind == "anatomy":
      places.append(event.name)
    elif event.kind not in (_LIST if places else _BEFORE):
      break
  return places


def _shared(events: list[Event], i: int, words: list[str],
            lexicon: Lexicon) -> list[str]:
  """The first finding of "pleural or pericardial effusion"."""
  event = events[i]
  before = [e for e in events[max(0, i - 4):i] if e.kind != "determiner"][-2:]
  if event.end - event.start < 2 or len(before) < 2 or (
      before[0].kind != "anatomy" or event.start - before[0].end > 2
      or words[before[1].start] not in ("and", "or", "nor", "/")):
    return []
  meaning = lexicon.terms.root.get(words[event.end - 1], (None,))[0]
  if not meaning or meaning[0] != "finding":
    return []
  place, head = before[0].name, meaning[1]
  if name := _at(head, place, lexicon):
    return [name]
  has_organ = lexicon.findings[head].organ in lexicon.parents[place]
  return [head] if has_organ and head != event.name else []


def _is_called_normal(events: list[Event], i: int) -> bool:
  """Whether "the enhancement of the dura is normal"."""
  for event in events[i + 1:i + _NEAR]:
    if event.kind in ("comma", "and", "with", "finding"):
      return False
    if event.kind == "normal":
      return True
  return False
