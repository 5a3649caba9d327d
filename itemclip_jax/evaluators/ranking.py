"""Ranks of right answers among all, without the matrix of all scores.

Images and texts are ranked for one another. Scores come in blocks of images
and are asked for twice: first for the scores of the right pairs, then to count
what is ahead of them. Both times the very same program must compute them: a
score of another program differs in its last digits, and would be unfairly
ahead of, or behind, scores that ought to be level with it.

Ranks count from 1. Of level scores a fair draw decides: with L wrong and m
right answers at the score of the best right one, and `ahead` in front of it,

    rank = 1 + ahead + L / (m + 1)

is what the draw gives on average (L / 2 for m = 1). So a model that answers
always the same has the mean rank of chance, not rank 1; and "among the first k"
it is only where this average is k at most, which is less than chance.

Two stages: the k answers with the best cosine are ordered by TCSim and stand
in front of all others, whose order remains that of the cosine. What is level
with the k-th cosine belongs to the first stage too. Where no right answer gets
there, the rank is the one by cosine alone.
"""

from collections.abc import Callable, Iterable
import dataclasses
from typing import NamedTuple

import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import bootstrap, measures

# Image numbers [b], TCSim [b, U], cosine [b, U] of U distinct texts.
Blocks = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Right:
  """The M pairs of n images and C answers that belong together.

  Every image and every answer is in at least one of them.

  Attributes:
    image: [M] int, ascending.
    column: [M] int, which of the C answers.
    text: [C] int, which of the U distinct texts an answer is; none is left out.
  """
  image: np.ndarray
  column: np.ndarray
  text: np.ndarray

  @property
  def num_images(self) -> int:
    """n."""
    return int(self.image[-1]) + 1

  def of(self, image: int) -> slice:
    """The pairs of one image."""
    return slice(*np.searchsorted(self.image, [image, image + 1]).tolist())


@dataclasses.dataclass(frozen=True)
class Ranks:
  """By one score: [n] float of every image, [C] float of every answer.

  Attributes:
    image: of an image's best right answer,
    worst: of its worst, of which its other right answers may be ahead,
    mean: and the mean over its right answers; both NaN for two stages.
    text: of an answer's best right image.
  """
  image: np.ndarray
  worst: np.ndarray
  mean: np.ndarray
  text: np.ndarray


def ranks(blocks: Callable[[], Blocks], right: Right, *, two_stage: int = 0
          ) -> dict[str, Ranks]:
  """Ranks "tcsim", "cosine" and, unless it is 0, "two_stage".

  Beside the blocks this holds 200 (n + M) bytes and, for two stages, 8 k more
  a distinct text: 15 and 40 MB for 5 000 images with 25 000 texts of their own
  and k = 128, blocks of 32 images included. The matrices would have 1 GB.

  Args:
    blocks: gives all n images once; is called twice.
    right: what belongs together.
    two_stage: k.

  Raises:
    UserError: a score is NaN, and so has no rank.
  """
  own, edges = _own(blocks(), right, two_stage)

  def sides(scores, image_edge, text_edge):
    """What images and what answers are ordered by, for every name."""
    out = {name: (values, values) for name, values in scores.items()}
    if two_stage:   # beyond the edge there is no TCSim
      out["two_stage"] = tuple(
          np.where(scores["cosine"] >= edge, scores["tcsim"], -np.inf)
          for edge in (image_edge, text_edge))
    return out

  pairs = sides(own, edges.image[right.image], edges.text[right.column])
  counts = {name: (_Images(right, image), _Texts(right, text))
            for name, (image, text) in pairs.items()}
  for image, row in _rows(blocks(), right):
    mine = right.of(image)
    for name, values in row.items():
      # Some devices add up in another order when asked again.
      values[right.column[mine]] = own[name][mine]
    for name, (by_image, by_text) in sides(
        row, edges.image[image], edges.text).items():
      counts[name][0].add(image, by_image)
      counts[name][1].add(by_text)
  out = {name: Ranks(*images.ranks(), texts.ranks())
         for name, (images, texts) in counts.items()}
  if two_stage:
    out["two_stage"] = _in_front(out["two_stage"], out["cosine"])
  return out


def rank_of(scores: np.ndarray, own: int) -> float:
  """Rank of one entry of [P] scores; a level one counts one half."""
  return float(1 + (scores > scores[own]).sum()
               + 0.5 * ((scores == scores[own]).sum() - 1))


def medians(names: tuple[str, ...], columns: np.ndarray) -> measures.Measures:
  """Medians over the defined rows of columns [N, M]; NaN = undefined.

  Of an even number of rows it is the mean of the middle two.
  """
  columns = np.asarray(columns, float)
  each = [_median(c) for c in columns.T]
  return measures.Measures(
      names=tuple(names), support=tuple((~np.isnan(columns)).sum(0).tolist()),
      statistic=lambda counts: np.stack([m(counts) for m in each], axis=1))


def _median(values: np.ndarray) -> bootstrap.Statistic:
  """One column [N] -> its median under counts [R, N], from one sort."""
  order = np.argsort(values, kind="stable")            # NaN comes last
  order = order[:(~np.isnan(values)).sum()]
  values = np.append(values[order], np.nan)

  def statistic(counts):
    upto = 2 * np.cumsum(counts[:, order], axis=1)
    total = upto[:, -1:] // 2
    # Where nothing is drawn, `high` is the NaN behind the last.
    low, high = (upto < total).sum(1), (upto <= total).sum(1)
    return (values[low] + values[high]) / 2
  return statistic


def _rows(blocks: Blocks, right: Right):
  """Yields each image and its scores by name, [C] each, one image a time."""
  for images, tcsim, cosine in blocks:
    for image, *scores in zip(images, tcsim, cosine):
      if any(np.isnan(s).any() for s in scores):
        raise UserError(
            f"Scores of study number {image} among those with text are NaN and "
            "cannot be ranked; look at its volume and at the checkpoint.")
      tcsim_row, cosine_row = (s[right.text] for s in scores)
      yield int(image), {"tcsim": tcsim_row, "cosine": cosine_row}


class _Edges(NamedTuple):
  """The k-th largest cosine among an image's answers, an answer's images."""
  image: np.ndarray   # [n], -inf where there are fewer than k
  text: np.ndarray    # [C]


def _own(blocks: Blocks, right: Right, k: int
         ) -> tuple[dict[str, np.ndarray], _Edges]:
  """Scores [M] of the right pairs by name, and the edges (-inf for k = 0)."""
  own = {name: np.empty(len(right.image), np.float32)
         for name in ("tcsim", "cosine")}
  C = len(right.text)
  edge = np.full(right.num_images, -np.inf, np.float32)
  # Answers of equal text share their scores, so one of each is enough.
  where = np.unique(right.text, return_index=True)[1]
  largest = _Largest(k, len(where)) if k else None
  for image, row in _rows(blocks, right):
    mine = right.of(image)
    for name, values in row.items():
      own[name][mine] = values[right.column[mine]]
    if k:
      largest.add(row["cosine"][where])
      if k < C:
        edge[image] = np.partition(row["cosine"], C - k)[C - k]
  return own, _Edges(edge, largest.edge()[right.text] if k
                     else np.full(C, -np.inf, np.float32))


class _Largest:
  """The k-th largest of every column of a stream of rows."""

  def __init__(self, k: int, width: int):
    # Negated, as a partition has the smallest in front; +inf is "none yet".
    self._kept = np.full((width, 2 * k), np.inf, np.float32)
    self._k = self._filled = k

  def add(self, row: np.ndarray):
    """Takes a row [width]."""
    self._kept[:, self._filled] = -row
    self._filled += 1
    if self._filled == 2 * self._k:
      self._shrink()

  def _shrink(self):
    # The rest stays until it is written over: it is not among the first k.
    self._kept.partition(self._k - 1, axis=1)
    self._filled = self._k

  def edge(self) -> np.ndarray:
    """[width], -inf where there were fewer than k rows."""
    self._shrink()
    return -self._kept[:, self._k - 1]


class _Texts:
  """Counts the images that are ahead of each answer's best right one."""

  def __init__(self, right: Right, own: np.ndarray):
    C = len(right.text)
    self._best = np.full(C, -np.inf, np.float32)
    np.maximum.at(self._best, right.column, own)
    self._own = np.bincount(right.column, own == self._best[right.column], C)
    self._ahead, self._level = np.zeros((2, C), np.int64)

  def add(self, values: np.ndarray):
    """Scores [C] of one image."""
    self._ahead += values > self._best
    self._level += values == self._best

  def ranks(self) -> np.ndarray:
    """[C], NaN where there is no score."""
    wrong = self._level - self._own
    rank = 1 + self._ahead + wrong / (self._own + 1)
    return np.where(np.isneginf(self._best), np.nan, rank)


class _Images:
  """Counts the answers that are ahead of each image's right ones."""

  def __init__(self, right: Right, own: np.ndarray):
    self._right, self._own = right, own
    self._ahead, self._level = np.zeros((2, len(own)), np.int64)

  def add(self, image: int, values: np.ndarray):
    """Scores [C] of one image."""
    mine = self._right.of(image)
    # One by one: NumPy counts a whole array ten times faster than an axis.
    for pair in range(mine.start, mine.stop):
      self._ahead[pair] = np.count_nonzero(values > self._own[pair])
      self._level[pair] = np.count_nonzero(values == self._own[pair])

  def ranks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best, worst and mean [n] of each image; NaN where there is no score."""
    number, n = self._right.image, self._right.num_images
    each = np.where(np.isneginf(self._own), np.nan,
                    self._ahead + (self._level + 1) / 2)
    mean = np.bincount(number, each, n) / np.bincount(number, minlength=n)
    score, ahead, wrong, own = self._at(np.maximum)
    best = 1 + ahead + wrong / (own + 1)
    best[np.isneginf(score)] = np.nan
    score, ahead, wrong, own = self._at(np.minimum)
    worst = ahead + own + wrong * own / (own + 1)
    worst[np.isneginf(score)] = np.nan
    return best, worst, mean

  def _at(self, extreme: np.ufunc) -> tuple[np.ndarray, ...]:
    """An extreme right score, what is ahead, and wrong and right level ones."""
    number, n = self._right.image, self._right.num_images
    score = extreme.reduceat(self._own, np.searchsorted(number, np.arange(n)))
    level = np.flatnonzero(self._own == score[number])
    first = level[np.searchsorted(number[level], np.arange(n))]
    own = np.bincount(number[level], minlength=n)
    return score, self._ahead[first], self._level[first] - own, own


def _in_front(staged: Ranks, cosine: Ranks) -> Ranks:
  """Ranks by cosine where no right answer is in the first stage."""
  none = np.full_like(staged.worst, np.nan)
  fill = lambda a, b: np.where(np.isnan(a), b, a)
  return Ranks(fill(staged.image, cosine.image), none, none,
               fill(staged.text, cosine.text))
