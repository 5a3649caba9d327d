"""Metrics as pure NumPy functions; no model, no device, no I/O.

A number that is not defined (one class only, an empty lesion) is NaN, never a
made-up value: the caller reports it as undefined.

Attention arrives head-averaged and without the zero slot. A token grid
`[..., d, h, w]` tiles voxels `[..., D, H, W]`; leading axes (series) match.
"""

import numpy as np
from sklearn import metrics as sk

# CT-CLIP searches its decision threshold on this grid of cosines.
COSINE_GRID = np.linspace(-1.0, 1.0, 1000)


def known(scores: np.ndarray, labels: np.ndarray):
  """Drops studies that are not annotated (label -1).

  Raises:
    ValueError: shapes differ, or a score is NaN and so cannot be ranked.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  if scores.shape != labels.shape or scores.ndim != 1:
    raise ValueError(f"Got scores {scores.shape} and labels {labels.shape}; "
                     "want one of each for every study, both [N].")
  keep = labels >= 0
  if np.isnan(scores[keep]).any():
    raise ValueError(f"{np.isnan(scores[keep]).sum()} of {keep.sum()} scores "
                     "are NaN; find the study that the model fails on.")
  return scores[keep], labels[keep]


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
  """Area under the ROC curve for one finding; ties count one half.

  Args:
    scores: [N] higher means more likely present.
    labels: [N] in {0, 1}; -1 marks "not annotated" and is dropped.

  Returns:
    The AUC, or NaN when only one class is present.
  """
  scores, labels = known(scores, labels)
  pos, neg = scores[labels == 1], np.sort(scores[labels == 0])
  if not len(pos) or not len(neg):
    return float("nan")
  below = np.searchsorted(neg, pos, side="left")
  ties = np.searchsorted(neg, pos, side="right") - below
  return float(np.mean(below + 0.5 * ties) / len(neg))


def roc_threshold(
    scores: np.ndarray,  # [N]
    labels: np.ndarray,  # [N] in {-1, 0, 1}
    grid: np.ndarray = COSINE_GRID,
) -> float:
  """Threshold whose ROC point is nearest to (FPR 0, TPR 1); CT-CLIP's rule.

  A score *above* the threshold is a positive call. Of several minimisers the
  last (largest) is taken. Chosen on the labels it is judged on, this threshold
  flatters the model: the AUC is the honest number.

  Returns:
    The threshold, or NaN when only one class is present.
  """
  scores, labels = known(scores, labels)
  pos, neg = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
  if not len(pos) or not len(neg):
    return float("nan")
  tpr = 1 - np.searchsorted(pos, grid, side="right") / len(pos)
  fpr = 1 - np.searchsorted(neg, grid, side="right") / len(neg)
  # Rounded, so that equal distances reached by different sums stay equal.
  distance = np.round(np.hypot(1 - tpr, fpr), 12)
  return float(grid[np.flatnonzero(distance == distance.min())[-1]])


def f1_threshold(
    scores: np.ndarray,  # [N]
    labels: np.ndarray,  # [N] in {-1, 0, 1}
) -> float:
  """Threshold with the best F1 of the positive class; MedFILIP's rule.

  Every distinct score is tried, and the number just below the lowest, by which
  all are called. Of several with the best F1 the largest is taken: the errors
  are (called + positives) (1 - F1), so it is the most accurate, too. (The
  published code tries cosines from -1 to 1 on logits, which lie far outside.)
  Like `roc_threshold` it flatters the model.

  Returns:
    The threshold, or NaN when only one class is present.
  """
  scores, labels = known(scores, labels)
  if len(np.unique(labels)) < 2:
    return float("nan")
  distinct = np.unique(scores.astype(float))
  tried = np.r_[np.nextafter(distinct[0], -np.inf), distinct]
  above = lambda x: len(x) - np.searchsorted(np.sort(x), tried, side="right")
  tp, fp = above(scores[labels == 1]), above(scores[labels == 0])
  positives = (labels == 1).sum()
  # Fractions of whole numbers: equal ones are equal floats.
  f1 = 2 * tp / (tp + fp + positives)
  return float(tried[np.flatnonzero(f1 == f1.max())[-1]])


def at_threshold(
    scores: np.ndarray,  # [N]
    labels: np.ndarray,  # [N] in {-1, 0, 1}
    threshold: float,
) -> dict[str, float]:
  """Quality of the call `score > threshold`.

  `f1_weighted` weighs both classes by their support; `precision` and `recall`
  are those of the positive class. Published "balanced ACC" of chest CT is in
  truth `accuracy`, so both are here.
  """
  scores, labels = known(scores, labels)
  if np.isnan(threshold) or len(np.unique(labels)) < 2:
    return dict.fromkeys(
        ("accuracy", "balanced_accuracy", "f1_weighted", "precision", "recall"),
        float("nan"))
  called = (scores > threshold).astype(labels.dtype)
  precision, recall, _, _ = sk.precision_recall_fscore_support(
      labels, called, average="binary", zero_division=np.nan)
  values = dict(
      accuracy=sk.accuracy_score(labels, called),
      balanced_accuracy=sk.balanced_accuracy_score(labels, called),
      f1_weighted=sk.f1_score(labels, called, average="weighted"),
      precision=precision,
      recall=recall)
  return {name: float(value) for name, value in values.items()}


def token_share(
    mask: np.ndarray,          # [..., D, H, W] bool
    grid: tuple[int, ...],     # (d, h, w)
) -> np.ndarray:               # [..., d, h, w] in [0, 1]
  """Share of each token's voxels that lie inside `mask`."""
  volume = mask.shape[-3:]
  if any(v % g for v, g in zip(volume, grid, strict=True)):
    raise ValueError(f"A token grid {tuple(grid)} does not tile a mask of "
                     f"{volume} voxels.")
  split = [n for v, g in zip(volume, grid) for n in (g, v // g)]
  return mask.reshape(*mask.shape[:-3], *split).mean((-5, -3, -1))


def top_token_hit(
    weights: np.ndarray,   # [...] attention of one text
    target: np.ndarray,    # [...] bool, the token overlaps the finding
    real: np.ndarray,      # [...] bool, False = padding
) -> float:
  """1 if the most attended real token lies on the finding, else 0.

  Equal maxima count by the share of them that hit: an attention that prefers
  nothing scores `expected_hit`. NaN when no real token shows the finding.
  """
  if not (target & real).any():
    return float("nan")
  top = real & (weights == weights[real].max())
  return float(target[top].mean())


def expected_hit(
    target: np.ndarray,  # [...] bool, the token overlaps the finding
    real: np.ndarray,    # [...] bool, False = padding
) -> float:
  """Chance of `top_token_hit`: the share of real tokens on the finding."""
  if not (target & real).any():
    return float("nan")
  return float(target[real].mean())


def token_iou(
    weights: np.ndarray,  # [..., d, h, w] attention of one text
    mask: np.ndarray,     # [..., D, H, W] bool, voxels of the finding
    k: int,
) -> float:
  """Overlap of the k most attended tokens, as voxel boxes, with a mask.

  Padding has weight 0 after the softmax, so it is never among the first k.
  The best value is below 1: boxes cannot follow an outline. NaN when the mask
  is empty. Of equal weights the first in memory order is taken.
  """
  return _iou(*_inside(weights, mask, k), k)


def token_dice(
    weights: np.ndarray,  # [..., d, h, w] attention of one text
    mask: np.ndarray,     # [..., D, H, W] bool, voxels of the finding
    k: int,
) -> float:
  """Dice of the same voxel boxes as `token_iou`; NaN when the mask is empty."""
  inside, lesion = _inside(weights, mask, k)
  return float(2 * inside / (lesion + k)) if lesion else float("nan")


def _inside(weights: np.ndarray, mask: np.ndarray, k: int) -> tuple:
  """Area of a mask in the k most attended tokens, and in all, in tokens."""
  share = token_share(mask, weights.shape[-3:]).ravel()
  top = np.argsort(-weights, axis=None, kind="stable")[:k]
  return share[top].sum(), share.sum()


def expected_token_iou(
    mask: np.ndarray,       # [..., D, H, W] bool
    grid: tuple[int, ...],  # (d, h, w)
    k: int,
    *,
    rng: np.random.Generator,
    num_draws: int = 200,
) -> float:
  """Chance of `token_iou`: mean over draws of k distinct random tokens.

  `mask` holds real series only: a padded series would be drawn from as well.
  """
  share = token_share(mask, grid).ravel()
  draws = [rng.choice(share.size, k, replace=False) for _ in range(num_draws)]
  return float(np.mean([_iou(share[d].sum(), share.sum(), k) for d in draws]))


def _iou(inside: float, lesion: float, k: int) -> float:
  """IoU with areas counted in tokens; NaN when there is no lesion."""
  return float(inside / (lesion + k - inside)) if lesion else float("nan")


def series_rank(
    weights: np.ndarray,  # [S, ...] attention of one text
    visible: np.ndarray,  # [S] bool, the series shows the finding
    real: np.ndarray,     # [S] bool, False = padding
) -> float:
  """Rank, from 1, of the best series that shows the finding.

  Series are ordered by their summed attention; one that ties with it counts
  one half. NaN when no real series shows the finding, or every one does.
  """
  shows, hides = visible & real, ~visible & real
  if not shows.any() or not hides.any():
    return float("nan")
  total = weights.reshape(len(weights), -1).sum(1)
  best = total[shows].max()
  ahead, level = total[hides] > best, total[hides] == best
  return float(1 + ahead.sum() + 0.5 * level.sum())
