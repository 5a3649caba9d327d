"""Prompts -> drafts, by a language model behind an OpenAI-compatible server.

The client is that of `data_pipelines.itemize.chat`: it sends to this machine
and private networks only, unless a host is allowed by name, tries again, and
stops at a ceiling of costs. Every answer is on disk before the next question,
so a run that is killed and started again asks only what has no answer yet.
"""

from collections.abc import Sequence
import concurrent.futures
import pathlib
from typing import NamedTuple

import tqdm

from data_pipelines.itemize.chat import cache as caches
from data_pipelines.itemize.chat import prompts
from data_pipelines.itemize.chat.budget import Budget
from data_pipelines.itemize.chat.client import Client
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.chat.replies import Unanswered


class Draft(NamedTuple):
  """text: None where there is no answer; trouble: why, or that it was cut."""
  text: str | None
  trouble: str = ""


class Drafter:
  """`Drafter(options, folder).drafts(words, questions)`.

  Attributes:
    client: of the server.
    budget: what was spent.
  """

  def __init__(self, options: Options, folder: pathlib.Path, *,
               first_pause: float = 1.0):
    """
    Args:
      options: the server and its limits.
      folder: where answers are kept; made where there is none.
      first_pause: see `Client`.

    Raises:
      PrepareError: see `Client` and `Cache`.
    """
    self._options = options
    self.budget = Budget(options.price_in, options.price_out, options.max_cost,
                         retry_rate=options.retry_rate)
    self.client = Client(options, self.budget, first_pause=first_pause)
    self._cache = caches.Cache(folder / "answers.sqlite")

  def drafts(self, words: prompts.Template,
             questions: Sequence[prompts.Messages]) -> list[Draft]:
    """One draft a question, in their order.

    Raises:
      PrepareError: no question would be answered, or costs too much. Answers
        so far are kept.
    """
    with concurrent.futures.ThreadPoolExecutor(
        self._options.concurrency) as pool:
      under_way = pool.map(lambda q: self._draft(words, q), questions)
      return list(tqdm.tqdm(under_way, desc="drafts", total=len(questions),
                            leave=False))

  def close(self):
    """Ends the connections; what is kept stays."""
    self.client.close()
    self._cache.close()

  def _draft(self, words, messages) -> Draft:
    name = caches.key(
        recipe="draft", version=words.version, template=words.digest,
        model=self._options.model, parameters=self._options.parameters(),
        messages=messages)
    try:
      answer = self._cache.answer(
          name, lambda: self.client.complete(messages))
    except Unanswered as error:
      return Draft(None, f"no answer: {error}")
    return Draft(answer.text.strip(),
                 "cut off" if answer.finish == "length" else "")
