"""Voxels that are read late are those that are read at once."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import shards
from itemclip_jax.data import loader, record, shard, stored
from itemclip_jax.data.example import MakeExample
from itemclip_jax.data.view import View
from itemclip_jax.errors import UserError
from tests import tiny
from tests.data_pipelines import fake_set

WANTED = (12, 48, 48)                           # of the model
STORED = ((12, 48, 48), (30, 50, 60), (5, 48, 48), (14, 40, 99), (12, 64, 48))


@pytest.fixture(name="in_a_file", scope="module")
def _in_a_file(tmp_path_factory):
  """(voxels [S, D, H, W]) -> the same, unread: amid a file of blocks."""
  path = tmp_path_factory.mktemp("blocks") / "file"
  def write(voxels, begin=70_001):
    content = b"?" * begin + voxels.tobytes() + b"?" * 9
    path.write_bytes(b"".join(
        b"!" * 24 + content[at:at + 65_512]
        for at in range(0, len(content), 65_512)))
    return stored.Unread(stored.Place(str(path), begin, voxels.nbytes),
                         voxels.shape, voxels.dtype)
  return write


@st.composite
def views(draw):
  """Shape of what is stored, and a view of it."""
  have, want, offset = [], [], []
  for _ in range(3):
    have.append(draw(st.integers(1, 50)))
    want.append(draw(st.one_of(st.just(have[-1]), st.integers(1, 60))))
    slack = have[-1] - want[-1]
    offset.append(draw(st.integers(min(slack, 0), max(slack, 0))))
  flips = draw(st.tuples(*[st.booleans()] * 3))
  return tuple(have), View(tuple(want), offset, flips)


@hypothesis.given(views(), st.sampled_from(["uint8", "int16"]),
                  st.sampled_from([1, 5_000, 1 << 20]))
@hypothesis.settings(
    max_examples=150, deadline=None, suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture])
def test_a_view_of_a_file_is_that_of_the_array(
    monkeypatch, in_a_file, case, dtype, slab):
  monkeypatch.setattr(stored, "_SLAB", slab)
  have, view = case
  voxels = np.random.default_rng(0).integers(0, 99, (2, *have)).astype(dtype)
  unread = in_a_file(voxels)
  np.testing.assert_array_equal(np.asarray(unread), voxels)
  np.testing.assert_array_equal(unread[-1], voxels[-1])
  seen = view.stack(unread, 7)
  np.testing.assert_array_equal(seen, view.stack(voxels, 7))
  # And in NumPy's own words.
  offset = np.array(view.offset)
  padded = np.pad(voxels[0], [(60, 60)] * 3, constant_values=7)[
      tuple(slice(60 + o, 60 + o + n) for o, n in zip(offset, view.shape))]
  np.testing.assert_array_equal(
      seen[0], np.flip(padded, np.flatnonzero(view.flips)))


def test_what_does_not_fit_is_an_error(in_a_file):
  unread = in_a_file(np.zeros((1, 4, 5, 6), np.int16))[0]
  for out, start in ((np.zeros((4, 5, 6), np.uint8), (0, 0, 0)),
                     (np.zeros((4, 5, 6), np.int16), (1, 0, 0)),
                     (np.zeros((4, 4, 4), np.int16), (0, 0, 3))):
    with pytest.raises(ValueError, match="do not fill"):
      unread.read(out, start)
  with pytest.raises(ValueError, match="without a copy"):
    np.array(unread, copy=False)


def _studies(dtype):
  """Studies of one to three series, of sizes around the model's."""
  rng, made = np.random.default_rng(1), []
  for i, shape in enumerate(STORED):
    S = 1 + i % 3
    stack = rng.integers(0, 200, (S, *shape)).astype(dtype)
    made.append(fake_set.study(
        f"s{i}", volume=stack, series_names=["AX_T1"] * S,
        affine=np.repeat(fake_set.IPR[None], S, 0), orientation=["IPR"] * S,
        source_spacing_mm=np.ones((S, 3), np.float32), source=["-"] * S,
        lesion_mask=(stack % 3).astype(np.uint8).ravel(),
        item_visible=np.ones(2 * S, np.uint8),
        item_finding=np.array([0, 1], np.int32),
        organ_mask=(rng.random(shape) < 0.01).astype(np.uint8).ravel(),
        organ_texts=["Normal."], organ_normal=np.ones(1, np.uint8)))
  return made


@pytest.fixture(name="root", scope="module", params=["uint8", "int16"])
def _root(request, tmp_path_factory):
  kind = dict(fake_set.CT if request.param == "int16" else {}, shape=None)
  with shards.written("none"):
    return fake_set.build(
        tmp_path_factory.mktemp(request.param) / "set", contract=kind,
        features=record.features(np.dtype(request.param), ("organs",)),
        train=_studies(request.param))


@pytest.fixture(name="make")
def _make(root, monkeypatch):
  """(settings of data) -> an opened split, and what makes its examples."""
  monkeypatch.setattr(shard, "LARGE", 1 << 10)
  monkeypatch.setattr(stored, "_SLAB", 10_000)
  def make(**data):
    c = tiny.config(root, data={"max_series": 3} | data, vision={
        "volume_shape": WANTED}, train={"global_batch": len(STORED)})
    split = record.open_split(root, "train")
    tokenize = lambda texts: np.zeros((len(texts), 2), np.int32)
    return split, MakeExample(c, tokenize, split.contract.air)
  return make


def _known(split) -> list[bool]:
  """Of every record: a further visit would leave its volume unread."""
  return [isinstance(split.source.unread(i)["volume"], stored.Unread)
          for i in range(len(split.source))]


def _assert_same(ours, theirs):
  for a, b in zip(ours, theirs, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      assert a[name].dtype == b[name].dtype
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("data", [
    {}, {"crop": "random", "flip_rate": 0.5}, {"crop": "organ"},
    {"series_fill": "repeat", "num_threads": 1, "prefetch": 1}])
def test_later_visits_make_the_batches_of_the_first(make, data):
  split, example = make(**data)
  first = []
  for step in range(4):
    # Opened anew, every record is visited for the first time.
    fresh = make(**data)[0]
    first += loader.train_loader(fresh, example, steps=step + 1,
                                 first_step=step)
  for i in range(len(split.source)):
    split.study(i)
  assert all(_known(split))
  later = list(loader.train_loader(split, example, steps=4))
  _assert_same(later, first)
  assert later[0]["volume"].shape == (len(STORED), 3, *WANTED)


def test_later_evaluations_are_the_first(make):
  split, example = make()
  evaluate = lambda: list(loader.eval_batches(split, example, batch=2))
  first = evaluate()
  assert "lesion_mask" in first[0]
  assert all(_known(split))
  _assert_same(evaluate(), first)


def test_whoever_indexes_the_source_gets_arrays(make):
  split, _ = make()
  first, later = ([split.source[i] for i in range(len(split.source))]
                  for _ in range(2))
  assert all(_known(split))
  for a, b in zip(first, later):
    assert type(b["volume"]) is np.ndarray
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_what_is_cut_short_under_a_loader_is_told(make, root):
  split, example = make()
  for i in range(len(split.source)):
    split.study(i)
  paths = sorted(root.rglob("*array_record*"))
  kept = [path.read_bytes() for path in paths]
  try:
    for path, content in zip(paths, kept):
      path.write_bytes(content[:1000])
    with pytest.raises(UserError, match="cut short. Delete the set and build"):
      next(loader.train_loader(split, example, steps=1))
    for path in paths:
      path.unlink()
    with pytest.raises(FileNotFoundError):
      next(loader.train_loader(split, example, steps=1))
  finally:
    for path, content in zip(paths, kept):
      path.write_bytes(content)
