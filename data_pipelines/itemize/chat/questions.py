"""What is asked for each recipe, and what becomes of the answer.

A recipe asks about numbered texts: the sentences of a report, or captions.
Wherever it can, the answer is their numbers, so that no answer can put a word
into an item; the text of items is the record's own.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data_pipelines.itemize import checks
from data_pipelines.itemize import statements
from data_pipelines.itemize.chat import parse
from data_pipelines.itemize.chat import prompts
from data_pipelines.itemize.contract import CAPTION
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Source

# Of what is wrong with an answer, characters and entries.
_MAX_QUOTED, _MAX_NAMED = 200, 10


class Text(NamedTuple):
  """A sentence or caption; history: it is no finding of this examination."""
  text: str
  source: Source
  history: bool = False


@dataclasses.dataclass(frozen=True)
class Question:
  """About texts. values: of the other names in the template."""
  template: prompts.Template
  texts: tuple[Text, ...]
  values: dict[str, str] = dataclasses.field(default_factory=dict)

  def messages(self) -> prompts.Messages:
    return self.template.messages(
        input=prompts.numbered([t.text for t in self.texts]), **self.values)


# Asks until the answer can be read: (question, read(answer, number of texts)).
Ask = Callable[[Question, Callable[[str, int], Any]], Any]


@dataclasses.dataclass(frozen=True)
class Single:
  """A recipe of one question.

  Attributes:
    template: its name.
    texts: of a record.
    read: (answer, number of texts) -> what it says.
    draft: (texts, what the answer says) -> Draft; None is said where nothing
      was asked.
    least: with fewer texts there is nothing to ask.
    own_words: of the model, which may say what the record does not.
  """
  template: str
  texts: Callable[[Record], tuple[Text, ...]]
  read: Callable[[str, int], Any]
  draft: Callable[[Sequence[Text], Any], Draft]
  least: int = 1
  own_words: bool = False

  def first(self, record: Record) -> list[Question]:
    """The questions that will be asked, whatever the answers."""
    texts = self.texts(record)
    if len(texts) < self.least:
      return []
    return [Question(prompts.template(self.template), texts)]

  def make(self, recipe, record: Record, ask: Ask) -> Draft:
    """What the answers come to."""
    def read(answer: str, count: int) -> Draft:
      draft = self.draft(texts, self.read(answer, count))
      if self.own_words:
        _require_backed(recipe, record, draft)
      return draft

    texts = self.texts(record)
    for question in self.first(record):
      return ask(question, read)
    return self.draft(texts, None)


def sentences(record: Record) -> tuple[Text, ...]:
  return tuple(Text(s.text, s.source, s.part == statements.HISTORY)
               for s in statements.read(record))


def captions(record: Record) -> tuple[Text, ...]:
  return tuple(Text(text, Source(f"{CAPTION}{n}", 0, len(text)))
               for n, text in enumerate(record.captions) if text)


def _require_backed(recipe, record: Record, draft: Draft):
  """Raises Doubtful where the checks would drop something as unsupported."""
  checked = checks.check(recipe, record, draft)
  bad = [d.text[:_MAX_QUOTED] for d in checked.dropped
         if d.reason == "unsupported"]
  if bad:
    raise parse.Doubtful(
        "these entries say what the sentences do not, or are no category of "
        f"the list: {'; '.join(bad[:_MAX_NAMED])}", draft)


def _abnormal(texts: Sequence[Text], kept: tuple[int, ...] | None) -> Draft:
  kept = set(kept or ())
  return Draft(
      items=tuple(Item(t.text, (t.source,))
                  for n, t in enumerate(texts) if n in kept),
      dropped=_as_normal(t for n, t in enumerate(texts) if n not in kept))


def _as_normal(texts) -> tuple[Dropped, ...]:
  return tuple(Dropped(t.text, "history" if t.history else "normal")
               for t in texts)


def _summary(texts: Sequence[Text], said) -> Draft:
  items = _items(texts, said or ())
  # Without any finding, all of the report is normal.
  return Draft(items=items, dropped=() if items else _as_normal(texts))


def _agreed(texts: Sequence[Text], said) -> Draft:
  if said is None:  # one caption agrees with no other
    return Draft(dropped=tuple(Dropped(t.text, "support") for t in texts))
  return Draft(items=_items(texts, said))


def _items(texts: Sequence[Text], said) -> tuple[Item, ...]:
  return tuple(Item(s.text, tuple(texts[n].source for n in s.sources),
                    max(1, len(s.sources))) for s in said)


def _distinct(texts: Sequence[Text], kept: tuple[int, ...] | None) -> Draft:
  kept = range(len(texts)) if kept is None else kept
  return Draft(
      items=tuple(Item(texts[n].text, (texts[n].source,)) for n in kept),
      dropped=tuple(Dropped(t.text, "duplicate")
                    for n, t in enumerate(texts) if n not in kept))


def _some_kept(answer: str, count: int) -> tuple[int, ...]:
  """As parse.kept; of captions at least one says what the others do."""
  kept = parse.kept(answer, count)
  if not kept:
    raise parse.Unusable('"keep" is empty; keep at least one caption')
  return kept


RECIPES = {
    "ctrate_abnormal": Single("ctrate_abnormal", sentences, parse.kept,
                              _abnormal),
    "summary_list": Single("summary_list", sentences, parse.summary, _summary,
                           own_words=True),
    "verify2": Single("verify2", captions, parse.verified, _agreed, least=2),
    "dedup": Single("dedup", captions, _some_kept, _distinct, least=2),
}
