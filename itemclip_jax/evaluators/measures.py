"""Numbers of a table of predictions, their intervals and their differences.

`Measures` says how numbers follow from a table without computing any: names,
and one function of how often each row is drawn. So the value, its interval and
the paired difference to another model come from the same few lines.
"""

import dataclasses
from typing import Any

import numpy as np

from itemclip_jax.evaluators import bootstrap, resampled

# Distances that are equal but for the order of their sums stay equal.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
  """M numbers of a table of N rows.

  Attributes:
    names: M full names, such as "ct_rate/tcsim/Emphysema".
    statistic: counts [R, N] int -> [R, M] float; NaN = undefined. Counts of
      ones give the numbers themselves.
    support: of each number its n, positives or rows as its evaluator says.
    unlabeled: of each number the entries that were dropped because nobody
      annotated them; () = none anywhere.
    fixed: numbers that have no interval, by full name.
  """
  names: tuple[str, ...]
  statistic: bootstrap.Statistic
  support: tuple[int, ...]
  unlabeled: tuple[int, ...] = ()
  fixed: dict[str, float] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    every = [*self.names, *self.fixed]
    if twice := sorted({n for n in every if every.count(n) > 1}):
      raise ValueError(f"Two numbers are named {twice[0]!r}; rename one.")
    sizes = {len(self.names), len(self.support),
             len(self.unlabeled or self.names)}
    if len(sizes) > 1:
      raise ValueError(
          f"Got {len(self.names)} names, {len(self.support)} supports and "
          f"{len(self.unlabeled)} counts of unlabeled entries; want one each.")


def means(names: tuple[str, ...], columns: np.ndarray) -> Measures:
  """Means over the rows of columns [N, M] that are not NaN."""
  columns = np.asarray(columns, float)
  return Measures(names=tuple(names), statistic=resampled.means(columns),
                  support=tuple((~np.isnan(columns)).sum(0).tolist()))


def join(parts: list[Measures]) -> Measures:
  """All numbers of measures of the same rows, in order."""
  parts = list(parts)
  return Measures(
      names=tuple(n for p in parts for n in p.names),
      statistic=lambda counts: np.concatenate(
          [p.statistic(counts) for p in parts], axis=1),
      support=tuple(n for p in parts for n in p.support),
      unlabeled=tuple(n for p in parts
                      for n in p.unlabeled or (0,) * len(p.names)),
      fixed={k: v for p in parts for k, v in p.fixed.items()})


@dataclasses.dataclass(frozen=True)
class Result:
  """One number of `results.json`; NaN where it is undefined.

  Attributes:
    value: on all the data.
    ci95: percentile interval, None where no resample is defined.
    n: what it rests on, see `Measures.support`.
    unlabeled: entries that were dropped.
    undefined_resamples: resamples that are not in the interval.
  """
  value: float
  ci95: list[float] | None
  n: int
  unlabeled: int = 0
  undefined_resamples: int = 0

  def to_json(self) -> dict[str, Any]:
    """An undefined value is None; of the last two only what is not 0."""
    out = {"value": _or_none(self.value), "ci95": self.ci95, "n": self.n}
    rare = {"unlabeled": self.unlabeled,
            "undefined_resamples": self.undefined_resamples}
    return out | {k: v for k, v in rare.items() if v}


def results(
    measures: Measures,
    table: dict[str, np.ndarray],
    *,
    num_resamples: int,
    seed: int,
) -> dict[str, Result]:
  """Every number with its interval; patients ("patient_id") are resampled.

  The n of a number without interval is that of the rows.
  """
  patients = table["patient_id"]
  values, drawn = bootstrap.resample(
      measures.statistic, patients, num_resamples=num_resamples, seed=seed)
  ends, undefined = bootstrap.interval(drawn)
  unlabeled = measures.unlabeled or (0,) * len(measures.names)
  out = {name: Result(float(values[i]), _interval(ends[i]),
                      int(measures.support[i]), int(unlabeled[i]),
                      int(undefined[i]))
         for i, name in enumerate(measures.names)}
  return out | {name: Result(float(value), None, len(patients))
                for name, value in measures.fixed.items()}


@dataclasses.dataclass(frozen=True)
class Difference:
  """Of two models on the same rows, the second minus the first."""
  value: float
  ci95: list[float] | None
  p_value: float             # NaN where the difference is undefined
  undefined_resamples: int

  def to_json(self) -> dict[str, Any]:
    """An undefined number is None."""
    return dataclasses.asdict(self) | {
        "value": _or_none(self.value), "p_value": _or_none(self.p_value)}


def paired(
    first: Measures,
    second: Measures,
    patients: np.ndarray,  # [N], of rows that both tables have in this order
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
  """Differences of the numbers that both have, each drawing made in both.

  With d the difference on all the data and d* that of a resample,

      p = (1 + #{|d* - d| >= |d|}) / (R + 1)

  over the R resamples that define d*: how often resampling alone moves the
  difference as far as it is from zero, in either direction. So p is at least
  1 / (R + 1); equal models have p = 1. Thresholds and chosen prompts stay those
  of the whole data.
  """
  names = [n for n in first.names if n in second.names]
  columns = [[m.names.index(n) for n in names] for m in (first, second)]

  def statistic(counts):
    return (second.statistic(counts)[:, columns[1]]
            - first.statistic(counts)[:, columns[0]])

  values, drawn = bootstrap.resample(
      statistic, patients, num_resamples=num_resamples, seed=seed)
  ends, undefined = bootstrap.interval(drawn)
  # NaN compares as False, so undefined resamples do not count as far.
  far = (np.abs(drawn - values) >= np.abs(values) - _ROUNDING).sum(0)
  p = (1 + far) / (1 + num_resamples - undefined)
  p[np.isnan(values) | (undefined == num_resamples)] = np.nan
  return {name: Difference(float(values[i]), _interval(ends[i]), float(p[i]),
                           int(undefined[i]))
          for i, name in enumerate(names)}


def _interval(ends: np.ndarray) -> list[float] | None:
  return None if np.isnan(ends[0]) else ends.tolist()


def _or_none(value: float) -> float | None:
  return None if np.isnan(value) else value
