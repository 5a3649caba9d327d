"""Questions about reports that end in anatomies or triplets.

Anatomies: for each part of a report, impression and findings, which anatomies
it speaks of; then for each of them, which sentences are about it. Both answers
are numbers. What the dictionary finds counts as spoken of, whatever the model
says: models miss the jejunum when asked for the small bowel.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from data_pipelines.itemize import anatomies
from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon
from data_pipelines.itemize import statements
from data_pipelines.itemize import tokens
from data_pipelines.itemize.chat import parse
from data_pipelines.itemize.chat import prompts
from data_pipelines.itemize.chat.questions import Ask
from data_pipelines.itemize.chat.questions import Question
from data_pipelines.itemize.chat.questions import Single
from data_pipelines.itemize.chat.questions import Text
from data_pipelines.itemize.chat.questions import sentences
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Triplet

_PARTS = statements.IMPRESSION, statements.FINDINGS
Said = Sequence[statements.Statement]


class Anatomies:
  """The recipe anatomy, as questions.Single is of one question."""

  def first(self, record: Record) -> list[Question]:
    """The questions that will be asked, whatever the answers."""
    return [question for said in _parts(record).values() if said
            for question in (_mention(said), *(
                _extraction(said, name) for name in _named(said)))]

  def make(self, recipe, record: Record, ask: Ask) -> Draft:
    """What the answers come to."""
    del recipe
    parts = _parts(record)
    about = {part: _about(said, ask) if said else {}
             for part, said in parts.items()}
    judged = bool(parts[statements.IMPRESSION])
    return Draft(anatomies={
        name: _merged(name, judged, *(about[part].get(name, ())
                                      for part in _PARTS))
        for name in _names()})


def _names() -> tuple[str, ...]:
  return lexicon.load().groups


def _parts(record: Record) -> dict[str, Said]:
  said = statements.read(record)
  return {part: [s for s in said if s.part == part] for part in _PARTS}


def _named(said: Said) -> list[str]:
  """The anatomies that the dictionary finds."""
  found = {name for s in said for name in s.analysis.anatomy}
  return [name for name in _names() if name in found]


def _about(said: Said, ask: Ask) -> dict[str, Said]:
  """Anatomy -> the statements about it."""
  names = _names()
  spoken_of = ask(_mention(said), lambda answer, _: parse.kept(
      answer, len(names), "mentioned"))
  wanted = {*_named(said), *(names[n] for n in spoken_of)}
  return {name: [said[n] for n in ask(_extraction(said, name), parse.kept)]
          for name in names if name in wanted}


def _mention(said: Said) -> Question:
  return Question(prompts.template("anatomy_mention"), _texts(said),
                  {"anatomies": prompts.numbered(_names())})


def _extraction(said: Said, name: str) -> Question:
  return Question(prompts.template("anatomy_extraction"), _texts(said),
                  {"anatomy": name})


def _texts(said: Said) -> tuple[Text, ...]:
  return tuple(Text(s.text, s.source) for s in said)


def _merged(name: str, judged: bool, impression: Said,
            findings: Said) -> dict[str, Any]:
  """As anatomies.read does with what the dictionary finds."""
  seen = [s.text for s in findings]
  if not judged and any(s.abnormal for s in findings):
    return anatomies.merged(name, seen, ())
  return anatomies.merged(name, [s.text for s in impression], seen)


@dataclasses.dataclass(frozen=True)
class _Vocabulary(Single):
  """The recipe triplet: the question names the categories."""

  def first(self, record: Record) -> list[Question]:
    categories = ", ".join(c for c in lexicon.load().categories
                           if c not in lexicon.load().same)
    return [dataclasses.replace(q, values={"categories": categories})
            for q in super().first(record)]


def _triplets(texts: Sequence[Text], said) -> Draft:
  found, dropped = [], []
  for value in said or ():
    sentence = texts[value["sentence"]]
    category = _category(value["category"])
    if category is None:
      dropped.append(Dropped(value["category"], "unsupported"))
      continue
    found.append(Triplet(
        severity=_severity(value["severity"], sentence.text),
        location=_term(lexicon.load().location, value["location"]),
        category=category, negated=value["negated"], source=sentence.source))
  return Draft(triplets=tuple(dict.fromkeys(found)), dropped=tuple(dropped))


def _category(text: str) -> str | None:
  """The one of the closed vocabulary that a text names, if any."""
  known = lexicon.load()
  by_word = {c.lower(): c for c in known.categories}
  category = by_word.get(text.lower())
  for mention in language.analyse(text).findings[:1]:
    category = category or known.findings[mention.canonical].category(
        mention.term)
  return known.same.get(category, category)


def _severity(text: str | None, sentence: str) -> str | None:
  """Only what the sentence says: no check looks at it later."""
  terms = lexicon.load().severity
  name = _term(terms, text)
  said = {meaning[1] for _, _, meaning in terms.find(tokens.folded(sentence))}
  return name if name in said else None


def _term(terms: lexicon.Trie, text: str | None) -> str | None:
  """The vocabulary's name for a text, if it has one."""
  found = terms.find(tokens.folded(text or ""))
  return found[0][2][1] if found else None


RECIPES = {
    "anatomy": Anatomies(),
    "triplet": _Vocabulary("triplet", sentences, parse.triplets, _triplets,
                           own_words=True),
}
