"""What a server replied: an answer, a reason to try again, or an error.

Nothing of a reply's text gets into an error: a server may repeat the report or
the key in it.
"""

import email.utils
import json
import math
import time
from typing import Any

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat.cache import Answer

MAX_BYTES = 4 << 20   # of a reply; far more than any list of findings
MAX_PAUSE = 600.0     # seconds; a server that wants longer ends the run

# Settings that a server may refuse by name, and those to suspect without one.
_SETTINGS = ("response_format", "seed", "max_tokens", "temperature")
_SUSPECTS = ("response_format", "seed")

_BUSY = {408, 409, 425, 429}
_WRONG_REQUEST = {400, 415, 422, 501}
_WRONG_SETUP = {401: "refuses the API key", 402: "wants to be paid first",
                404: "has no such model or address",
                405: "has no chat completions at this address",
                407: "is behind a proxy that wants a password"}


class Unanswered(Exception):
  """No answer to this question; the message may be logged.

  hopeless: if no question was answered before, none will be.
  """

  def __init__(self, reason: str, *, hopeless: bool = False):
    super().__init__(reason)
    self.hopeless = hopeless


class TryAgain(Unanswered):
  """It may work later. pause: seconds that the server asked for."""

  def __init__(self, reason: str, *, pause: float = 0.0,
               hopeless: bool = False):
    super().__init__(reason, hopeless=hopeless)
    self.pause = pause


class Refused(Unanswered):
  """The server does not take the request as it is.

  settings: which of them to leave out, one after the other.
  """

  def __init__(self, reason: str, *, settings: tuple[str, ...] = (),
               hopeless: bool = False):
    super().__init__(reason, hopeless=hopeless)
    self.settings = settings


def check_status(status: int, headers, body: bytes, host: str):
  """Raises what a status other than 200 means.

  Raises:
    TryAgain: too many requests, or the server is ill.
    Refused: it does not like this request.
    PrepareError: it would not like any request.
  """
  if status == 200:
    return
  if 300 <= status < 400:
    raise PrepareError(
        f"The chat server {host} sends us elsewhere (HTTP {status}), and "
        "reports go only where they were sent; give the new address as the "
        "base URL if that is meant.")
  if status in _WRONG_SETUP:
    raise PrepareError(f"The chat server {host} {_WRONG_SETUP[status]} (HTTP "
                       f"{status}); see the base URL, the model's name and the "
                       "variable of the API key.")
  if status == 429 and b"insufficient_quota" in body:
    raise PrepareError(f"The chat server {host} says that the quota is used "
                       "up; run again when there is more, answers are kept.")
  if status in _WRONG_REQUEST:
    named = tuple(name for name in _SETTINGS if name.encode() in body)
    raise Refused(f"HTTP {status}", settings=named or _SUSPECTS)
  if status in _BUSY or status >= 500:
    pause = retry_after(headers.get("retry-after"))
    if pause > MAX_PAUSE:
      raise PrepareError(
          f"The chat server {host} asks us to wait for {pause:.0f} seconds; "
          "run again then, answers are kept.")
    raise TryAgain(f"HTTP {status}", pause=pause)
  if status >= 400:
    # 403 is a wrong key with one server, a report that offends with another.
    raise Refused(f"HTTP {status}", hopeless=status == 403)
  raise TryAgain(f"HTTP {status}")


def retry_after(value: str | None) -> float:
  """Seconds that the header asks for, as a number or a date; 0 if unclear."""
  if value is None:
    return 0.0
  try:
    seconds = float(value)
  except ValueError:
    try:
      seconds = email.utils.parsedate_to_datetime(
          value).timestamp() - time.time()
    except (ValueError, OverflowError):
      return 0.0
  return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def read(body: bytes, content_type: str, *, tokens_in: int) -> Answer:
  """The answer in the body of a status 200.

  Args:
    body: of the reply.
    content_type: its header.
    tokens_in: an estimate, for a server that does not count.

  Raises:
    TryAgain: it holds none.
  """
  # Not named is common; another type is a page of a proxy, or a stream.
  if "json" not in (content_type or "json").lower():
    raise TryAgain("a reply that is not JSON")
  try:
    value = json.loads(body)
    choice = value["choices"][0]
    text = _text(choice["message"].get("content"))
  except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
    raise TryAgain("a reply without an answer") from None
  usage = value.get("usage")
  usage = usage if isinstance(usage, dict) else {}
  finish = choice.get("finish_reason")
  return Answer(
      text, finish if isinstance(finish, str) else "",
      _count(usage.get("prompt_tokens"), tokens_in),
      _count(usage.get("completion_tokens"), -(-len(text.encode()) // 4)))


def _text(content: Any) -> str:
  """A text, or the texts of a list of parts; halves of pairs -> U+FFFD."""
  if isinstance(content, list):
    content = "".join(part["text"] for part in content
                      if part.get("type") == "text")
  if content is None:
    return ""
  return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any, otherwise: int) -> int:
  """A server that does not count, or says that a text is free, is not asked."""
  if type(value) is int and 0 < value < 1 << 40:
    return value
  return otherwise
