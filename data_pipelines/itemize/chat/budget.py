"""What a run will cost, and where it stops.

    cost = sum over questions [ in * p_in + out * p_out ] * (1 + retry rate)

in tokens of prompt and report, prices per million. While it runs, every
request reserves the most that it can cost before it is sent, so that the
ceiling holds with many requests under way.
"""

import dataclasses
import threading

from data_pipelines.errors import PrepareError

_MILLION = 1e6
_BYTES_PER_TOKEN = 4      # of English prose in UTF-8; other text has fewer
_TOKENS_PER_MESSAGE = 4   # role and separators


class CostError(PrepareError):
  """The ceiling would be passed."""


def estimate_tokens(messages: list[dict[str, str]]) -> int:
  return sum(-(-len(m["content"].encode()) // _BYTES_PER_TOKEN)
             + _TOKENS_PER_MESSAGE for m in messages)


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Of the questions that are not answered yet, without retries."""
  records: int = 0
  calls: int = 0
  tokens_in: int = 0
  tokens_out: int = 0

  def __add__(self, other: "Estimate") -> "Estimate":
    return Estimate(*(a + b for a, b in zip(
        dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


class Budget:
  """Counts what was spent, for all threads.

  Attributes:
    spent: so far, in the currency of the prices.
  """

  def __init__(self, price_in: float, price_out: float,
               max_cost: float | None = None, *, retry_rate: float = 0.0):
    self._prices = price_in / _MILLION, price_out / _MILLION
    self._max_cost, self._retry_rate = max_cost, retry_rate
    self._lock = threading.Lock()
    self._reserved = 0.0
    self.spent = 0.0

  def cost(self, tokens_in: int, tokens_out: int) -> float:
    return tokens_in * self._prices[0] + tokens_out * self._prices[1]

  def expected(self, estimate: Estimate) -> float:
    """The cost of a run, with the share of questions asked again."""
    return self.cost(estimate.tokens_in, estimate.tokens_out) * (
        1 + self._retry_rate)

  def check(self, estimate: Estimate):
    """Raises CostError where a run is expected to pass the ceiling."""
    cost = self.expected(estimate)
    if self._max_cost is not None and cost > self._max_cost:
      raise CostError(
          f"{estimate.calls} questions about {estimate.records} records would "
          f"cost about {cost:.4g}, more than the ceiling of "
          f"{self._max_cost:g}; raise --max_cost, or take fewer records with "
          "--limit.")

  def reserve(self, tokens_in: int, tokens_out: int) -> float:
    """Sets the most that a request can cost aside.

    Returns:
      What `settle` wants back.

    Raises:
      CostError: it could pass the ceiling.
    """
    cost = self.cost(tokens_in, tokens_out)
    with self._lock:
      if (self._max_cost is not None
          and self.spent + self._reserved + cost > self._max_cost):
        raise CostError(
            f"The next answer could cost more than is left: {self.spent:.4g} "
            f"of {self._max_cost:g} is spent. Raise --max_cost and run again; "
            "what was answered is kept and costs nothing.")
      self._reserved += cost
    return cost

  def settle(self, reserved: float, tokens_in: int, tokens_out: int):
    """Books what a request cost instead of what was reserved for it."""
    with self._lock:
      self._reserved -= reserved
      self.spent += self.cost(tokens_in, tokens_out)
