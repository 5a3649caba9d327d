"""Does the attention of a true finding land on its lesion?

For every finding that a study really has, its prompts' head-averaged attention
over all tokens of all series is compared with the lesion's outline:

    pointing/top1      the most attended token's own box overlaps the lesion, in
                       a series that shows it
    pointing/chance    the same for a token drawn uniformly
    pointing/series_top1, series_chance    the series with the largest summed
                       attention shows the lesion; the share of series that do
    segmentation/iou   of the `eval.top_tokens` most attended tokens, in the
                       best-attended series that shows the lesion

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement (tokens
as a segmentation); the pointing game goes back to Zhang et al. 2016.
"""

from collections.abc import Iterator

import numpy as np

from itemclip_jax.evaluators import bootstrap, embed, metrics
from itemclip_jax.evaluators.context import Context, Result
from itemclip_jax.parallel import multihost

_DRAWS = 50  # random token sets behind the chance of each IoU


class Evaluator:
  """Collects one row of hits per true finding."""
  REQUIRES = ("series_mask", "lesion_mask", "item_finding", "item_visible")

  def __init__(self, context: Context):
    self._context = context
    vision = context.config.vision
    self._grid = tuple(
        v // p for v, p in zip(vision.volume_shape, vision.patch))
    self._rng = np.random.default_rng(context.config.seed)
    self._rows, self._patients, self._examples = [], [], {}

  def update(self, batch: dict, encoded: embed.Encoded, scores):
    """Adds every true finding of the real studies of a batch."""
    attention = self._attention(batch, encoded)        # [B, K, S, d, h, w]
    scores = embed.mean_over_prompts(scores[0], self._context.owner)
    for i in np.flatnonzero(batch["example_mask"]):
      for k in np.flatnonzero(batch["item_finding"][i] >= 0):
        finding = int(batch["item_finding"][i, k])
        # The mask's numbers are those of the stored items, in slot order here.
        lesion = batch["lesion_mask"][i] == k + 1
        row = self._row(attention[i, k], lesion, batch["item_visible"][i, k],
                        batch["series_mask"][i])
        if row is None:
          continue
        self._rows.append(row)
        self._patients.append(batch["patient_id"][i])
        self._remember(batch, i, k, finding, attention[i, k],
                       scores[i, finding], row)

  def _attention(self, batch, encoded) -> np.ndarray:
    """Mean attention over the prompts of each slot's finding."""
    owner = self._context.owner
    per_finding = [np.flatnonzero(owner == f)
                   for f in range(len(self._context.findings))]
    count = min(len(p) for p in per_finding)
    table = np.stack([p[:count] for p in per_finding])          # [F, prompts]
    which = table[np.maximum(batch["item_finding"], 0)]      # [B, K, prompts]
    B, K, P = which.shape
    weights = self._context.encoder.attention(
        encoded, self._context.texts, which.reshape(B, K * P))
    weights = multihost.to_host(weights).reshape(B, K, P, -1).mean(2)
    return weights.reshape(B, K, -1, *self._grid)

  def _row(self, weights, lesion, visible, real) -> dict | None:
    """Measures of one finding; None where no series can show it."""
    shown = lesion & visible[:, None, None, None]
    target = metrics.token_share(shown, self._grid) > 0
    real_tokens = np.broadcast_to(real[:, None, None, None], target.shape)
    if not (target & real_tokens).any():
      return None
    rank = metrics.series_rank(weights, visible, real)
    best = int(np.argmax(np.where(visible & real,
                                  weights.sum((1, 2, 3)), -1.0)))
    k = self._context.config.eval.top_tokens
    return {
        "top1": metrics.top_token_hit(weights, target, real_tokens),
        "chance": metrics.expected_hit(target, real_tokens),
        "series_top1": float(rank == 1) if rank == rank else float("nan"),
        "series_chance": (visible & real).sum() / real.sum()
                         if rank == rank else float("nan"),
        "iou": metrics.token_iou(weights[best], lesion[best], k),
        "iou_chance": metrics.expected_token_iou(
            lesion[best], self._grid, k, rng=self._rng, num_draws=_DRAWS),
    }

  def _remember(self, batch, i, k, finding, weights, score, row):
    """Keeps the first finding of every kind, hit or miss, for a picture."""
    name = self._context.findings[finding]
    kind = name.split(",")[0]
    if kind in self._examples:
      return
    self._examples[kind] = {
        "finding": name, "text": self._context.prompts[finding],
        "score": float(score), "hit": bool(row["top1"] >= 0.5),
        "study_id": str(batch["study_id"][i]),
        "record": int(batch["record"][i]), "attention": weights,
        "lesion_mask": batch["lesion_mask"][i] == k + 1,
        "visible": batch["item_visible"][i, k],
    }

  def results(self) -> Iterator[tuple[str, Result]]:
    """Means over findings, patients resampled."""
    patients = np.array(self._patients)
    for name, key in (("pointing/top1", "top1"), ("pointing/chance", "chance"),
                      ("pointing/series_top1", "series_top1"),
                      ("pointing/series_chance", "series_chance"),
                      ("segmentation/iou", "iou"),
                      ("segmentation/iou_chance", "iou_chance")):
      values = np.array([r[key] for r in self._rows])
      estimate = bootstrap.mean_estimate(
          values, patients, num_resamples=self._context.config.eval.bootstrap,
          seed=self._context.config.seed)
      yield name, Result.of(estimate, int(np.isfinite(values).sum()))

  def examples(self) -> list[dict]:
    """One finding of each kind, the first in record order.

    The voxels are those of record number "record", series in stored order.
    """
    return list(self._examples.values())
