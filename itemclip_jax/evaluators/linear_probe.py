"""Linear probe: what a linear classifier can read off the global vectors.

For every finding of the data set a logistic regression is fitted to the train
split and its AUC measured on the test split, with 1 %, 10 % and 100 % of the
train split's labelled patients. These are nested: the patients are shuffled
once, by the seed, and the first of them taken. A patient is labelled where any
study of theirs is annotated for any finding.

    minimise  |w|^2 / 2 + C sum_n log(1 + exp(-y_n (w . x_n + b)))

with x the global vector, of which every number is standardised by the mean and
the deviation of the training studies in use, and C = 1 / E. Then a logit has a
prior variance of one, whatever the width: a fixed rule, so neither the test nor
a validation split chooses anything.

"<name>/<share>/mean_auc" is over the findings with at least `min_positives`
positives in the test split and a negative. A finding without a positive or
without a negative among the patients in use has no probe: NaN, and said.
"""

import numpy as np
from sklearn import linear_model
import threadpoolctl
import tqdm

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, resampled
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.parallel import multihost

SHARES = {"1%": 0.01, "10%": 0.1, "100%": 1.0}


class Evaluator:
  """One row per test study: its labels and the logit of every probe."""
  REQUIRES = ("labels",)
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    self._patients: dict[str, int] = {}

  def collect(self) -> Table:
    """Fits every probe.

    Raises:
      UserError: the train split has no label.
    """
    test, config = self._context.studies, self._context.config
    train = self._context.other(config.data.train_split)
    table = {"study_id": test.study_id, "patient_id": test.patient_id}
    table |= {f"label/{f}": labels
              for f, labels in zip(test.findings, test.labels.T)}
    order = _shuffled_patients(train, config.seed)
    if not len(order):
      raise UserError(f"Split {config.data.train_split!r} holds no label, so "
                      f"{self._context.name} cannot learn; leave it out of "
                      "config.eval.evaluators.")
    bar = tqdm.tqdm(total=len(SHARES) * len(test.findings), desc="probes",
                    unit="probe", leave=False, disable=not multihost.is_main())
    with bar:
      for share, fraction in SHARES.items():
        some = order[:max(1, round(fraction * len(order)))]
        self._patients[share] = len(some)
        rows = np.isin(train.patient_id, some)
        fitted = probes(train.image[rows], train.labels[rows], test.image,
                        progress=bar.update)
        self._say(share, fitted)
        table |= {f"{share}/{f}": x for f, x in zip(test.findings, fitted.T)}
    return table

  def _say(self, share: str, fitted: np.ndarray):
    without = [f for f, x in zip(self._context.studies.findings, fitted.T)
               if np.isnan(x).all()]
    if without and multihost.is_main():
      print(f"{self._context.name}: {share} of the patients "
            f"({self._patients[share]}) lack a positive or a negative of "
            f"{len(without)} of {fitted.shape[1]} findings, such as "
            f"{without[0]}; their AUC is undefined.")

  def meta(self) -> dict:
    """Findings, patients that were learnt from, and the rule for C."""
    return {"findings": list(self._context.studies.findings),
            "patients": self._patients, "C": "1 / E",
            "min_positives": self._context.config.eval.min_positives}

  def examples(self, table: Table) -> list[Example]:
    """Nothing to draw."""
    del table
    return []


def _shuffled_patients(train: Studies, seed: int) -> np.ndarray:
  """The labelled patients, in the order in which shares take them."""
  labelled = np.unique(train.patient_id[(train.labels >= 0).any(1)])
  return np.random.default_rng(seed).permutation(labelled)


def probes(
    train: np.ndarray,   # [n, E]
    labels: np.ndarray,  # [n, F] in {-1, 0, 1}
    test: np.ndarray,    # [m, E]
    *,
    progress=lambda: None,
) -> np.ndarray:         # [m, F] logits, NaN columns where there is no probe
  """Fits a probe for every finding; `progress` is called after each."""
  mean, deviation = train.mean(0), train.std(0)
  deviation = np.where(deviation > 0, deviation, 1)  # a number that is constant
  train, test = (train - mean) / deviation, (test - mean) / deviation
  logits = np.full((len(test), labels.shape[1]), np.nan)
  # On several cores the threads of such small products wait for each other.
  with threadpoolctl.threadpool_limits(1):
    for finding, column in enumerate(labels.T):
      known = column >= 0
      if len(np.unique(column[known])) == 2:
        model = linear_model.LogisticRegression(C=1 / train.shape[1],
                                                max_iter=1000)
        model.fit(train[known], column[known])
        logits[:, finding] = model.decision_function(test)
      progress()
  return logits


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Mean AUC of every share, then of every finding."""
  findings = meta["findings"]
  labels = np.stack([table[f"label/{f}"] for f in findings], 1)
  logits = {share: np.stack([table[f"{share}/{f}"] for f in findings], 1)
            for share in meta["patients"]}
  parts = [_share(f"{name}/{share}", x, labels, meta)
           for share, x in logits.items()]
  return measures.join(parts)


def _share(
    prefix: str,
    logits: np.ndarray,  # [N, F]
    labels: np.ndarray,  # [N, F] in {-1, 0, 1}
    meta: dict,
) -> measures.Measures:
  probed = ~np.isnan(logits).any(0)
  positives = (labels == 1).sum(0)
  averaged = (probed & (positives >= meta["min_positives"])
              & (labels == 0).any(0))
  # Where there is no probe, no study counts and the AUC is undefined.
  areas = resampled.aucs(np.where(probed, logits, 0),
                         np.where(probed, labels, -1))

  def statistic(counts):
    each = areas(counts)
    return np.column_stack([resampled.nanmean(each[:, averaged]), each])

  unlabeled = (labels < 0).sum(0)
  return measures.Measures(
      names=(f"{prefix}/mean_auc",
             *(f"{prefix}/auc/{f}" for f in meta["findings"])),
      statistic=statistic,
      support=(int(averaged.sum()), *positives.tolist()),
      unlabeled=(int(unlabeled[averaged].sum()), *unlabeled.tolist()))
