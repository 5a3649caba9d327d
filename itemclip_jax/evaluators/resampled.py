"""Metrics of resamples: what is asked once, for many drawings of the rows.

Each function here prepares a `bootstrap.Statistic`: it sorts or multiplies out
what does not depend on the drawing, and returns a function of counts [R, N].
With counts of ones they equal their namesakes in `metrics`; what a drawing
leaves undefined is NaN.
"""

import numpy as np

from itemclip_jax.evaluators import metrics
from itemclip_jax.evaluators.bootstrap import Statistic

# Of the call `score > threshold`, as in `metrics.at_threshold`.
CALLS = ("accuracy", "balanced_accuracy", "f1_weighted", "precision", "recall")

# The same and the F1 of the positive class, where thresholds are chosen by it.
CALLS_WITH_F1 = (*CALLS, "f1")


def aucs(
    scores: np.ndarray,  # [N, T] one column per task
    labels: np.ndarray,  # [N, T] in {-1, 0, 1}; -1 is dropped
) -> Statistic:          # -> [R, T]
  """The AUC of every task; NaN where one class is missing."""
  each = [_auc(s, l) for s, l in zip(scores.T, labels.T, strict=True)]

  def statistic(counts):
    values = np.empty((len(counts), len(each)))          # T may be 0
    for t, auc in enumerate(each):
      values[:, t] = auc(counts)
    return values
  return statistic


def _auc(scores: np.ndarray, labels: np.ndarray) -> Statistic:
  """One task, from one sort of its scores; sums of integers, so exact."""
  metrics.known(scores, labels)
  pos, neg = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
  neg = neg[np.argsort(scores[neg], kind="stable")]
  left = np.searchsorted(scores[neg], scores[pos], side="left")
  right = np.searchsorted(scores[neg], scores[pos], side="right")

  def statistic(counts):
    rows = counts.T                                    # [N, R]
    below = np.zeros((len(neg) + 1, rows.shape[1]), np.int64)
    np.cumsum(rows[neg], axis=0, out=below[1:])
    drawn = rows[pos]
    won = np.einsum("nr,nr->r", drawn, below[left] + below[right])
    with np.errstate(invalid="ignore"):                # 0 / 0 is undefined
      return 0.5 * won / (drawn.sum(0) * below[-1])
  return statistic


def calls(
    scores: np.ndarray,      # [N, T]
    labels: np.ndarray,      # [N, T] in {-1, 0, 1}; -1 is dropped
    thresholds: np.ndarray,  # [T], NaN = there is none
    wanted: tuple[str, ...] = CALLS,  # or fewer, or of `CALLS_WITH_F1`
) -> Statistic:              # -> [R, len(wanted) T], by call, then by task
  """Quality of the calls at thresholds that no resample moves.

  NaN where one class is missing or there is no threshold; the precision also
  where nothing is called.
  """
  T = len(thresholds)
  true, false, called = labels == 1, labels == 0, scores > thresholds
  facts = np.concatenate(
      [true, false, true & called, false & called], axis=1).astype(float)

  def statistic(counts):
    P, N, tp, fp = np.split(counts.astype(float) @ facts, 4, axis=1)  # [R, T]
    fn, tn = P - tp, N - fp
    with np.errstate(invalid="ignore", divide="ignore"):
      f1 = [2 * hit / (2 * hit + fp + fn) for hit in (tp, tn)]
      values = {
          "accuracy": (tp + tn) / (P + N),
          "balanced_accuracy": (tp / P + tn / N) / 2,
          "f1_weighted": (P * f1[0] + N * f1[1]) / (P + N),
          "precision": tp / (tp + fp), "recall": tp / P, "f1": f1[0]}
    values = np.stack([values[name] for name in wanted], axis=1)
    undefined = (P == 0) | (N == 0) | np.isnan(thresholds)
    values[np.broadcast_to(undefined[:, None], values.shape)] = np.nan
    return values.reshape(-1, len(wanted) * T)
  return statistic


def means(
    values: np.ndarray,  # [N, M], NaN = undefined
) -> Statistic:          # -> [R, M]
  """Means over the rows that define a number."""
  defined = ~np.isnan(values)
  known = np.where(defined, values, 0.0)

  def statistic(counts):
    counts = counts.astype(float)
    with np.errstate(invalid="ignore"):
      return counts @ known / (counts @ defined.astype(float))
  return statistic


def nanmean(x: np.ndarray) -> np.ndarray:
  """Mean over the last axis of what is defined; NaN where nothing is."""
  with np.errstate(invalid="ignore"):
    return np.nansum(x, axis=-1) / (~np.isnan(x)).sum(-1)
