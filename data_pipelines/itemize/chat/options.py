"""How to reach a chat server, and what it may cost."""

import dataclasses
import math
import os

from data_pipelines.errors import PrepareError

# The least that each number may be, and whether it may be just that.
_LEAST = {"temperature": (0, True), "max_output_tokens": (1, True),
          "concurrency": (1, True), "requests_per_minute": (0, False),
          "tokens_per_minute": (0, False), "timeout": (0, False),
          "price_in": (0, True), "price_out": (0, True),
          "max_cost": (0, True), "retry_rate": (0, True)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Settings of the chat back-end; None = no limit, or not sent.

  Attributes:
    base_url: what stands before "/chat/completions".
    model: as the server names it.
    api_key_env: the environment variable that holds the key; the key itself
      is kept nowhere else.
    allow_hosts: names of servers outside of this house that may be sent to.
    max_output_tokens: of one answer.
    json_mode: ask for response_format JSON; left out where it is refused.
    concurrency: requests under way at once.
    tokens_per_minute: an answer counts as max_output_tokens, as servers do.
    timeout: seconds until an answer must be complete.
    price_in, price_out: per million tokens, in any currency.
    max_cost: in that currency, of one run.
    retry_rate: share of questions that are expected to be asked again.
  """
  base_url: str
  model: str
  api_key_env: str | None = None
  allow_hosts: tuple[str, ...] = ()
  temperature: float = 0.0
  max_output_tokens: int = 1024
  seed: int | None = 0
  json_mode: bool = True
  concurrency: int = 4
  requests_per_minute: float | None = None
  tokens_per_minute: float | None = None
  timeout: float = 60.0
  price_in: float = 0.0
  price_out: float = 0.0
  max_cost: float | None = None
  retry_rate: float = 0.05

  def __post_init__(self):
    for name, (least, itself) in _LEAST.items():
      value = getattr(self, name)
      if value is None:
        continue
      enough = value >= least if itself else value > least
      if not (math.isfinite(value) and enough):
        raise PrepareError(f"{name} is {value}, want a number "
                           f"{'>=' if itself else '>'} {least}.")
    if not self.model:
      raise PrepareError("The chat back-end wants the model's name.")
    if self.max_cost is not None and not (self.price_in or self.price_out):
      raise PrepareError(
          f"max_cost is {self.max_cost} and nothing has a price; give price_in "
          "and price_out, per million tokens.")

  def parameters(self) -> dict:
    """What an answer depends on besides model and messages."""
    return {"temperature": self.temperature,
            "max_tokens": self.max_output_tokens, "seed": self.seed,
            "json_mode": self.json_mode}

  def api_key(self) -> str | None:
    """Raises PrepareError where the variable holds no key."""
    if self.api_key_env is None:
      return None
    key = os.environ.get(self.api_key_env, "").strip()
    if not (key and key.isascii() and key.isprintable()):
      raise PrepareError(
          f"The environment variable {self.api_key_env} holds "
          f"{'no text that can be a key' if key else 'nothing'}; set it to "
          "the server's API key.")
    return key
