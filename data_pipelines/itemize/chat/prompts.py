"""Templates -> messages for a model.

A template is a JSON file: "version", "system", "user" (with {{input}} and
other names in double braces), "output_tokens", what an answer takes for the
plan of costs. Its digest goes into the cache's key, so a new wording asks anew.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Sequence

_FOLDER = pathlib.Path(__file__).parent / "templates"
_NAME = re.compile(r"\{\{(\w+)\}\}")
_MAX_QUOTED = 2000  # characters of a bad answer that are sent back

Messages = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Template:
  """digest: sha256 of all of it; see the header."""
  name: str
  version: str
  system: str
  user: str
  output_tokens: int
  digest: str

  def messages(self, **values: str) -> Messages:
    """The question; a report that holds {{names}} keeps them."""
    text = _NAME.sub(lambda found: values[found.group(1)], self.user)
    return [{"role": "system", "content": self.system},
            {"role": "user", "content": text}]


@functools.cache
def template(name: str) -> Template:
  """The template of templates/<name>.json."""
  value = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
  digest = hashlib.sha256(
      json.dumps(value, sort_keys=True).encode()).hexdigest()
  return Template(name=name, digest=digest, **value)


def digest() -> str:
  """Of all templates."""
  names = sorted(path.stem for path in _FOLDER.glob("*.json"))
  return hashlib.sha256(
      " ".join(template(name).digest for name in names).encode()).hexdigest()


def numbered(texts: Sequence[str]) -> str:
  """Lines "1. ..."; a text is one line, so none can pose as another."""
  return "\n".join(
      f"{n}. {' '.join(text.split())}" for n, text in enumerate(texts, start=1))


def repaired(messages: Messages, answer: str, error: str) -> Messages:
  """The conversation goes on: what was wrong with the last answer."""
  request = template("repair").messages(error=error)[-1]["content"]
  return [*messages, {"role": "assistant", "content": answer[:_MAX_QUOTED]},
          {"role": "user", "content": request}]
