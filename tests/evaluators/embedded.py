"""Studies, texts and a model of which only the vectors are given."""

import dataclasses
from types import SimpleNamespace

import numpy as np

from itemclip_jax.evaluators.scoring import Scores


@dataclasses.dataclass
class Studies:
  """`features.Studies` of such vectors.

  Attributes:
    image: [n, E] global vectors.
    labels: [n, F].
    findings: F names.
    texts: items of every study; none where it is left out.
    seen: [n, E] what a text finds in a study; the global vector if left out.
    patient_id: [n]; every study its own where it is left out.
  """
  image: np.ndarray
  labels: np.ndarray
  findings: tuple[str, ...]
  texts: tuple[tuple[str, ...], ...] = ()
  seen: np.ndarray | None = None
  patient_id: np.ndarray | None = None

  def __post_init__(self):
    n = len(self.image)
    self.study_id = np.array([f"study-{i}" for i in range(n)])
    self.texts = self.texts or ((),) * n
    if self.seen is None:
      self.seen = self.image
    if self.patient_id is None:
      self.patient_id = self.study_id

  def __len__(self):
    return len(self.image)

  def items(self, row):
    return self.texts[row]


class Scorer:
  """`scoring.Scorer` of texts whose vectors are given, by text."""

  def __init__(self, vectors: dict[str, np.ndarray]):
    self._vectors = vectors

  def texts(self, texts):
    return np.stack([self._vectors[t] for t in texts])

  def scores(self, studies, texts):
    if not isinstance(texts, np.ndarray):
      texts = self.texts(texts)
    return Scores(unit(studies.seen) @ unit(texts).T,
                  unit(studies.image) @ unit(texts).T)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def context(name: str, studies: Studies, scorer=None, *, options=None,
            combine="mean", other=None, root="", seed=0, min_positives=2):
  """`context.Context` of them."""
  return SimpleNamespace(
      config=SimpleNamespace(
          seed=seed, data=SimpleNamespace(root=root, train_split="train"),
          eval=SimpleNamespace(min_positives=min_positives)),
      name=name, scorer=scorer, studies=studies, other=other,
      spec=options and SimpleNamespace(options=options, combine=combine))


def values(found, counts: np.ndarray) -> dict[str, np.ndarray]:
  """Every number [R] of `measures.Measures`, by name."""
  return dict(zip(found.names, found.statistic(counts).T, strict=True))


def once(found, size: int) -> dict[str, float]:
  """The numbers of all rows, also those without an interval."""
  plain = values(found, np.ones((1, size), int))
  return {k: float(v[0]) for k, v in plain.items()} | found.fixed
