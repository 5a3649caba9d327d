"""Patient-level bootstrap: how much a number would move on other patients.

Studies of one patient are not independent, so whole patients are drawn with
replacement. A resample is a vector of counts, one per row (a study, or one
finding of it): row n enters the statistic counts[n] times. A *statistic* maps
counts [R, N] to values [R, ...], all resamples at once, which makes 1000
resamples of a hundred AUCs a matter of a second. Pair two models by giving
the difference of their statistics.

A statistic that a resample leaves undefined (no positive was drawn) is NaN
there. Such resamples are dropped from the percentiles and counted in
`Estimate.num_undefined`, never replaced by a guess.
"""

from collections.abc import Callable
import dataclasses
import warnings

import numpy as np

from itemclip_jax.evaluators import metrics

# Resamples held in memory at once: 64 x 100 000 rows of counts is 50 MB.
CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value on all the data and its percentile interval."""
  value: float
  low: float            # NaN where no resample was defined
  high: float
  num_undefined: int    # resamples dropped

  @property
  def ci95(self) -> list[float] | None:
    """[low, high] for JSON, None when undefined."""
    return None if np.isnan(self.low) else [self.low, self.high]


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],  # [R, N] -> [R, M]
    patients: np.ndarray,                           # [N] patient of each row
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Estimate]:
  """Returns one `Estimate` for each of the M numbers of `statistic`."""
  names, owner = np.unique(patients, return_inverse=True)
  whole = statistic(np.ones((1, len(owner)), np.int64))[0]
  rng = np.random.default_rng(seed)
  values = []
  for start in range(0, num_resamples, CHUNK):
    size = min(CHUNK, num_resamples - start)
    drawn = rng.multinomial(
        len(names), np.full(len(names), 1 / len(names)), size)
    values.append(statistic(drawn[:, owner]))
  values = np.concatenate(values)                        # [R, M]
  tail = 50 * (1 - level)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "All-NaN slice")   # NaN is the answer
    low, high = np.nanpercentile(values, [tail, 100 - tail], axis=0)
  undefined = np.isnan(values).sum(0)
  return [Estimate(*map(float, row[:3]), int(row[3]))
          for row in zip(whole, low, high, undefined, strict=True)]


def resampled_auc(
    scores: np.ndarray,  # [N]
    labels: np.ndarray,  # [N] in {-1, 0, 1}
    counts: np.ndarray,  # [R, N] times that a row was drawn
) -> np.ndarray:         # [R], NaN where one class is missing
  """`metrics.roc_auc` of every resample, from one sort of the scores."""
  metrics.known(scores, labels)
  pos, neg = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
  neg = neg[np.argsort(scores[neg], kind="stable")]
  left = np.searchsorted(scores[neg], scores[pos], side="left")
  right = np.searchsorted(scores[neg], scores[pos], side="right")
  drawn = np.pad(np.cumsum(counts[:, neg], axis=1), ((0, 0), (1, 0)))
  won = counts[:, pos] * (drawn[:, left] + drawn[:, right])
  pairs = counts[:, pos].sum(1) * drawn[:, -1]
  with np.errstate(invalid="ignore"):                    # 0 / 0 is undefined
    return 0.5 * won.sum(1) / pairs


def auc_estimates(
    scores: np.ndarray,    # [N, M] one column per finding
    labels: np.ndarray,    # [N, M] in {-1, 0, 1}
    patients: np.ndarray,  # [N]
    *,
    min_positives: int,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Estimate, list[Estimate]]:
  """Mean AUC, and the AUC of every finding, with intervals.

  The mean is over findings with at least `min_positives` positives (and one
  negative) in *all* the data; in a resample, over those of them that are
  defined there. It is NaN when no finding has enough.
  """
  enough = ((labels == 1).sum(0) >= min_positives) & (labels == 0).any(0)

  def statistic(counts):
    each = np.stack(
        [resampled_auc(s, l, counts) for s, l in zip(scores.T, labels.T)], 1)
    return np.column_stack([_nanmean(each[:, enough]), each])

  mean, *each = bootstrap(
      statistic, patients, num_resamples=num_resamples, seed=seed)
  return mean, each


def mean_estimate(
    values: np.ndarray,    # [N] e.g. one hit per finding; NaN = undefined
    patients: np.ndarray,  # [N] patient of each value
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
  """Mean of the defined values; a patient brings all of theirs or none."""
  values, patients = np.asarray(values, float), np.asarray(patients)
  defined = ~np.isnan(values)
  if not defined.any():
    return Estimate(np.nan, np.nan, np.nan, num_resamples)
  values = values[defined]

  def statistic(counts):
    return (counts @ values / counts.sum(1))[:, None]

  return bootstrap(statistic, patients[defined],
                   num_resamples=num_resamples, seed=seed)[0]


def _nanmean(x: np.ndarray) -> np.ndarray:
  """Mean over axis 1 of what is defined; NaN where nothing is."""
  with np.errstate(invalid="ignore"):
    return np.nansum(x, axis=1) / (~np.isnan(x)).sum(1)
