"""What a study compares: rows of settings, and the numbers that tell.

A file `configs/study/<name>.py` has `get_study() -> Study`; `tools.study` runs
it. Its `get_config(row)` makes every row a config of its own:

    python -m itemclip_jax.main --config=configs/study/objectives.py:clip ...

The rows of a part (a data set) share one base config and state only what they
change; steps, data, tower and optimiser are no row's to change.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Literal

import ml_collections

from itemclip_jax.errors import UserError

# What all rows of a part have in common.
_SHARED = (
    "seed", "dtype", "train.", "optimizer.", "eval.", "mesh.", "data.dataset",
    "data.root", "data.max_series", "data.train_split", "data.valid_split",
    "data.test_split", "vision.tower", "vision.volume_shape", "vision.patch",
    "vision.width", "vision.depth", "vision.num_heads", "vision.stages",
    "text.tower", "text.width", "text.depth", "text.num_heads",
    "text.mlp_width", "text.vocab_size", "joint.width")

# But for rows that go on from another one.
_OWN_PACE = ("optimizer.learning_rate", "train.warmup_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
  """One column: a number of results.json.

  Attributes:
    title: short, of the column.
    result: its name in results.json; "{prompts}" stands for the row's own.
    result_global: its name for rows that rank by the global vector; "" = the
      same for all rows.
    better: which way is good.
  """
  title: str
  result: str
  result_global: str = ""
  better: Literal["higher", "lower"] = "higher"

  def name(self, row: "Row") -> str:
    """Its name in results.json for a row."""
    chosen = row.rule == "global" and self.result_global or self.result
    return chosen.replace("{prompts}", row.prompts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """What a paper printed for these rows, on its own data.

  Attributes:
    title: data set and metric, in the paper's unit.
    source: paper and table.
    values: row -> number, as far as known.
    beside: title of the Number whose order it is compared with.
    better: which way is good.
  """
  title: str
  source: str
  values: Mapping[str, float]
  beside: str
  better: Literal["higher", "lower"] = "higher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A data set, the settings that its rows share, and what is measured.

  Attributes:
    dataset: name for `data_pipelines.prepare`.
    options: further flags of it.
    base: makes the settings; a row's changes are put on top.
  """
  dataset: str
  base: Callable[[], ml_collections.ConfigDict]
  numbers: tuple[Number, ...]
  options: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
  published: tuple[Published, ...] = ()

  @property
  def folder(self) -> str:
    """Name of the built set, one for every recipe."""
    return "-".join([self.dataset] + [
        f"{k}={v}" for k, v in sorted(self.options.items())])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One thing that is compared.

  Attributes:
    title: for people.
    changes: setting -> value, what this row says.
    rule: what it ranks by as published, TCSim or the global vector.
    prompts: prompt set that asks as the row was taught; "" = none of its own.
    against: row that is subtracted from it; "" = none.
    part: where there are several.
    start: row whose finished run it goes on from; "" = from scratch.
    share: of the study's steps that it takes.
    budgets: that it is part of.
  """
  title: str
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rule: Literal["tcsim", "global"] = "tcsim"
  prompts: str = ""
  against: str = ""
  part: str = ""
  start: str = ""
  share: float = 1.0
  budgets: tuple[str, ...] = ("small", "full")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
  """How much is spent on each row."""
  steps: int
  seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """A question, and the runs that answer it.

  Attributes:
    place: of its section among the others.
    title: of its section.
    question: one sentence.
    effort: how the settings were found, and for whom.
    parts: by name.
    rows: by name, in the order of the table.
    budgets: by name.

  Raises:
    UserError: a row names what there is not, or changes what all share.
  """
  place: int
  title: str
  question: str
  effort: str
  parts: Mapping[str, Part]
  rows: Mapping[str, Row]
  budgets: Mapping[Literal["small", "full"], Budget]

  def __post_init__(self):
    for part in self.parts.values():
      titles = {n.title for n in part.numbers}
      for paper in part.published:
        if paper.beside not in titles or paper.values.keys() - self.rows.keys():
          raise UserError(
              f"The published {paper.title!r} stands beside {paper.beside!r} "
              f"for {', '.join(paper.values)}; have the numbers "
              f"{', '.join(sorted(titles))} and the rows "
              f"{', '.join(self.rows)}.")
    for name, row in self.rows.items():
      self._check_row(name, row)

  def _check_row(self, name: str, row: Row):
    if (row.part or len(self.parts) > 1) and row.part not in self.parts:
      raise UserError(f"Row {name!r} is of part {row.part!r}; have "
                      f"{sorted(self.parts)}.")
    for other in filter(None, (row.against, row.start)):
      if other not in self.rows or self.part(other) is not self.part(name):
        raise UserError(f"Row {name!r} names the row {other!r}, which its "
                        "part does not have.")
    allowed = _OWN_PACE if row.start else ()
    shared = [k for k in row.changes
              if k.startswith(_SHARED) and k not in allowed]
    if shared:
      raise UserError(f"Row {name!r} changes {shared[0]}, which all rows of "
                      "a comparison share; change it in the base.")

  def part(self, row: str) -> Part:
    """The part that a row is of."""
    return self.parts[self.rows[row].part or next(iter(self.parts))]

  def config(self, row: str) -> ml_collections.ConfigDict:
    """The settings of a row, but for steps, seed and place of the data.

    Raises:
      UserError: there is no such row.
    """
    if row not in self.rows:
      raise UserError(f"There is no row {row!r}; have {', '.join(self.rows)}.")
    config = self.part(row).base()
    config.update_from_flattened_dict(dict(self.rows[row].changes))
    return config

  def rows_of(self, budget: str) -> list[str]:
    """Names of the rows that a budget pays for."""
    return [name for name, row in self.rows.items() if budget in row.budgets]

  def steps(self, row: str, budget: str) -> int:
    """Training steps of a row."""
    return round(self.rows[row].share * self.budgets[budget].steps)
