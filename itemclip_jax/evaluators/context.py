"""What evaluators are told, and what they answer."""

import dataclasses

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.evaluators import embed
from itemclip_jax.evaluators.bootstrap import Estimate


@dataclasses.dataclass(frozen=True)
class Context:
  """One model, one split.

  Attributes:
    config: of the run.
    encoder: compiled functions.
    texts: the encoded prompts, [P] of them.
    owner: [P] the finding of each prompt.
    findings: names of the label columns.
    prompts: first prompt of each finding, for people.
  """
  config: schema.Config
  encoder: embed.Encoder
  texts: embed.Texts
  owner: np.ndarray
  findings: tuple[str, ...]
  prompts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Result:
  """One number of `results.json`; undefined is NaN, written as null."""
  value: float
  ci95: list[float] | None
  n: int

  @classmethod
  def of(cls, estimate: Estimate, n: int) -> "Result":
    return cls(float(estimate.value), estimate.ci95, n)
