"""What evaluators are given, and the pictures that they ask for."""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.evaluators.prompts import PromptSet
from itemclip_jax.evaluators.scoring import Scorer

# Columns of equal length; see `evaluators`.
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Context:
  """One model, one split, one evaluator.

  Attributes:
    config: the model's settings, with data and eval of this evaluation.
    name: of the evaluator, that of its prompt set or module.
    spec: the prompt set; None without one.
    scorer: the model.
    studies: the split that is measured.
    other: name of a split -> its studies; they are encoded where need be.
  """
  config: schema.Config
  name: str
  spec: PromptSet | None
  scorer: Scorer
  studies: Studies
  other: Callable[[str], Studies]

  @property
  def grid(self) -> tuple[int, int, int]:
    """Tokens of a series along d, h, w."""
    return self.config.vision.grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
  """One study and one text that deserve a picture.

  Attributes:
    row: number of the study.
    text: whose attention is drawn.
    caption: a sentence for people.
    group: the heading under which it is shown.
    score: of the text, where it has one.
    lesion_mask: [S, D, H, W] bool, None where the place is not known.
    visible: [S] bool, the series that show it.
  """
  row: int
  text: str
  caption: str
  group: str
  score: float | None = None
  lesion_mask: np.ndarray | None = None
  visible: np.ndarray | None = None

  def arrays(self) -> dict[str, Any]:
    """What its file holds of it; what is not known is left out."""
    return {f.name: value for f in dataclasses.fields(self)
            if f.name != "row"
            and (value := getattr(self, f.name)) is not None}
