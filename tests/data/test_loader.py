"""Batches are a pure function of the step, whoever loads them."""

import collections
import tracemalloc

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from itemclip_jax.data import loader, record, tokens
from itemclip_jax.data.example import MakeExample
from itemclip_jax.errors import UserError
from tests import tiny

COUNTS = st.lists(st.integers(1, 9), min_size=4, max_size=40)
STEPS = 7  # of batches of 8 over 24 studies: into the third epoch


@st.composite
def orders(draw):
  """A random split that is large enough, and settings for it."""
  counts = draw(COUNTS)
  buckets = tuple(sorted(draw(st.sets(st.integers(1, 9), min_size=1,
                                      max_size=3))))
  members = collections.Counter(
      min((b for b in buckets if b >= n), default=buckets[-1]) for n in counts)
  batch = draw(st.integers(1, max(members.values())))
  return loader.Order(tuple(counts), batch, buckets, draw(st.integers(0, 99)))


@given(orders(), st.integers(0, 3))
@settings(max_examples=60)
def test_an_epoch_is_a_permutation_within_its_buckets(order, number):
  records, series = order.epoch(number)
  assert records.shape == (order.batches_per_epoch, order.global_batch)
  assert len(np.unique(records)) == records.size
  smaller = dict(zip(order.buckets, (0, *order.buckets)))
  left = collections.Counter()
  for batch, size in zip(records, series):
    counts = np.minimum(np.array(order.num_series)[batch], order.buckets[-1])
    assert (counts <= size).all() and (counts > smaller[size]).all()
    left[size] += order.global_batch
  for low, high in zip((0, *order.buckets), order.buckets):
    counts = np.minimum(order.num_series, order.buckets[-1])
    have = int(((counts > low) & (counts <= high)).sum())
    assert 0 <= have - left[high] < order.global_batch


@given(orders(), st.integers(0, 20))
@settings(max_examples=30)
def test_a_batch_follows_from_the_step_alone(order, step):
  again = loader.Order(order.num_series, order.global_batch, order.buckets,
                       order.seed)
  for a, b in zip(order.batch(step), again.batch(step)):
    np.testing.assert_array_equal(a, b)
  assert order.batch(step)[2] == step // order.batches_per_epoch


def test_epochs_and_seeds_differ():
  make = lambda seed: loader.Order((1,) * 32, 8, (1,), seed)
  first, second = make(0).epoch(0)[0], make(0).epoch(1)[0]
  assert (first != second).any() and (first != make(1).epoch(0)[0]).any()


def test_a_split_smaller_than_a_batch_is_told():
  with pytest.raises(ValueError, match=(
      r"has 5 studies, in buckets of \[3, 2\]; train.global_batch = 4 ")):
    loader.Order((1, 2, 2, 3, 5), 4, (2, 5), 0)


def _make_example(root, vocabulary, **changes):
  c = tiny.config(root, **changes)
  return MakeExample(c, tokens.Tokenizer(
      vocabulary, max_tokens=c.text.max_tokens, vocab_size=c.text.vocab_size))


@pytest.fixture(name="split", scope="module")
def _split(tiny_set):
  return record.open_split(tiny_set, "train", ground_truth=False)


@pytest.fixture(name="make", scope="module")
def _make(tiny_set, tmp_path_factory):
  path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
  tokens.train_vocabulary(record.read_items(tiny_set, "train"), path, 512)
  return lambda **changes: _make_example(tiny_set, path, **changes)


@pytest.fixture(name="batches", scope="module")
def _batches(split, make):
  return list(loader.train_loader(split, make(), steps=STEPS))


def _assert_equal(ours: dict, theirs: dict):
  assert ours.keys() == theirs.keys()
  for name in ours:
    np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_batch_has_the_shapes_of_the_contract(batches, make):
  c = make().config
  assert len(batches) == STEPS
  x = batches[0]
  assert x["volume"].shape == (8, 5, *c.vision.volume_shape)
  assert x["volume"].dtype == np.uint8
  assert x["item_tokens"].shape == (8, c.text.max_items, c.text.max_tokens)
  assert x["item_mask"].any(1).all() and x["example_mask"].all()
  padded = ~x["series_mask"]
  assert padded.any() and not x["volume"][padded].any()
  assert not x["series_names"][padded].any()


@pytest.mark.parametrize("processes", [2, 4])
def test_rows_of_processes_join_to_the_batch_of_one(
    batches, split, make, processes):
  parts = [loader.train_loader(split, make(), steps=STEPS, process=p,
                               num_processes=processes)
           for p in range(processes)]
  for whole, *rows in zip(batches, *parts):
    _assert_equal({k: np.concatenate([r[k] for r in rows]) for k in whole},
                  whole)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_number_of_threads_changes_no_draw(
    batches, split, make, threads):
  other = make(data={"num_threads": threads, "prefetch": 4})
  for ours, theirs in zip(
      loader.train_loader(split, other, steps=STEPS), batches):
    _assert_equal(ours, theirs)


def test_starting_at_a_step_continues_with_its_batch(batches, split, make):
  it = loader.train_loader(split, make(), steps=STEPS, first_step=4)
  for ours, theirs in zip(it, batches[4:], strict=True):
    _assert_equal(ours, theirs)


def test_series_and_items_are_drawn_anew_in_every_epoch(split, make):
  example = make()
  study = split.source[int(np.argmax(split.index["num_items"]))]
  draws = [example(study, 5, np.random.default_rng([0, epoch, 0]))
           for epoch in range(8)]
  for name in ("series_names", "item_tokens"):
    assert len({d[name].tobytes() for d in draws}) > 1


def test_each_bucket_has_its_own_number_of_series(split, make):
  example = make(data={"series_buckets": (3, 5)}, train={"global_batch": 4})
  shapes = set()
  for x in loader.train_loader(split, example, steps=6):
    shapes.add(x["volume"].shape[1])
    real = x["series_mask"].sum(1)
    assert (real <= 3).all() if x["volume"].shape[1] == 3 else (real > 3).all()
  assert shapes <= {3, 5}


@pytest.mark.parametrize("batch, processes", [(4, 1), (8, 1), (4, 2)])
def test_evaluation_meets_every_study_once(tiny_set, make, batch, processes):
  split = record.open_split(tiny_set, "test")
  seen, steps = [], set()
  for process in range(processes):
    batches = list(loader.eval_batches(
        split, make(), batch=batch, process=process, num_processes=processes))
    steps.add(len(batches))
    for x in batches:
      assert len(x["record"]) == batch // processes
      seen += x["record"][x["example_mask"]].tolist()
  assert sorted(seen) == list(range(len(split.source)))
  assert len(steps) == 1  # all processes take the same number of steps


def test_rows_of_processes_join_to_the_evaluation_of_one(tiny_set, make):
  split = record.open_split(tiny_set, "test")  # 10 studies: 4, 4 and 2
  parts = [loader.eval_batches(split, make(), batch=4, process=p,
                               num_processes=2) for p in range(2)]
  for whole, *rows in zip(loader.eval_batches(split, make(), batch=4), *parts,
                          strict=True):
    _assert_equal({k: np.concatenate([r[k] for r in rows]) for k in whole},
                  whole)


def test_series_may_be_repeated_instead_of_padded(split, make):
  study = split.study(0)
  x = make(data={"series_fill": "repeat"})(study, 8)
  n = len(study["volume"])
  assert n < 8 and x["series_mask"].all()
  np.testing.assert_array_equal(
      x["volume"], study["volume"][np.arange(8) % n])


def test_evaluation_draws_nothing_and_brings_the_ground_truth(tiny_set, make):
  split = record.open_split(tiny_set, "test")
  x = next(loader.eval_batches(split, make(), batch=4))
  for i in range(4):
    study = split.source[i]
    S, K = len(study["volume"]), min(len(study["items"]), 4)
    np.testing.assert_array_equal(x["volume"][i, :S], study["volume"])
    np.testing.assert_array_equal(x["labels"][i], study["labels"])
    np.testing.assert_array_equal(x["item_visible"][i, :K, :S],
                                  study["item_visible"][:K])
    assert not x["item_visible"][i, :, S:].any()
    assert (x["item_finding"][i, K:] == -1).all()


@pytest.mark.parametrize("shape", [(24, 64, 64), (48, 128, 64)])
@pytest.mark.parametrize("prefetch", [1, 6])
def test_memory_is_that_of_what_is_ahead(make, shape, prefetch):
  class Studies:
    """60 studies of one series, each made when it is asked for."""
    index = {"num_series": np.ones(60, int), "expert": np.zeros(60, bool)}

    def study(self, number):
      return {"study_id": str(number), "series_names": ["AX_T1"],
              "volume": np.full((1, *shape), number, np.uint8),
              "items": ["Mass."], "normal": False}

  example = make(data={"num_threads": 1, "prefetch": prefetch, "max_series": 1},
                 train={"global_batch": 4}, vision={"volume_shape": shape})
  size = int(np.prod(shape))
  batches = loader.train_loader(Studies(), example, steps=15)
  tracemalloc.start()
  for _ in batches:
    pass
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # The last batch, this one, those of what is ahead; a study being made.
  assert peak < ((2 + -(-prefetch // 4)) * 4 + 1) * size + 300_000


def test_studies_of_a_batch_that_differ_are_told():
  rows = [{"x": np.zeros(3)}, {"x": np.zeros(3), "heatmap": np.zeros(3)}]
  with pytest.raises(UserError, match="have heatmap and some have not; build"):
    loader._joined(iter(rows), 2)


def test_volumes_that_do_not_fit_are_no_batch():
  volumes = loader._Volumes(2)
  volumes.row(6, (1, 3), np.dtype(np.uint8))[:] = 1
  volumes.row(7, (1, 3), np.dtype(np.uint8))[:] = 2
  for shape, dtype in (((1, 2), np.uint8), ((1, 3), np.int16)):
    with pytest.raises(ValueError, match="in a batch of"):
      volumes.row(7, shape, np.dtype(dtype))
  np.testing.assert_array_equal(volumes.pop(3), [[[1] * 3], [[2] * 3]])


def test_arrays_that_do_not_fit_are_no_batch():
  for other in (np.zeros((1, 3)), np.zeros((2, 1)), np.zeros((2, 3), int)):
    rows = [{"x": np.zeros((2, 3))}, {"x": other}]
    with pytest.raises((ValueError, TypeError)):
      loader._joined(iter(rows), 2)
