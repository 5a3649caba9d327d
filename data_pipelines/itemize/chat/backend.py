"""The chat back-end: what rules.Rules does, by a language model.

    question -> cache | server -> answer -> parse -> Draft
                                    | not usable: up to two repair turns
                                    | still not, or no answer: the rules

The rules' draft then carries the warning and the flag "fallback". All answers
are kept, useless ones too: a rerun asks nothing and gives the same bytes. What
a question without an answer led to is asked again, the server may be well then.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from data_pipelines.itemize.chat import cache as caches
from data_pipelines.itemize.chat import prompts
from data_pipelines.itemize.chat import questions
from data_pipelines.itemize.chat import report_questions
from data_pipelines.itemize.chat.budget import Budget, Estimate
from data_pipelines.itemize.chat.budget import estimate_tokens
from data_pipelines.itemize.chat.client import Client
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.chat.parse import Doubtful, Unusable
from data_pipelines.itemize.chat.questions import Question
from data_pipelines.itemize.chat.replies import Unanswered
from data_pipelines.itemize.contract import Draft, Record

REPAIRS = 2   # turns after the first
FALLBACK = "fallback"

_RECIPES = questions.RECIPES | report_questions.RECIPES


class Chat:
  """`Chat(options, rules, cache=Cache(path)).items(recipe, record)`.

  Safe to call from many threads; `options.concurrency` of them are served at
  once.

  Attributes:
    name: "chat:<model>".
    concurrency: how many threads are of use.
    budget: what is spent.
    failures: why records fell back to rules, and how many.
  """

  def __init__(self, options: Options, rules, *,
               cache: caches.Cache | None = None, first_pause: float = 1.0):
    """
    Args:
      options: the server.
      rules: what answers where the server does not: items(recipe, record).
      cache: of answers; None: they are forgotten.
      first_pause: see Client.

    Raises:
      PrepareError: see Client.
    """
    self.name = f"chat:{options.model}"
    self.concurrency = options.concurrency
    self.budget = Budget(options.price_in, options.price_out, options.max_cost,
                         retry_rate=options.retry_rate)
    self.failures = collections.Counter()
    self._options, self._rules = options, rules
    self._cache = cache or caches.Cache(":memory:")
    self._client = Client(options, self.budget, first_pause=first_pause)
    self._lock = threading.Lock()

  @property
  def calls(self) -> int:
    """Requests that were sent, retries included."""
    return self._client.calls

  def settings(self) -> dict[str, Any]:
    """What results depend on, besides the record and the recipe."""
    return {"model": self._options.model} | self._options.parameters() | {
        "templates": prompts.digest()}

  def items(self, recipe, record: Record) -> Draft:
    """Makes a draft of a clean record.

    Args:
      recipe: a recipes.Recipe.
      record: with clean texts.

    Raises:
      PrepareError: the run must end: the ceiling of costs is reached, or the
        server answers nobody.
    """
    talk = _Talk(lambda question, messages: self._answer(
        recipe, question, messages))
    try:
      draft = _RECIPES[recipe.name].make(recipe, record, talk.ask)
      draft = dataclasses.replace(draft, backend=self.name)
    except (Unusable, Unanswered) as error:
      with self._lock:
        self.failures[str(error)] += 1
      draft = _flagged(self._rules.items(recipe, record))
    return dataclasses.replace(draft, tokens=talk.tokens)

  def estimate(self, recipe, record: Record) -> Estimate:
    """What a record will cost, as far as its answers are not kept yet."""
    wanted = [
        (question, messages)
        for question in _RECIPES[recipe.name].first(record)
        for messages in [question.messages()]
        if self._cache.get(self._key(recipe, question, messages)) is None]
    return Estimate(
        records=int(bool(wanted)), calls=len(wanted),
        tokens_in=sum(estimate_tokens(messages) for _, messages in wanted),
        tokens_out=sum(q.template.output_tokens for q, _ in wanted))

  def close(self):
    self._client.close()
    self._cache.close()

  def __enter__(self) -> "Chat":
    return self

  def __exit__(self, *_):
    self.close()

  def _answer(self, recipe, question: Question, messages) -> caches.Answer:
    return self._cache.answer(self._key(recipe, question, messages),
                              lambda: self._client.complete(messages))

  def _key(self, recipe, question: Question, messages) -> str:
    return caches.key(
        recipe=recipe.name, version=recipe.version,
        template=question.template.digest, model=self._options.model,
        parameters=self._options.parameters(), messages=messages)


class _Talk:
  """The conversations about one record.

  Attributes:
    tokens: sent and received.
  """

  def __init__(self, answer: Callable[[Question, prompts.Messages],
                                      caches.Answer]):
    self._answer = answer
    self.tokens = 0, 0

  def ask(self, question: Question, read: Callable[[str, int], Any]) -> Any:
    """What `read(answer, number of texts)` returns, after repairs.

    An answer in doubt is asked for once more, and then taken as it is.

    Raises:
      Unusable: the last answer could not be read either.
      Unanswered: there is no answer.
    """
    messages, doubtful = question.messages(), None
    for turn in range(1 + REPAIRS):
      answer = self._answer(question, messages)
      self.tokens = (self.tokens[0] + answer.tokens_in,
                     self.tokens[1] + answer.tokens_out)
      try:
        if answer.finish == "length":
          raise Unusable("it is too long and was cut off")
        return read(answer.text, len(question.texts))
      except Doubtful as error:
        if doubtful:  # a second turn would not help either
          return error.value
        wrong = doubtful = error
      except Unusable as error:
        wrong = error
      messages = prompts.repaired(messages, answer.text, str(wrong))
    if doubtful:
      return doubtful.value
    raise wrong


def _flagged(draft: Draft) -> Draft:
  """The rules' draft, marked as such."""
  return dataclasses.replace(
      draft, warnings=(*draft.warnings, FALLBACK),
      items=tuple(dataclasses.replace(i, flags=(*i.flags, FALLBACK))
                  for i in draft.items))
