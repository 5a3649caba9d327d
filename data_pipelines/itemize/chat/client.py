"""One question to a chat server, and its answer.

Knows HTTP, not reports. Servers fail, so a question is sent up to seven times
with growing pauses; settings that a server refuses are left out from then on.
Redirects, proxies and passwords of the environment are not used: a report goes
to the server that was named, or nowhere.
"""

import logging
import threading
import time
import urllib.parse
from collections.abc import Callable

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat import budget as budgets
from data_pipelines.itemize.chat import hosts, replies
from data_pipelines.itemize.chat.cache import Answer
from data_pipelines.itemize.chat.limits import Limiter
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.chat.replies import Refused, TryAgain, Unanswered

_log = logging.getLogger(__name__)

RETRIES = 6
LONGEST_PAUSE = 60.0   # seconds, unless the server asks for more
# A server that is gone, not questions that it does not like.
MAX_UNANSWERED = 25    # one after the other

# They log headers and status lines, which a server fills.
_TALKATIVE = ("httpx2", "httpcore2")


class Client:
  """`client.complete(messages) -> Answer`, from any number of threads.

  Attributes:
    calls: requests that were sent.
  """

  def __init__(self, options: Options, budget: budgets.Budget, *,
               first_pause: float = 1.0,
               clock: Callable[[], float] = time.monotonic,
               sleep: Callable[[float], None] = time.sleep):
    """
    Args:
      options: the server and its limits.
      budget: is charged for every answer.
      first_pause: seconds before the first retry, about; then the double.
      clock, sleep: seconds; for tests.

    Raises:
      PrepareError: the address is not allowed, the key or a library is missing.
    """
    hosts.check(options.base_url, options.allow_hosts)
    self._tenacity, httpx = _libraries()
    self._options, self._budget = options, budget
    self._key = options.api_key()
    self._host = urllib.parse.urlsplit(options.base_url).netloc
    self._first_pause = first_pause
    self._clock, self._sleep = clock, sleep
    self._broken = httpx.TransportError
    self._no_connection = httpx.ConnectError, httpx.ConnectTimeout
    self._limiter = Limiter(options.requests_per_minute,
                            options.tokens_per_minute, clock=clock, sleep=sleep)
    self._slots = threading.BoundedSemaphore(options.concurrency)
    self._lock = threading.Lock()
    self._left_out = frozenset()   # settings that the server refuses
    self._unanswered = 0           # one after the other
    self._reached = False          # it answered once
    self._stopped = None           # the error that ends the run
    self.calls = 0
    # Compressed replies are not asked for: a small one may unpack to anything.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if self._key:
      headers["Authorization"] = f"Bearer {self._key}"
    self._http = httpx.Client(
        headers=headers, timeout=options.timeout, follow_redirects=False,
        trust_env=False, limits=httpx.Limits(
            max_connections=None,   # of the pool; _slots counts
            max_keepalive_connections=options.concurrency))

  def complete(self, messages: list[dict[str, str]]) -> Answer:
    """Asks until there is an answer.

    Raises:
      Unanswered: not this question, after all retries.
      PrepareError: no question would be answered, or costs too much; all
        later calls raise it, too.
    """
    if self._stopped:
      raise self._stopped
    try:
      with self._slots:
        answer = self._with_settings(messages)
    except PrepareError as error:
      self._stopped = error
      raise
    except Unanswered as error:
      self._count_unanswered(error)
      raise
    with self._lock:
      self._unanswered, self._reached = 0, True
    return answer

  def close(self):
    self._http.close()

  def _count_unanswered(self, error: Unanswered):
    """Raises PrepareError where the next question would fare no better."""
    with self._lock:
      self._unanswered += 1
      if error.hopeless and not self._reached:
        why = "cannot be reached"
      elif self._unanswered >= MAX_UNANSWERED:
        why = f"did not answer {self._unanswered} questions in a row"
      else:
        return
      self._stopped = PrepareError(
          f"The chat server {self._host} {why}, because of: {error}. See "
          "whether it runs at this address and takes requests, then run again; "
          "answers so far are kept.")
    raise self._stopped from None

  def _with_settings(self, messages: list[dict[str, str]]) -> Answer:
    """Leaves settings out that are refused, for good if that helps."""
    left_out = self._left_out
    while True:
      try:
        answer = self._with_retries(messages, left_out)
      except Refused as error:
        payload = self._payload(messages, left_out)
        culprit = next((n for n in error.settings if n in payload), None)
        if culprit is None:
          raise
        left_out = left_out | {culprit}
        continue
      with self._lock:
        self._left_out |= left_out
      return answer

  def _with_retries(self, messages, left_out: frozenset[str]) -> Answer:
    payload = self._payload(messages, left_out)
    retrying = self._tenacity.Retrying(
        retry=self._tenacity.retry_if_exception_type(TryAgain),
        stop=self._tenacity.stop_after_attempt(1 + RETRIES),
        wait=self._pause, sleep=self._sleep, reraise=True)
    return retrying(self._once, payload)

  def _pause(self, state) -> float:
    _log.info("Asking again, because of: %s", state.outcome.exception())
    jitter = self._tenacity.wait_random_exponential(
        multiplier=self._first_pause, max=LONGEST_PAUSE)(state)
    asked = state.outcome.exception().pause
    if asked:
      self._limiter.pause(asked)   # the other threads wait, too
    return asked + jitter

  def _payload(self, messages, left_out: frozenset[str]) -> dict:
    options = self._options
    payload = {
        "model": options.model, "messages": messages,
        "temperature": options.temperature, "seed": options.seed,
        "max_tokens": options.max_output_tokens,
        "response_format": (
            {"type": "json_object"} if options.json_mode else None)}
    payload = {name: value for name, value in payload.items()
               if value is not None and name not in left_out}
    if "max_tokens" in left_out:   # its newer name
      payload["max_completion_tokens"] = options.max_output_tokens
    return payload

  def _once(self, payload: dict) -> Answer:
    if self._stopped:
      raise self._stopped
    tokens_in = budgets.estimate_tokens(payload["messages"])
    most = tokens_in, self._options.max_output_tokens
    self._limiter.wait(sum(most))
    reserved = self._budget.reserve(*most)
    spent = most   # what broke on the way may be billed
    try:
      status, headers, body = self._post(payload)
      spent = most if status == 200 else (0, 0)
      replies.check_status(status, headers, body, self._host)
      answer = replies.read(body, headers.get("content-type", ""),
                            tokens_in=tokens_in)
      spent = answer.tokens_in, answer.tokens_out
    except self._no_connection as error:
      spent = 0, 0
      raise TryAgain(type(error).__name__, hopeless=True) from None
    except self._broken as error:
      raise TryAgain(type(error).__name__) from None
    finally:
      self._budget.settle(reserved, *spent)
    if self._key and self._key in answer.text:
      raise TryAgain("an answer that repeats the API key")
    return answer

  def _post(self, payload: dict) -> tuple[int, dict, bytes]:
    """Returns status, headers and body of one reply."""
    url = self._options.base_url.rstrip("/") + "/chat/completions"
    with self._lock:
      self.calls += 1
    deadline = self._clock() + self._options.timeout
    with self._http.stream("POST", url, json=payload) as reply:
      body = bytearray()
      for part in reply.iter_raw():
        body += part
        if len(body) > replies.MAX_BYTES:
          raise TryAgain("a reply without end")
        # The library's timeout is for each part, and there may be many.
        if self._clock() > deadline:
          raise TryAgain("a reply that takes too long")
      return reply.status_code, reply.headers, bytes(body)


def _libraries():
  try:
    import httpx2
    import tenacity
  except ImportError as error:
    raise PrepareError(
        f"The chat back-end wants the package {error.name}; install the extra "
        "'chat', e.g. pip install 'itemclip_jax[chat]'.") from error
  for name in _TALKATIVE:
    logging.getLogger(name).setLevel(logging.WARNING)
  return tenacity, httpx2
