"""How images and texts lie on the unit sphere, without any task.

With v_i the unit global vector of study i and t_ik those of its items:

    alignment           mean_i mean_k |v_i - t_ik|^2, of own pairs; lower=closer
    uniformity_image    log mean_{i<>j} exp(-2 |v_i - v_j|^2); lower=more spread
    uniformity_text     the same of items of different studies
    modality_gap        |mean_i v_i - mean_i mean_k t_ik|
    silhouette          mean over studies of how much nearer (cosine) they are
                        to those of their own label pattern than to the next
    adjusted_mutual_information   of k-means clusters of v and label patterns:
                        0 by chance, 1 where they are the same
    effective_rank_image, _text   exp of the entropy of the normalised singular
                        values of the centred vectors: dimensions in use

Every study weighs the same, whatever the number of its items. A label pattern
is the set of findings of a study without unknown labels; those of at least
`eval.min_positives` studies count, and there must be two. Above `MOST` studies
as many are drawn, by the seed. The last two lines have no interval.

A uniformity is a mean over pairs. Its intervals resample the first term of
Hoeffding's decomposition: with u_i the mean over the partners of i and U the
mean of all u, a resample gives U + 2 (mean u* - U). The gap is resampled along
its direction in all the data, and silhouettes against all the data.

References: Wang & Isola 2020, https://arxiv.org/abs/2005.10242 (alignment,
uniformity); Liang et al. 2022, https://arxiv.org/abs/2203.02053 (modality gap);
Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7 (silhouette); Vinh et al. 2010,
JMLR 11:2837 (adjusted mutual information); Roy & Vetterli 2007, EUSIPCO
(effective rank).
"""

from collections.abc import Sequence

import numpy as np
from sklearn import cluster
from sklearn import metrics as sk

from itemclip_jax.evaluators import measures
from itemclip_jax.evaluators.bootstrap import Statistic
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.parallel import multihost

MOST = 2000     # studies; time and memory grow with the square
_SHARPNESS = 2  # of the Gaussian of Wang & Isola
_BLOCK = 1024   # rows of a similarity matrix that are held at once

_MEANS = ("alignment", "modality_gap", "silhouette")
_SPREADS = ("uniformity_image", "uniformity_text")
_RANKS = ("effective_rank_image", "effective_rank_text")


class Evaluator:
  """One row per study: what it adds to every number."""
  REQUIRES = ()
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    self._facts: dict[str, float | int] = {}

  def collect(self) -> Table:
    """Compares the vectors of a sample of the split with each other."""
    studies, seed = self._context.studies, self._context.config.seed
    rows = np.arange(len(studies))
    if len(rows) > MOST:
      rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, False))
    image = _unit(studies.image[rows])
    items = [studies.items(row) for row in rows]
    texts = list(dict.fromkeys(text for own in items for text in own))
    number = {text: i for i, text in enumerate(texts)}
    own = [np.array([number[text] for text in texts], int) for texts in items]
    text = (_unit(self._context.scorer.texts(texts)) if texts
            else np.zeros((0, image.shape[1])))
    patterns = label_patterns(studies.labels[rows],
                              self._context.config.eval.min_positives)
    self._facts = {
        "studies": len(rows), "of": len(studies), "items": len(texts),
        "studies_without_items": sum(not len(o) for o in own),
        "patterns": int(patterns.max(initial=-1) + 1),
        "effective_rank_image": effective_rank(image, np.ones(len(image))),
        "effective_rank_text": effective_rank(text, _weights(own, len(text)))}
    self._say()
    return {
        "study_id": studies.study_id[rows],
        "patient_id": studies.patient_id[rows],
        "uniformity_image": closeness(
            image, [np.array([i]) for i in range(len(image))]),
        "uniformity_text": closeness(text, own),
        "silhouette": silhouettes(image, patterns),
        "pattern": patterns,
        "cluster": clusters(image, patterns, seed=seed),
    } | _paired(image, text, own)

  def _say(self):
    facts = self._facts
    if multihost.is_main() and (facts["studies_without_items"]
                                or facts["studies"] < facts["of"]):
      print(f"{self._context.name}: {facts['studies']} of {facts['of']} "
            f"studies, of which {facts['studies_without_items']} have no item "
            "and are left out of what concerns texts.")

  def meta(self) -> dict:
    """Sizes, and the effective ranks; None where one is undefined."""
    return {k: None if np.isnan(v) else v for k, v in self._facts.items()}

  def examples(self, table: Table) -> list[Example]:
    """Nothing to draw."""
    del table
    return []


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Numbers with an interval, then those without."""
  column = lambda c: np.asarray(table[c], float)
  known = table["pattern"] >= 0
  information = (
      sk.adjusted_mutual_info_score(table["pattern"][known],
                                    table["cluster"][known])
      if known.any() else np.nan)
  spread = measures.means(
      tuple(f"{name}/{c}" for c in _SPREADS),
      np.stack([column(c) for c in _SPREADS], 1))
  undefined = lambda x: np.nan if x is None else x
  return measures.join([
      measures.means(tuple(f"{name}/{c}" for c in _MEANS),
                     np.stack([column(c) for c in _MEANS], 1)),
      measures.Measures(
          names=spread.names, statistic=_log_of_pairs(spread.statistic),
          support=spread.support,
          fixed={f"{name}/adjusted_mutual_information": information}
          | {f"{name}/{c}": undefined(meta[c]) for c in _RANKS})])


def _log_of_pairs(means: Statistic) -> Statistic:
  """Log of means over pairs, from means over partners; see the head."""
  def statistic(counts):
    drawn = means(counts)
    whole = means(np.ones_like(counts[:1]))
    with np.errstate(invalid="ignore", divide="ignore"):
      return np.log(whole + 2 * (drawn - whole))
  return statistic


def closeness(
    x: np.ndarray,                # [U, E] unit norm
    own: Sequence[np.ndarray],    # of each study the rows of x that are its
) -> np.ndarray:                  # [n], NaN for a study without rows
  """Mean of exp(-2 |x - y|^2) over y of the other studies.

  Every other study weighs the same, and within a study every row. NaN also
  where no other study has rows.
  """
  kernel = lambda a, b: np.exp(2 * _SHARPNESS * (a @ b.T - 1))
  others = sum(len(o) > 0 for o in own) - 1
  if others < 1:
    return np.full(len(own), np.nan)
  weights = _weights(own, len(x))
  toward = np.concatenate([kernel(x[i:i + _BLOCK], x) @ weights
                           for i in range(0, len(x), _BLOCK)])
  return np.array([
      (toward[o].mean() - kernel(x[o], x[o]).mean()) / others
      if len(o) else np.nan for o in own])


def _weights(own: Sequence[np.ndarray], size: int) -> np.ndarray:
  """Weight [size] of each row, if that of every study that has some is 1."""
  return np.bincount(
      np.concatenate(own),
      np.concatenate([np.full(len(o), 1 / max(len(o), 1)) for o in own]), size)


def _paired(image, text, own) -> dict[str, np.ndarray]:
  """Columns [n] of what compares a study with its own items."""
  centre = np.stack([text[o].mean(0) if len(o) else
                     np.full(image.shape[1], np.nan) for o in own])
  away = image - centre
  gap = (np.nanmean(away, 0) if any(map(len, own))
         else np.zeros(image.shape[1]))
  # |v - t|^2 = 2 - 2 v . t, and the mean of the dot products is one.
  return {"alignment": 2 - 2 * (image * centre).sum(1),
          "modality_gap": away @ gap / max(np.linalg.norm(gap), 1e-30)}


def label_patterns(labels: np.ndarray, at_least: int) -> np.ndarray:
  """Number of each study's label pattern [n], -1 where it does not count.

  Args:
    labels: [n, F] in {-1, 0, 1}.
    at_least: studies of a pattern that counts; there are two or none.
  """
  patterns = np.full(len(labels), -1)
  known = np.flatnonzero((labels >= 0).all(1))
  _, which, count = np.unique(labels[known], axis=0, return_inverse=True,
                              return_counts=True)
  # A pattern of one study has no inside, whatever is asked for.
  common = np.flatnonzero(count >= max(at_least, 2))
  if len(common) < 2:
    return patterns
  place = np.full(len(count), -1)
  place[common] = np.arange(len(common))
  patterns[known] = place[which]
  return patterns


def silhouettes(image: np.ndarray, patterns: np.ndarray) -> np.ndarray:
  """Silhouette of each study [n] among those of some pattern, else NaN."""
  out, known = np.full(len(image), np.nan), patterns >= 0
  if known.any():
    out[known] = sk.silhouette_samples(image[known], patterns[known],
                                       metric="cosine")
  return out


def clusters(image: np.ndarray, patterns: np.ndarray, *, seed: int):
  """k-means cluster [n] of the studies of some pattern, else -1.

  There are as many clusters as patterns.
  """
  out, known = np.full(len(image), -1), patterns >= 0
  if known.any():
    out[known] = cluster.KMeans(
        int(patterns.max()) + 1, n_init=10, random_state=seed).fit_predict(
            image[known])
  return out


def effective_rank(x: np.ndarray, weights: np.ndarray) -> float:
  """Of the rows of x [U, E], weighed [U]; NaN where all are the same."""
  if len(x) < 2:
    return float("nan")
  weights = weights / weights.sum()
  centred = (x - weights @ x) * np.sqrt(weights)[:, None]
  size = np.sqrt(np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None))
  if size.sum() < 1e-9:  # of unit vectors: rounding
    return float("nan")
  share = size[size > 0] / size.sum()
  return float(np.exp(-(share * np.log(share)).sum()))


def _unit(x: np.ndarray) -> np.ndarray:
  """[n, E] float64 of unit norm."""
  x = x.astype(float)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)
