"""Ranks in blocks against the full matrix, sorted."""

import itertools
import tracemalloc

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import ranking


def _case(num_images=13, most=4, seed=0):
  """Scores [n, C] of two kinds and whose the C answers are."""
  rng = np.random.default_rng(seed)
  owner = np.repeat(np.arange(num_images),
                    rng.integers(1, most + 1, num_images))
  scores = rng.normal(size=(2, num_images, len(owner))).astype(np.float32)
  return owner, scores


def _right(owner):
  each = np.arange(len(owner))
  return ranking.Right(image=owner, column=each, text=each)


def _blocks(scores, size=5, order=None):
  order = np.arange(scores.shape[1]) if order is None else order
  return lambda: ((order[i:i + size], *scores[:, order[i:i + size]])
                  for i in range(0, len(order), size))


def _assert_equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name, by in ours.items():
    for field, values in vars(by).items():
      np.testing.assert_allclose(values, getattr(theirs[name], field),
                                 rtol=1e-12, err_msg=f"{name}.{field}")


def _places(scores, right):
  """Places from 1 of the right ones, in scores without ties."""
  order = np.argsort(-scores, kind="stable")
  return 1 + np.flatnonzero(np.isin(order, right))


def _staged(tcsim, cosine, k):
  """One score whose order is that of the two stages."""
  first = np.argsort(-cosine, kind="stable")[:k]
  out = cosine - 100
  out[first] = tcsim[first]
  return out


def _brute_force(owner, scores, k):
  columns = [np.flatnonzero(owner == i) for i in range(scores.shape[1])]
  score = {"tcsim": lambda t, c: t, "cosine": lambda t, c: c,
           "two_stage": lambda t, c: _staged(t, c, k)}
  none = np.full(len(columns), np.nan)
  out = {}
  for name, of in score.items():
    images = [_places(of(*scores[:, i]), c) for i, c in enumerate(columns)]
    texts = [_places(of(*scores[:, :, p]), [o])[0] for p, o in enumerate(owner)]
    out[name] = ranking.Ranks(
        image=np.array([p[0] for p in images]),
        worst=none if k and name == "two_stage" else np.array(
            [p[-1] for p in images]),
        mean=none if k and name == "two_stage" else np.array(
            [p.mean() for p in images]),
        text=np.array(texts))
  return out


@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_equals_sorting_the_matrix(size, k):
  owner, scores = _case()
  ours = ranking.ranks(_blocks(scores, size), _right(owner), two_stage=k)
  _assert_equal(ours, _brute_force(owner, scores, k))


def test_without_stages_there_are_none():
  owner, scores = _case()
  assert set(ranking.ranks(_blocks(scores), _right(owner))) == {
      "tcsim", "cosine"}


def test_the_order_of_images_changes_nothing():
  owner, scores = _case()
  order = np.random.default_rng(1).permutation(scores.shape[1])
  _assert_equal(
      ranking.ranks(_blocks(scores, 4, order), _right(owner), two_stage=3),
      ranking.ranks(_blocks(scores), _right(owner), two_stage=3))


def _expected_places(scores, right):
  """Mean sorted places of the right ones over all ways to break ties."""
  places = []
  for tie_break in itertools.permutations(range(len(scores))):
    order = np.lexsort((tie_break, -scores))
    places.append(1 + np.flatnonzero(np.isin(order, right)))
  return np.mean(places, axis=0)


def test_level_scores_have_the_mean_rank_of_a_fair_draw():
  rng = np.random.default_rng(2)
  owner = np.array([0, 0, 1, 2, 2, 2])
  for _ in range(5):
    scores = rng.integers(0, 3, (2, 3, 6)).astype(np.float32)
    by = ranking.ranks(_blocks(scores), _right(owner))["cosine"]
    for i in range(3):
      want = _expected_places(scores[1, i], np.flatnonzero(owner == i))
      np.testing.assert_allclose(
          [by.image[i], by.mean[i], by.worst[i]],
          [want[0], want.mean(), want[-1]], rtol=1e-12)
    for p, o in enumerate(owner):
      np.testing.assert_allclose(
          by.text[p], _expected_places(scores[1, :, p], [o])[0], rtol=1e-12)


def test_a_model_without_preference_ranks_by_chance():
  owner = np.array([0, 0, 1, 2, 2, 2])
  scores = np.full((2, 3, 6), 0.25, np.float32)
  for by in ranking.ranks(
      _blocks(scores), _right(owner), two_stage=2).values():
    np.testing.assert_allclose(by.image, [7 / 3, 7 / 2, 7 / 4])
    np.testing.assert_allclose(by.text, 2.0)


def test_one_image_with_all_texts():
  scores = np.random.default_rng(0).normal(size=(2, 1, 6)).astype(np.float32)
  by = ranking.ranks(_blocks(scores), _right(np.zeros(6, int)))["tcsim"]
  assert (by.image, by.worst, by.mean) == (1, 6, 3.5)
  np.testing.assert_array_equal(by.text, 1.0)


def test_two_stages_by_hand():
  """Text 0 is third by cosine, so TCSim puts it first only where k = 3."""
  cosine = [[0.7, 0, 0, 0], [0.9, 1, 0, 0], [0.8, 0, 1, 0], [0.1, 0, 0, 1]]
  tcsim = [[0.9, 0, 0, 0], [0.1, 1, 0, 0], [0.2, 0, 1, 0], [1.0, 0, 0, 1]]
  scores = np.array([tcsim, cosine], np.float32)
  rank = lambda k: ranking.ranks(
      _blocks(scores), _right(np.arange(4)), two_stage=k)["two_stage"].text[0]
  assert [rank(k) for k in (2, 3, 4)] == [3, 1, 2]


def test_equal_texts_share_a_score_and_several_images_may_be_right():
  # Texts a, b; images have (a), (a, b), (b).
  scores = np.array([[[0.9, 0.1], [0.5, 0.6], [0.7, 0.2]]] * 2, np.float32)
  own = ranking.Right(image=np.array([0, 1, 1, 2]), column=np.arange(4),
                      text=np.array([0, 0, 1, 1]))
  by = ranking.ranks(_blocks(scores), own)["tcsim"]
  np.testing.assert_array_equal(by.text, [1, 3, 1, 2])
  # Of the level copies of a text only one's own is right.
  np.testing.assert_array_equal(by.image, [1.5, 1.5, 3.5])
  match = ranking.Right(image=np.array([0, 1, 1, 2]),
                        column=np.array([0, 0, 1, 1]), text=np.arange(2))
  by = ranking.ranks(_blocks(scores), match)["tcsim"]
  np.testing.assert_array_equal(by.text, [1, 1])
  np.testing.assert_array_equal(by.image, [1, 1, 2])
  np.testing.assert_array_equal(by.worst, [1, 2, 2])


def test_nan_has_no_rank():
  owner, scores = _case()
  scores[0, 7, 2] = np.nan
  with pytest.raises(UserError, match="number 7 .* NaN"):
    ranking.ranks(_blocks(scores), _right(owner))


@pytest.mark.parametrize("k", [0, 32])
def test_memory_is_bounded(k):
  """The stated bound; the two matrices would take 80 MB."""
  num_images, num_texts, width, size = 2_000, 5_000, 4, 16
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, num_images, width)).astype(np.float32)
  texts = rng.normal(size=(num_texts, width)).astype(np.float32)
  right = _right(np.sort(np.arange(num_texts) % num_images))

  def blocks():
    for i in range(0, num_images, size):
      yield np.arange(num_images)[i:i + size], *(images[:, i:i + size]
                                                 @ texts.T)

  tracemalloc.start()
  out = ranking.ranks(blocks, right, two_stage=k)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  two_blocks = 2 * 2 * 4 * size * num_texts       # one of each kind, twice
  assert peak < 200 * (num_images + num_texts) + 8 * k * num_texts + two_blocks
  assert out["tcsim"].text.mean() == pytest.approx(num_images / 2, rel=0.1)


def test_rank_of_one():
  scores = np.array([3.0, 1.0, 2.0, 2.0, 2.0])
  assert [ranking.rank_of(scores, i) for i in range(5)] == [1, 5, 3, 3, 3]


def test_medians_equal_repeated_rows():
  rng = np.random.default_rng(0)
  columns = rng.integers(0, 9, (12, 3)).astype(float)
  columns[:4, 1] = np.nan
  columns[:, 2] = np.nan
  counts = rng.integers(0, 4, (40, 12))
  counts[0], counts[1, 4:] = 1, 0
  found = ranking.medians(("a", "b", "c"), columns)
  assert found.support == (12, 8, 0)
  got = found.statistic(counts)
  for r, count in enumerate(counts):
    for c in range(3):
      drawn = np.repeat(columns[:, c], count)
      drawn = drawn[~np.isnan(drawn)]
      want = np.median(drawn) if len(drawn) else np.nan
      np.testing.assert_equal(got[r, c], want)
