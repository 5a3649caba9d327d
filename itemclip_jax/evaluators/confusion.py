"""A choice among some classes: what is confused with what, of many resamples.

A study is called the class of its highest score, of equal ones the first. From
the confusions, and from the softmax p of the scores (no scale):

    accuracy            share of the studies that are recognised
    balanced_accuracy   mean over classes of the share that is recognised
    f1_macro            mean over classes of F1
    f1_weighted         mean over classes of F1, weighed by their studies
    macro_auc           mean over classes of the AUC of p, one against the rest
    recall, precision   of one class that is the finding

All are NaN where a class has no study, the precision also where its class is
never called.

Source: the published evaluation of Pub-Brain-5, Zhao et al. 2025,
https://arxiv.org/abs/2505.21862.
"""

from collections.abc import Callable, Sequence

import numpy as np

from itemclip_jax.evaluators import resampled
from itemclip_jax.evaluators.bootstrap import Statistic

METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted",
           "macro_auc", "recall", "precision")
OF_A_POSITIVE = ("recall", "precision")


def statistic(
    scores: np.ndarray,      # [N, C]
    truth: np.ndarray,       # [N] number of the class, -1 = none of them
    wanted: Sequence[str],   # of METRICS, one at least
    *,
    positive: int,           # class that recall and precision are of
) -> Statistic:              # -> [R, len(wanted)]
  """Prepares the wanted metrics; studies of no class do not count."""
  N, C = scores.shape
  cells = np.zeros((N, C * C))
  known = np.flatnonzero(truth >= 0)
  cells[known, truth[known] * C + scores.argmax(1)[known]] = 1
  formulas = _formulas(positive)
  if "macro_auc" in wanted:
    areas = _areas(scores, truth)

  def values_of(counts):
    table = (counts.astype(float) @ cells).reshape(-1, C, C)
    table[(table.sum(2) == 0).any(1)] = np.nan
    with np.errstate(invalid="ignore"):           # 0 / 0 is undefined
      values = [areas(counts).mean(1) if m == "macro_auc"
                else formulas[m](table) for m in wanted]
    return np.stack(values, axis=1)
  return values_of


def _formulas(positive: int) -> dict[str, Callable]:
  """Metrics of confusions [R, true class, called class] -> [R]."""
  hits = lambda x: np.einsum("rcc->rc", x)
  recall = lambda x: hits(x) / x.sum(2)
  f1 = lambda x: 2 * hits(x) / (x.sum(2) + x.sum(1))
  return {
      "accuracy": lambda x: hits(x).sum(1) / x.sum((1, 2)),
      "balanced_accuracy": lambda x: recall(x).mean(1),
      "f1_macro": lambda x: f1(x).mean(1),
      "f1_weighted": lambda x: (f1(x) * x.sum(2)).sum(1) / x.sum((1, 2)),
      "recall": lambda x: recall(x)[:, positive],
      "precision": lambda x: (hits(x) / x.sum(1))[:, positive]}


def _areas(scores: np.ndarray, truth: np.ndarray) -> Statistic:
  """AUC of the softmax, each class against the rest; [R, C]."""
  odds = np.exp(scores - scores.max(1, keepdims=True))
  # Rounded, so that equal shares reached by different sums stay equal.
  share = np.round(odds / odds.sum(1, keepdims=True), 12)
  labels = np.where(truth[:, None] < 0, -1,
                    truth[:, None] == np.arange(scores.shape[1]))
  return resampled.aucs(share, labels)
