"""Retrieved findings -> messages for a language model; nothing is drawn here.

    system      what to do (prompt.json)
    user        findings retrieved for another study      } of each example
    assistant   that study's own report                   }
    user        findings retrieved for the study

Some models, such as the paper's Mistral-7B-Instruct-v0.2, take no system turn;
"first_user" then puts its words in front of the first question.

Reference: Kumar and Marttinen 2024, https://arxiv.org/abs/2403.10153, section
4.4 (two examples in the prompt); the words are our own.
"""

from collections.abc import Sequence
import functools
import hashlib
import json
import pathlib
from typing import Literal, NamedTuple

from data_pipelines.itemize.chat import prompts

SystemTurn = Literal["system", "first_user"]

_FILE = pathlib.Path(__file__).with_name("prompt.json")


class Example(NamedTuple):
  """A study of the index: what was retrieved for it, and its own report."""
  patient: str
  snippets: tuple[str, ...]
  report: str


@functools.cache
def template() -> prompts.Template:
  """The words of prompt.json."""
  value = json.loads(_FILE.read_text(encoding="utf-8"))
  digest = hashlib.sha256(
      json.dumps(value, sort_keys=True).encode()).hexdigest()
  return prompts.Template(name="draft", digest=digest, **value)


def messages(words: prompts.Template, examples: Sequence[Example],
             snippets: Sequence[str], *, system_turn: SystemTurn = "system"
             ) -> prompts.Messages:
  """The prompt of one study; see the header.

  Args:
    words: `template()`.
    examples: of other patients, in order.
    snippets: retrieved for the study, best first.
    system_turn: where the words of the system turn stand.
  """
  def question(found):
    return words.messages(snippets=prompts.numbered(found))[-1]

  turns = []
  for example in examples:
    turns += [question(example.snippets),
              {"role": "assistant", "content": example.report}]
  turns.append(question(snippets))
  if system_turn == "system":
    return [{"role": "system", "content": words.system}, *turns]
  first = {"role": "user",
           "content": f"{words.system}\n\n{turns[0]['content']}"}
  return [first, *turns[1:]]


def joined(items: Sequence[str]) -> str:
  """Findings as one text, each ended as a sentence."""
  stripped = [item.strip() for item in items]
  return " ".join(item if item.endswith((".", "!", "?")) else f"{item}."
                  for item in stripped if item)
