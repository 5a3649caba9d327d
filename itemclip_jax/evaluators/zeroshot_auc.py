"""Zero-shot multi-label AUC: the score of a finding is that of its prompts.

By TCSim (the prompt pools the tokens it speaks of) and by the study's global
vector; several prompts are averaged. The mean is over findings with enough
positives; intervals resample patients, not studies.
"""

from collections.abc import Iterator

import numpy as np

from itemclip_jax.evaluators import bootstrap, embed
from itemclip_jax.evaluators.context import Context, Result


class Evaluator:
  """Collects one score per study and finding."""
  REQUIRES = ("labels",)

  def __init__(self, context: Context):
    self._context = context
    self._rows = {"local": [], "global": [], "labels": [], "patients": []}

  def update(self, batch: dict, encoded: embed.Encoded, scores):
    """Adds the real studies of a batch; `scores` are TCSim and global."""
    real = batch["example_mask"]
    local, overall = (embed.mean_over_prompts(s[real], self._context.owner)
                      for s in scores)
    self._rows["local"].append(local)
    self._rows["global"].append(overall)
    self._rows["labels"].append(batch["labels"][real])
    self._rows["patients"].append(batch["patient_id"][real])

  def results(self) -> Iterator[tuple[str, Result]]:
    """Means, and every finding's AUC with its number of positives."""
    rows = {k: np.concatenate(v) for k, v in self._rows.items()}
    settings = self._context.config.eval
    auc = lambda scores: bootstrap.auc_estimates(
        scores, rows["labels"], rows["patients"],
        min_positives=settings.min_positives,
        num_resamples=settings.bootstrap, seed=self._context.config.seed)
    positives = (rows["labels"] == 1).sum(0)
    averaged = int(((positives >= settings.min_positives)
                    & (rows["labels"] == 0).any(0)).sum())
    mean, each = auc(rows["local"])
    yield "zeroshot_auc/mean_tcsim", Result.of(mean, averaged)
    overall, _ = auc(rows["global"])
    yield "zeroshot_auc/mean_global", Result.of(overall, averaged)
    for name, estimate, n in zip(self._context.findings, each, positives):
      yield f"zeroshot_auc/tcsim/{name}", Result.of(estimate, int(n))

  def examples(self) -> list[dict]:
    """Nothing to draw."""
    return []
