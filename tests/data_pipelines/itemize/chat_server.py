"""A chat server on this machine that behaves as badly as a test wants.

    with ChatServer(says('{"keep": [1]}')) as server:
      ... server.url ... server.requests

A behaviour answers one request; a server takes a list of them, one after the
other, of which the last goes on for ever, or a function (request) -> behaviour.
"""

import dataclasses
import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Request:
  """What was sent. payload: the JSON body."""
  path: str
  headers: dict[str, str]
  payload: dict

  @property
  def question(self) -> str:
    return self.payload["messages"][-1]["content"]

  @property
  def lines(self) -> list[str]:
    """The numbered lines of the first question, numbers taken off."""
    first = self.payload["messages"][1]["content"]
    texts = re.split(r"\n(?:Sentences|Captions):\n", first)[-1]
    return [line.split(". ", 1)[1] for line in texts.splitlines()]


Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


def sends(body: str | bytes, *, status: int = 200,
          content_type: str | None = "application/json",
          headers: dict[str, str] | None = None, reason: str | None = None):
  """Any reply."""
  body = body.encode() if isinstance(body, str) else body

  def behave(handler):
    handler.send_response(status, reason)
    if content_type is not None:
      handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in (headers or {}).items():
      handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
  return behave


def says(content: str | dict | list | None, *, finish: str = "stop",
         usage: tuple[int, int] | None = (100, 10), **reply):
  """A sound reply: the model's answer is `content`, an object as JSON."""
  if isinstance(content, dict):
    content = json.dumps(content)
  value = {"id": "x", "object": "chat.completion", "choices": [
      {"index": 0, "finish_reason": finish,
       "message": {"role": "assistant", "content": content}}]}
  if usage:
    value["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1],
                      "total_tokens": sum(usage)}
  return sends(json.dumps(value), **reply)


def fails(status: int, message: str = "no", **reply):
  """An error as such servers send it."""
  return sends(json.dumps({"error": {"message": message}}), status=status,
               **reply)


def closes(handler):
  """Ends the connection without a word."""
  handler.close_connection = True


def breaks_off(handler):
  """Promises more than it sends."""
  handler.send_response(200)
  handler.send_header("Content-Type", "application/json")
  handler.send_header("Content-Length", "1000")
  handler.end_headers()
  handler.wfile.write(b'{"choices": [')
  handler.close_connection = True


def hangs(handler):
  """Says nothing until the client has gone, or the test is over."""
  handler.server.over.wait(5)
  handler.close_connection = True


def _streams(handler, part: bytes, *, pause: float = 0.0):
  handler.send_response(200)
  handler.send_header("Content-Type", "application/json")
  handler.end_headers()
  handler.close_connection = True
  stop = time.monotonic() + 5
  try:
    while time.monotonic() < stop and not handler.server.over.wait(pause):
      handler.wfile.write(part)
  except OSError:
    pass  # the client has had enough


def drips(handler):
  """Sends a byte now and then, for ever."""
  _streams(handler, b" ", pause=0.02)


def floods(handler):
  """Sends tokens without end."""
  _streams(handler, b'{"choices": "' + b"pneumonia " * 10_000)


class FakeTime:
  """Passes when somebody sleeps, and notes for how long."""

  def __init__(self):
    self.now, self.slept = 1000.0, []

  def clock(self) -> float:
    return self.now

  def sleep(self, seconds: float):
    self.slept.append(seconds)
    self.now += seconds


class ChatServer:
  """A server in a thread.

  Attributes:
    requests: all that came, in order.
    most_at_once: requests that were under way at the same time.
  """

  def __init__(self, behaviour: Behaviour | Sequence[Behaviour] |
               Callable[[Request], Behaviour], *, by_request: bool = False):
    """by_request: behaviour is a function of the request."""
    self.requests: list[Request] = []
    self.most_at_once = 0
    self._behaviour, self._by_request = behaviour, by_request
    self._at_once, self._lock = 0, threading.Lock()
    self._http = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"chat": self}))
    self._http.daemon_threads = True
    self._http.handle_error = lambda *_: None  # clients go away in mid-reply
    self._http.over = threading.Event()
    self._thread = threading.Thread(
        target=self._http.serve_forever, kwargs={"poll_interval": 0.01},
        daemon=True)
    self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

  def __enter__(self) -> "ChatServer":
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._http.over.set()
    self._http.shutdown()
    self._http.server_close()

  def respond(self, handler, request: Request):
    with self._lock:
      self.requests.append(request)
      number = len(self.requests) - 1
      self._at_once += 1
      self.most_at_once = max(self.most_at_once, self._at_once)
    try:
      self._choose(request, number)(handler)
    finally:
      with self._lock:
        self._at_once -= 1

  def _choose(self, request: Request, number: int) -> Behaviour:
    if self._by_request:
      return self._behaviour(request)
    if callable(self._behaviour):
      return self._behaviour
    return self._behaviour[min(number, len(self._behaviour) - 1)]


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True   # 40 ms for every reply
  chat: ChatServer

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    self.chat.respond(self, Request(
        self.path, dict(self.headers.items()), json.loads(body)))

  def log_message(self, *_):
    pass
