"""What the cues of a sentence do to its findings.

Cues that stand together are one (cues.py); they reach over their clause at the
most (clauses.py). In it, a negation reaches forward over lists, at most WINDOW
words beyond the last term. It ends at a comma or "and" behind the verb ("no
nodule is seen, mild ...") or before what begins a new statement ("no effusion,
a 5 mm nodule"), unless an "or" follows. Cues such as "absent" reach back to the
verb of another statement.

Reference: NegEx, Chapman et al. 2001; ConText, Harkema et al. 2009.
"""

from data_pipelines.itemize import clauses as clauses_lib
from data_pipelines.itemize import cues
from data_pipelines.itemize.clauses import Clause
from data_pipelines.itemize.cues import Event

WINDOW = 6       # words without a meaning that a negation reaches over
_AHEAD = 40      # events in which the "or" of a list is looked for

_CONTEXTS = frozenset(("history", "family", "past", "hypothetical"))
# What is said of a patient behind these words is seen in the study.
_SHOWS = frozenset(("has", "shows", "show", "demonstrates", "demonstrate",
                    "reveals", "reveal"))
_BACKWARD = frozenset(("negation_after", "uncertain_after", "gone_after"))
# Without these, findings stand as they are.
_ACTIVE = clauses_lib.ENDS | cues.NEGATIONS | _CONTEXTS | _BACKWARD | {
    "none", "none_of", "non", "question", "uncertain_before", "gone_before"}

# What begins a statement of its own behind a comma or "and"; the words, also as
# a part of a term.
_STARTERS = frozenset(("starter", "comparison", "determiner", "side",
                       "uncertain_before"))
_STARTING_WORDS = frozenset(("chronic", "old"))
_DEFINITE = frozenset(("the", "there", "this", "these"))
_BEFORE_NOUN = frozenset(("determiner", "starter", "filler", "side"))


def read(found: list, words: list[str]) -> list[Clause]:
  """Clauses whose findings know what the cues do to them.

  Args:
    found: (start, end, (kind, name)), as Trie.find gives them.
    words: of the sentence.
  """
  if found and found[-1][2][0] == "stop" and found[-1][1] == len(words):
    found = found[:-1]
  events = [Event(s, e, kind, name) for s, e, (kind, name) in found]
  kinds = {meaning[0] for _, _, meaning in found}
  if kinds.isdisjoint(_ACTIVE):
    return [Clause("", events, 0, len(words))]
  clauses = clauses_lib.split(cues.joined(events, words), words)
  if "finding" in kinds:
    for clause in clauses:
      _Scope(clause.events, words).apply()
  return clauses


class _Scope:
  """What is in force while the events of a clause are read from its start."""

  def __init__(self, events: list[Event], words: list[str]):
    self.events, self.words = events, words
    self.negation = self.gone = self.uncertain = False
    self.doubt = False       # the next negation is denied: "not sure that no"
    self.spared = False      # the next finding is there: "none of the nodules"
    self.comma = False       # one came since the cue
    self.closed = False      # a verb came since the cue
    self.count = 0           # findings since the cue
    self.reach = 0           # word behind the last event
    self.non = -1            # word behind "non-"
    self.context, self.holds = "study", False

  def apply(self):
    """Marks the findings of the clause."""
    for i, event in enumerate(self.events):
      if read_event := _READERS.get(event.kind):
        read_event(self, i, event)
      self.reach = event.end

  def finding(self, i: int, event: Event):
    if event.start - self.reach > WINDOW:
      self.negation = self.gone = False
    if self.negation and self._is_growth_of(i):
      self.negation = False                     # "no enlargement of the nodule"
    if self.non == event.start:
      event.kind = "attribute"                  # "non-calcified"
    event.negated = self.negation and not self.spared or self.gone
    event.gone, event.uncertain = self.gone, self.uncertain
    event.context = self.context
    self.spared = False
    self.count += 1

  def negate(self, i: int, event: Event):
    del i, event
    self.negation, self.uncertain = not self.doubt, self.doubt
    self.comma, self.closed, self.count, self.doubt = False, False, 0, False

  def doubts(self, i: int, event: Event):
    del i, event
    self.doubt = True

  def gone_before(self, i: int, event: Event):
    del i, event
    self.gone, self.comma, self.closed, self.count = True, False, False, 0

  def none_of(self, i: int, event: Event):
    del i, event
    self.negation = self.spared = True

  def is_non(self, i: int, event: Event):
    del i
    self.non = event.end

  def backward(self, i: int, event: Event):
    if event.kind == "uncertain_after" and self._leads_to_finding(i):
      self.uncertain = True                     # "is likely a cyst"
      return
    alone = not _reach_back(self.events, i) and i == 0
    self.negation = alone and event.kind == "negation_after"
    self.gone = alone and event.kind == "gone_after"     # "Resolved effusion"

  def change(self, i: int, event: Event):
    """"No evidence that the nodule has grown" denies the growth alone."""
    del event
    if self.negation and i and self.events[i - 1].kind in ("verb", "filler"):
      for earlier in reversed(self.events[:i]):
        if earlier.kind in cues.NEGATIONS:
          break
        earlier.negated = False

  def enter(self, i: int, event: Event):
    self.context = event.kind
    self.holds = self.words[event.start] in ("if", "in")
    if i and self.events[i - 1].kind == "finding" and (
        i + 1 == len(self.events)):
      self.events[i - 1].context = event.kind   # "lung cancer history"

  def now(self, i: int, event: Event):
    del i, event
    self.context, self.negation = "study", False

  def doubtful(self, i: int, event: Event):
    self.uncertain = True
    if i and self.words[event.start] in ("versus", "vs", "?"):
      self.events[i - 1].uncertain = True

  def verb(self, i: int, event: Event):
    del i
    if self.comma and not self.count:
      self.negation = self.gone = False         # "Without contrast, ... shows"
    if event.kind == "verb" and (
        self.context == "hypothetical" and not self.holds
        or self.context == "history" and self.words[event.start] in _SHOWS):
      # "Evaluation of the lung shows", "Patient with known glioma shows"
      self.context = "study"
    self.closed = True

  def joint(self, i: int, event: Event):
    if self.closed and event.kind != "with" or self._begins_anew(i):
      self.negation = self.gone = False
    following = self.events[i + 1].kind if i + 1 < len(self.events) else ""
    if event.kind == "comma" and following != "or" and (
        event.end < len(self.words)):
      self.uncertain = False
      if self.context == "hypothetical" or self.words[event.end] in _DEFINITE:
        self.context = "study"                  # "Given a history of ..., the"
    self.comma = True

  def _begins_anew(self, i: int) -> bool:
    """Whether behind a comma or "and" a statement of its own begins."""
    if i + 1 == len(self.events):
      return False
    joint, following = self.events[i:i + 2]
    first = self.words[joint.end] if joint.end < len(self.words) else ""
    if not (first[:1].isdigit() or first in _STARTING_WORDS or (
        following.start == joint.end and following.kind in _STARTERS)):
      return False
    for event in self.events[i + 1:i + _AHEAD]:
      if event.kind == "or":
        return False
      if event.kind in cues.NEGATIONS:
        break
    return True

  def _leads_to_finding(self, i: int) -> bool:
    """Whether a finding follows at once, at most behind "a small"."""
    at = self.events[i].end
    for event in self.events[i + 1:i + 5]:
      if event.start > at or event.kind not in _BEFORE_NOUN | {"finding"}:
        return False
      if event.kind == "finding":
        return True
      at = event.end
    return False

  def _is_growth_of(self, i: int) -> bool:
    """Whether a finding's growth is spoken of; that is no finding then."""
    for event in reversed(self.events[max(0, i - 5):i]):
      if event.kind == "finding":
        if event.name != "enlargement" or self.words[event.end] != "of":
          return False
        event.kind = "change"
        return True
      if event.kind not in _BEFORE_NOUN | {"anatomy"}:
        return False
    return False


_READERS = {
    "finding": _Scope.finding, "not": _Scope.negate,
    "negation_before": _Scope.negate, "doubt": _Scope.doubts,
    "gone_before": _Scope.gone_before, "none_of": _Scope.none_of,
    "non": _Scope.is_non, "change": _Scope.change, "now": _Scope.now,
    "uncertain_before": _Scope.doubtful, "question": _Scope.doubtful,
    "verb": _Scope.verb, "seen": _Scope.verb, "comma": _Scope.joint,
    "and": _Scope.joint, "with": _Scope.joint,
} | dict.fromkeys(_BACKWARD, _Scope.backward) | dict.fromkeys(
    _CONTEXTS, _Scope.enter)


def _reach_back(events: list[Event], at: int) -> bool:
  """Marks what stands before a cue such as "absent"; True if there is some."""
  kind, hit, joined = events[at].kind, False, False
  before = any(e.kind == "comparison" for e in events[max(0, at - _AHEAD):at])
  for event in reversed(events[:at]):
    if event.kind == "finding":
      hit = True
      event.negated = kind != "uncertain_after"
      event.gone = kind == "gone_after" or kind == "negation_after" and before
      event.uncertain |= kind == "uncertain_after"
    elif event.kind in _BACKWARD or hit and (
        event.kind == "verb" or event.kind in cues.NEGATIONS):
      break
    elif kind == "negation_after" and event.kind in clauses_lib.JOINTS:
      joined = True
    elif joined and event.kind == "seen":
      return True                 # "is present on the left and absent ..."
  return hit
