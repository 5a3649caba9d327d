"""Records -> means over seeds, their intervals, and paired differences.

Two spreads are told apart. *Patients*: the mean over the seeds is measured in
every resample of the patients, the same in all seeds; what other patients would
have changed. *Seeds*: the least and the largest of the seeds; what another
start would have changed.
"""

import dataclasses

import numpy as np

from itemclip_jax.evaluators import bootstrap
from itemclip_jax.tools.comparison.record import Record

_ROUNDING = 1e-9   # of means that are equal but for the order of their sums


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A number of a row.

  Attributes:
    value: mean over the seeds; NaN where one of them is undefined.
    ci95: of resampled patients; None where there are no resamples.
    ends: least and largest over the seeds, None of one seed.
    seeds: which.
    p_value: of a difference, see `evaluators.measures.paired`; else None.
  """
  value: float
  ci95: list[float] | None
  ends: tuple[float, float] | None
  seeds: tuple[int, ...]
  p_value: float | None = None


def estimate(records: list[Record], name: str) -> Estimate | None:
  """Of one row and budget, in any order; None where no seed has the number."""
  records = _having(records, name)
  if not records:
    return None
  return _estimate([_value(r, name) for r in records],
                   _mean_draws(records, name), records)


def difference(
    records: list[Record], name: str,
    others: list[Record], other_name: str,
) -> Estimate | None:
  """`records` minus `others`, over the seeds that both have; or None."""
  records, others = _having(records, name), _having(others, other_name)
  by_seed = {r.seed: r for r in others}
  records = [r for r in records if r.seed in by_seed]
  others = [by_seed[r.seed] for r in records]
  if not records or not _same_data(records + others):
    return None
  values = [_value(a, name) - _value(b, other_name)
            for a, b in zip(records, others)]
  draws = None
  if _digests(records, name) == _digests(others, other_name):
    first, second = (_mean_draws(r, n) for r, n in (
        (records, name), (others, other_name)))
    if first is not None and second is not None:
      draws = first - second
  found = _estimate(values, draws, records)
  return dataclasses.replace(found, p_value=_p_value(found.value, draws))


def _having(records: list[Record], name: str) -> list[Record]:
  return sorted((r for r in records if name in r.numbers),
                key=lambda r: r.seed)


def _same_data(records: list[Record]) -> bool:
  return len({r.data.get("sha256") for r in records}) == 1


def _value(record: Record, name: str) -> float:
  value = record.numbers[name]["value"]
  return float("nan") if value is None else float(value)


def _digests(records: list[Record], name: str) -> set[str]:
  return {r.resamples[name]["sha256"] for r in records if name in r.resamples}


def _mean_draws(records: list[Record], name: str) -> np.ndarray | None:
  """[R], over the seeds; None where they were not drawn alike."""
  if len(_digests(records, name)) != 1 or any(
      name not in r.resamples for r in records):
    return None
  return np.mean([r.draws(name) for r in records], axis=0)


def _estimate(values: list[float], draws: np.ndarray | None,
              records: list[Record]) -> Estimate:
  ci95 = None
  if draws is not None and not np.isnan(draws).all():
    ci95 = bootstrap.interval(draws[:, None])[0][0].tolist()
  ends = (min(values), max(values)) if len(values) > 1 else None
  return Estimate(float(np.mean(values)), ci95, ends,
                  tuple(r.seed for r in records))


def _p_value(value: float, draws: np.ndarray | None) -> float | None:
  """How often resampling moves the difference as far as it is from zero."""
  if draws is None or np.isnan(value) or np.isnan(draws).all():
    return None
  draws = draws[~np.isnan(draws)]
  far = np.abs(draws - value) >= np.abs(value) - _ROUNDING
  return float((1 + far.sum()) / (1 + len(draws)))
