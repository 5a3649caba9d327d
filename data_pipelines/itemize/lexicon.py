"""The vocabulary: findings, anatomy, cues, severity and location.

Each kind is a file of lexicon/, JSON with "source" and "version":

    findings.json    {"findings": [{"name", "terms", ...}]} with, if known,
        "organ"           a name of anatomy.json that the finding implies
        "ct_rate"         the label of CT-RATE
        "medfilip"        the category of MedFILIP
        "medfilip_terms"  {term: category} where a term has one of its own
        "of"              [[finding, anatomy], ...]: what another finding is
                          called at that place; calcification, coronary
                          arteries: "coronary artery wall calcification"
        "weak"            true: a finding only where "of" makes it one
        "generic"         true: says that there is something, not what
        "attribute"       true: only says how the finding behind it looks
        "device"          true: material, no disease
    anatomy.json     {"groups": [...], "anatomy": [{"name", "terms"}]}; groups
        are those of fVLM; "part_of": a name before it, or several
    cues.json        {<what a cue does>: [terms]}, see scope.py
    normality.json   {"normal": [terms]}
    severity.json    {"severity": [[name, other spellings ...]]}
    location.json    {"sides", "places", "alone"}: the same; a side may stand
                     before each of the places
    categories.json  {"categories": [...], "same": {double: category}}

Terms are matched folded (tokens.py): one spelling, in the singular, stands for
all. A user's own file may hold any of "findings", "anatomy", "cues", "normal",
"severity" and "location" ("alone"); a name that exists gets further terms. A
term of the user's own takes the place of the built-in one.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import tokens

_FOLDER = pathlib.Path(__file__).parent / "lexicon"
_USER_KEYS = ("findings", "anatomy", "cues", "normal", "severity", "location",
              "source", "version")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """A finding; the keys of findings.json. place_of: its "of"."""
  name: str
  organ: str | None = None
  ct_rate: str | None = None
  medfilip: str | None = None
  medfilip_terms: dict[str, str] = dataclasses.field(default_factory=dict)
  place_of: tuple[tuple[str, str], ...] = ()
  weak: bool = False
  generic: bool = False
  attribute: bool = False
  device: bool = False

  def category(self, term: str) -> str | None:
    """MedFILIP's name of the finding where a report calls it `term`."""
    return self.medfilip_terms.get(" ".join(tokens.folded(term)),
                                   self.medfilip)


# What a term means: the kind of cue ("finding", "anatomy", ...) and its name.
Meaning = tuple[str, str]


class Trie:
  """Folded words -> meaning; the longest term from a place on wins."""

  def __init__(self):
    self.root: dict[str, list] = {}   # word -> [meaning or None, further words]

  def add(self, term: str, meaning: Meaning):
    words = tokens.folded(term)
    if not words:
      raise PrepareError(f"The term {term!r} of {meaning[1]!r} has no word; "
                         "take it out of the lexicon.")
    entry = [None, self.root]
    for word in words:
      entry = entry[1].setdefault(word, [None, {}])
    entry[0] = meaning

  def find(self, words: list[str]) -> list[tuple[int, int, Meaning]]:
    """(start, end, meaning) of terms, leftmost longest, without overlap."""
    found, root, i, n = [], self.root, 0, len(words)
    while i < n:
      entry = root.get(words[i])
      if entry is None:
        i += 1
        continue
      meaning, further = entry
      end = j = i + 1
      while further and j < n:
        entry = further.get(words[j])
        if entry is None:
          break
        j += 1
        if entry[0]:
          meaning, end = entry[0], j
        further = entry[1]
      if meaning:
        found.append((i, end, meaning))
        i = end
      else:
        i += 1
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Lexicon:
  """All of it.

  Attributes:
    findings: name -> Finding.
    parents: name of anatomy -> itself and what it is part of, finest first.
    groups: the anatomies of fVLM.
    terms: meanings of all words that the analysis of a sentence reads.
    severity, location: the closed vocabularies of triplets.
    categories: the closed vocabulary of MedFILIP, doubles included.
    same: double -> category.
    place_of: (finding, anatomy) -> what the finding is called there.
    heads: the findings that are called otherwise somewhere.
    anatomy_words: folded words that alone name an anatomy.
  """
  findings: dict[str, Finding]
  parents: dict[str, tuple[str, ...]]
  groups: tuple[str, ...]
  terms: Trie
  severity: Trie
  location: Trie
  categories: tuple[str, ...]
  same: dict[str, str]
  place_of: dict[tuple[str, str], str]
  heads: frozenset[str]
  anatomy_words: frozenset[str]

  def group(self, anatomy: str) -> str | None:
    """The anatomy of fVLM that `anatomy` belongs to, if it has one."""
    return next((a for a in self.parents[anatomy] if a in self.groups), None)


@functools.cache
def load(*user_files: str) -> Lexicon:
  """The built-in files and the user's own, later ones first.

  Raises:
    PrepareError: a file of the user's cannot be read, or is no lexicon.
  """
  read = {path.stem: json.loads(path.read_text("utf-8"))
          for path in sorted(_FOLDER.glob("*.json"))}
  users = [_user_file(pathlib.Path(path)) for path in user_files]
  everything = [_as_user(read), *users]
  findings, parents, place_of, terms = {}, {}, {}, Trie()
  for part in everything:
    _add_cues(terms, part)
    for entry in part.get("anatomy", ()):
      _add_anatomy(terms, parents, entry)
    for entry in part.get("findings", ()):
      _add_finding(terms, findings, place_of, entry)
  return Lexicon(
      findings=findings, parents=parents, terms=terms, place_of=place_of,
      heads=frozenset(finding for finding, _ in place_of),
      anatomy_words=frozenset(
          word for word, (meaning, _) in terms.root.items()
          if meaning and meaning[0] == "anatomy"),
      groups=tuple(read["anatomy"]["groups"]),
      severity=_vocabulary([part.get("severity", ()) for part in everything]),
      location=_vocabulary([_sided(read["location"]),
                            *(part.get("location", ()) for part in users)]),
      categories=tuple(read["categories"]["categories"]),
      same=read["categories"]["same"])


def _as_user(read: dict[str, Any]) -> dict[str, Any]:
  """The built-in files in the form of a user's."""
  cues = {name: terms for name, terms in read["cues"].items()
          if isinstance(terms, list)}
  return {"findings": read["findings"]["findings"], "cues": cues,
          "anatomy": read["anatomy"]["anatomy"],
          "normal": read["normality"]["normal"],
          "severity": read["severity"]["severity"]}


def _user_file(path: pathlib.Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise PrepareError(f"The lexicon {path} cannot be read ({error}); give a "
                       "JSON file such as "
                       '{"findings": [{"name": "...", "terms": ["..."]}]}.'
                       ) from error
  if not isinstance(value, dict) or value.keys() - set(_USER_KEYS):
    raise PrepareError(f"The lexicon {path} is no object with some of "
                       f"{', '.join(_USER_KEYS)}; see lexicon.py.")
  try:
    for entry in (*value.get("findings", ()), *value.get("anatomy", ())):
      if not (isinstance(entry["name"], str) and _are_texts(entry["terms"])):
        raise TypeError
    for terms in (*value.get("cues", {}).values(), value.get("normal", []),
                  *value.get("severity", ()), *value.get("location", ())):
      if not _are_texts(terms):
        raise TypeError
  except (KeyError, TypeError, AttributeError) as error:
    raise PrepareError(f"The lexicon {path} has an entry without a name or a "
                       "list of terms; see lexicon.py.") from error
  return value


def _are_texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(t, str) for t in value)


def _add_cues(terms: Trie, part: dict[str, Any]):
  for kind, cues in part.get("cues", {}).items():
    for term in cues:
      terms.add(term, (kind, kind))
  for term in part.get("normal", ()):
    terms.add(term, ("normal", "normal"))
  for side in ("left", "right"):
    terms.add(side, ("side", side))
    terms.add(f"{side} sided", ("side", side))
  for term in ("bilateral", "bilaterally", "both", "on either side",
               "both sides"):
    terms.add(term, ("side", "bilateral"))
  for short, side in (("lt", "left"), ("rt", "right")):
    terms.add(short, ("side", side))


def _add_anatomy(terms: Trie, parents: dict, entry: dict[str, Any]):
  name, wholes = entry["name"], entry.get("part_of", [])
  chain = [name]
  for whole in [wholes] if isinstance(wholes, str) else wholes:
    if whole not in parents:
      raise PrepareError(f"The lexicon calls {name!r} a part of {whole!r}, "
                         "which no entry before it names; add that.")
    chain += parents[whole]
  parents.setdefault(name, tuple(dict.fromkeys(chain)))
  for term in entry["terms"]:
    terms.add(term, ("anatomy", name))


def _add_finding(
    terms: Trie, findings: dict, place_of: dict, entry: dict[str, Any]):
  entry = dict(entry)
  name, own = entry["name"], entry.pop("terms")
  entry["place_of"] = tuple(map(tuple, entry.pop("of", ())))
  entry["medfilip_terms"] = {
      " ".join(tokens.folded(term)): category
      for term, category in entry.get("medfilip_terms", {}).items()}
  try:
    new = Finding(**entry)
  except TypeError as error:
    raise PrepareError(f"The finding {name!r} of the lexicon has a key that "
                       f"findings do not have ({error}); see lexicon.py."
                       ) from error
  findings.setdefault(name, new)
  place_of.update((pair, name) for pair in new.place_of)
  for term in own:
    terms.add(term, ("finding", name))


def _vocabulary(lists) -> Trie:
  """[[name, other spellings ...], ...] -> trie of ("term", name).

  In a list the first entry of a term counts, of several lists the last.
  """
  trie = Trie()
  for entries in lists:
    seen = set()
    for entry in entries:
      for term in entry:
        words = tokens.folded(term)
        if words not in seen:
          trie.add(term, ("term", entry[0]))
          seen.add(words)
  return trie


def _sided(read: dict[str, Any]) -> list[list[str]]:
  """Places with and without each side, and those that have none."""
  out = []
  for name, *others in read["places"]:
    for side, *spellings in read["sides"]:
      out.append([f"{side} {name}"] + [
          f"{s} {place}" for s in (side, *spellings)
          for place in (name, *others)])
    out.append([name, *others])
  return out + read["alone"]
