"""Geometry of embeddings against plain loops and against known shapes."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.evaluators import embedding_quality as quality
from tests.evaluators import embedded

UNIT = embedded.unit


def _studies(size=24, seed=0, width=5):
  """0 to 3 items a study, from few texts, so that many are equal."""
  rng = np.random.default_rng(seed)
  vectors = {f"text {i}": rng.normal(size=width) for i in range(9)}
  texts = tuple(tuple(rng.choice(list(vectors), rng.integers(1, 4)))
                for _ in range(size - 2)) + ((), ("text 0", "text 0"))
  labels = rng.integers(0, 2, (size, 2))
  labels[0, 1] = -1
  return embedded.Studies(
      1 + rng.normal(size=(size, width)), labels, ("a", "b"), texts,
      patient_id=np.repeat(np.arange(size // 2), 2).astype(str)), vectors


def _measured(studies, vectors, **changes):
  evaluator = quality.Evaluator(embedded.context(
      "q", studies, embedded.Scorer(vectors), **changes))
  table = evaluator.collect()
  meta = json.loads(json.dumps(evaluator.meta()))
  return quality.measure("q", table, meta), table, meta


def _uniformity(groups):
  """Log of the mean over pairs of groups of the mean over pairs of vectors."""
  pairs = [np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for x in a for y in b])
           for i, a in enumerate(groups) for j, b in enumerate(groups)
           if i != j]
  return np.log(np.mean(pairs))


def test_numbers_agree_with_plain_loops():
  studies, vectors = _studies()
  image = UNIT(studies.image)
  texts = [[UNIT(vectors[t]) for t in own] for own in studies.texts]
  having = [i for i, own in enumerate(texts) if own]
  got = embedded.once(_measured(studies, vectors)[0], len(studies))
  assert got["q/alignment"] == pytest.approx(np.mean(
      [np.mean([np.sum((image[i] - t) ** 2) for t in texts[i]])
       for i in having]))
  assert got["q/uniformity_image"] == pytest.approx(
      _uniformity([[v] for v in image]))
  assert got["q/uniformity_text"] == pytest.approx(
      _uniformity([texts[i] for i in having]))
  centre = np.mean([np.mean(texts[i], 0) for i in having], 0)
  assert got["q/modality_gap"] == pytest.approx(
      np.linalg.norm(image[having].mean(0) - centre))
  pattern = [f"{a}{b}" for a, b in studies.labels[1:]]
  assert got["q/silhouette"] == pytest.approx(
      sk.silhouette_score(image[1:], pattern, metric="cosine"))
  size = np.linalg.svd(image - image.mean(0), compute_uv=False)
  size /= size.sum()
  assert got["q/effective_rank_image"] == pytest.approx(
      np.prod(size ** -size))


def test_every_study_weighs_the_same_in_the_rank_of_texts():
  rng = np.random.default_rng(0)
  x, own = rng.normal(size=(4, 3)), [[0, 1], [2], [2, 3], []]
  rows = x[[0, 1, 2, 2, 2, 3]]         # each study twice
  centred = rows - rows.mean(0)
  size = np.linalg.svd(centred, compute_uv=False)
  size /= size.sum()
  weights = quality._weights([np.array(o, int) for o in own], 4)
  np.testing.assert_allclose(weights, [0.5, 0.5, 1.5, 0.5])
  assert quality.effective_rank(x, weights) == pytest.approx(
      np.prod(size ** -size))


def test_known_shapes():
  every = lambda n: [np.array([i]) for i in range(n)]
  same = np.tile([[1.0, 0.0]], (4, 1))
  assert np.log(quality.closeness(same, every(4)).mean()) == 0
  assert np.isnan(quality.effective_rank(same, np.ones(4)))
  opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])    # |x - y|^2 = 4
  assert np.log(quality.closeness(opposite, every(2)).mean()) == (
      pytest.approx(-8))
  assert quality.effective_rank(opposite, np.ones(2)) == pytest.approx(1)
  corners = np.concatenate([np.eye(6), -np.eye(6)])
  assert quality.effective_rank(corners, np.ones(12)) == pytest.approx(6)


def test_separate_classes_are_found():
  rng = np.random.default_rng(0)
  labels = np.repeat([[1, 0], [0, 1], [0, 0]], 10, axis=0)
  image = np.eye(3)[[0, 1, 2]].repeat(10, 0) + 0.01 * rng.normal(size=(30, 3))
  got = embedded.once(_measured(
      embedded.Studies(image, labels, ("a", "b")), {})[0], 30)
  assert got["q/adjusted_mutual_information"] == pytest.approx(1)
  assert got["q/silhouette"] > 0.95
  mixed = embedded.Studies(image, rng.permutation(labels), ("a", "b"))
  got = embedded.once(_measured(mixed, {})[0], 30)
  assert abs(got["q/adjusted_mutual_information"]) < 0.3
  assert got["q/silhouette"] < 0.1
  # Without items there is nothing to say of texts.
  for name in ("alignment", "modality_gap", "uniformity_text",
               "effective_rank_text"):
    assert np.isnan(got[f"q/{name}"]), name


def test_patterns_are_common_and_known():
  labels = np.array([[0, 1]] * 3 + [[1, 1]] * 3 + [[0, 0]] * 2 + [[-1, 1]] * 3)
  np.testing.assert_array_equal(
      quality.label_patterns(labels, 3), [0] * 3 + [1] * 3 + [-1] * 5)
  np.testing.assert_array_equal(
      quality.label_patterns(labels, 1), [1] * 3 + [2] * 3 + [0] * 2 + [-1] * 3)
  assert (quality.label_patterns(labels, 4) == -1).all()
  alone = np.array([[0, 1]] * 2 + [[1, 0]])
  assert (quality.label_patterns(alone, 1) == -1).all()
  assert (quality.label_patterns(np.zeros((5, 0), int), 1) == -1).all()


def test_without_patterns_clusters_are_undefined():
  studies, vectors = _studies()
  got = embedded.once(_measured(studies, vectors, min_positives=100)[0],
                      len(studies))
  assert np.isnan(got["q/silhouette"])
  assert np.isnan(got["q/adjusted_mutual_information"])
  assert np.isfinite(got["q/alignment"])


def test_intervals_of_pairs_are_those_of_drawing_again():
  """The first term of Hoeffding's decomposition against the whole thing."""
  rng = np.random.default_rng(0)
  image = UNIT(rng.normal(size=(300, 3)) + [1, 0, 0])
  studies = embedded.Studies(image, np.zeros((300, 0), int), ())
  found, _, _ = _measured(studies, {})
  counts = rng.multinomial(300, np.full(300, 1 / 300), 400)
  got = embedded.values(found, counts)["q/uniformity_image"]
  kernel = np.exp(4 * (image @ image.T - 1))
  np.fill_diagonal(kernel, 0)           # a study drawn twice is no pair
  pairs = counts.sum(1) ** 2 - (counts ** 2).sum(1)
  want = np.log((counts @ kernel * counts).sum(1) / pairs)
  # What is left of the decomposition is of the order 1 / n.
  assert got.std() == pytest.approx(want.std(), rel=0.1)
  assert np.corrcoef(got, want)[0, 1] > 0.98


def test_many_studies_are_sampled_by_the_seed(monkeypatch, capsys):
  studies, vectors = _studies()
  monkeypatch.setattr(quality, "MOST", 10)
  rows = lambda seed: _measured(studies, vectors, seed=seed)[1]["study_id"]
  assert len(set(rows(0))) == 10
  assert "10 of 24 studies" in capsys.readouterr().out
  assert rows(0).tolist() == rows(0).tolist() != rows(1).tolist()
  meta = _measured(studies, vectors)[2]
  assert meta["studies"] == 10 and meta["of"] == 24


def test_blocks_change_nothing(monkeypatch):
  studies, vectors = _studies()
  want = _measured(studies, vectors)[1]["uniformity_text"]
  monkeypatch.setattr(quality, "_BLOCK", 4)
  np.testing.assert_allclose(
      _measured(studies, vectors)[1]["uniformity_text"], want, rtol=1e-12)
