"""Requests and tokens a minute, kept by every thread together.

What was sent in the last minute counts, whichever minute the server's clock
is in; a bucket that fills up again would let twice as much through.
"""

import collections
import threading
import time
from collections.abc import Callable

_MINUTE = 60.0  # seconds


class Limiter:
  """`limiter.wait(tokens)` returns when a request of that size may be sent."""

  def __init__(self, requests: float | None, tokens: float | None, *,
               clock: Callable[[], float] = time.monotonic,
               sleep: Callable[[float], None] = time.sleep):
    """requests, tokens: a minute; None: no limit."""
    self._requests, self._tokens = requests, tokens
    self._clock, self._sleep = clock, sleep
    self._sent = collections.deque()  # (time, tokens) of the last minute
    self._not_before = 0.0
    self._lock = threading.Lock()

  def wait(self, tokens: int):
    while (seconds := self._take(tokens)) > 0:
      self._sleep(seconds)

  def pause(self, seconds: float):
    """Nobody sends for so long: the server asked for it."""
    with self._lock:
      self._not_before = max(self._not_before, self._clock() + seconds)

  def _take(self, tokens: int) -> float:
    """Counts the request, or tells the seconds after which to try again."""
    with self._lock:
      now = self._clock()
      while self._sent and self._sent[0][0] <= now - _MINUTE:
        self._sent.popleft()
      ready = max(self._not_before, self._fits_at(tokens, now))
      if ready <= now:
        self._sent.append((now, tokens))
        return 0.0
      return ready - now

  def _fits_at(self, tokens: int, now: float) -> float:
    """When enough of what was sent is a minute old.

    A request above the limit of tokens goes when nothing else counts.
    """
    if self._requests is None and self._tokens is None:
      return now
    count, size = len(self._sent), sum(size for _, size in self._sent)
    ready = now
    for sent_at, sent_size in self._sent:
      if ((self._requests is None or count + 1 <= max(1, self._requests))
          and (self._tokens is None or size + tokens <= self._tokens)):
        break
      count, size, ready = count - 1, size - sent_size, sent_at + _MINUTE
    return ready
