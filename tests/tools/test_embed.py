"""Features of one study and of a split are those of the model."""

import jax
import numpy as np
import pytest

from itemclip_jax.data import record
from itemclip_jax.tools import embed as embed_lib
from tests import tiny


@pytest.fixture(name="model", scope="module")
def _model(tiny_set, tmp_path_factory):
  return tiny.released(tiny.config(tiny_set), tmp_path_factory.mktemp("model"))


@pytest.fixture(name="split", scope="module")
def _split(model, tiny_set, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "test.npz"
  embed_lib.embed(model, tiny_set, out, split="test", texts=("Cyst.",))
  assert list(out.parent.iterdir()) == [out]  # nothing is left beside it
  return np.load(out)


def test_a_split_holds_every_study_in_record_order(split, tiny_set):
  index = record.open_split(tiny_set, "test").index
  np.testing.assert_array_equal(split["study_id"],
                                index["study_id"].astype(str))
  assert split["image"].shape == (10, 32) and split["text"].shape == (1, 32)
  assert np.ptp(split["image"], axis=0).max() > 0


def test_raw_files_record_and_split_have_the_same_vector(
    model, split, tiny_set, tmp_path):
  name = str(split["study_id"][3])
  raw = embed_lib.embed(model, tiny_set / "raw" / "test" / name,
                        tmp_path / "raw.npz")
  stored = embed_lib.embed(model, tiny_set, tmp_path / "record.npz",
                           record_name=f"test/{name}")
  order = [list(raw["series_names"]).index(n) for n in stored["series_names"]]
  np.testing.assert_allclose(raw["tokens"][order], stored["tokens"], atol=1e-5)
  np.testing.assert_allclose(raw["image"][0], split["image"][3], atol=1e-5)
  assert raw["study_id"] == [name] and not raw["texts"].size


def test_tokens_know_where_they_are(model, split, tiny_set, tmp_path):
  """The middle of the token grid is the middle of the stored volume."""
  name = str(split["study_id"][0])
  found = embed_lib.embed(model, tiny_set, tmp_path / "one.npz",
                          record_name=f"test/{name}")
  study = record.open_split(tiny_set, "test").study(0)
  S, d, h, w, _ = found["tokens"].shape
  assert (S, d, h, w) == (len(study["series_names"]), 2, 3, 3)
  middle = lambda sizes: np.array([*[(n - 1) / 2 for n in sizes], 1])
  for affine, stored in zip(found["token_affine"], study["affine"]):
    np.testing.assert_allclose(
        affine @ middle((d, h, w)), stored @ middle(study["volume"].shape[1:]),
        atol=1e-3)


def test_it_goes_on_where_it_was_killed(model, tiny_set, split, tmp_path,
                                        monkeypatch):
  out, calls = tmp_path / "killed.npz", []
  encode = embed_lib.features.Kept.add

  def add(self, *args):
    if calls:
      raise KeyboardInterrupt
    calls.append(args)
    encode(self, *args)

  monkeypatch.setattr(embed_lib.features.Kept, "add", add)
  with pytest.raises(KeyboardInterrupt):
    embed_lib.embed(model, tiny_set, out, split="test", batch=8)
  monkeypatch.setattr(embed_lib.features.Kept, "add", encode)
  again = embed_lib.embed(model, tiny_set, out, split="test", batch=8)
  np.testing.assert_allclose(again["image"], split["image"], atol=1e-5)


def test_what_does_not_fit_together_is_told(model, tiny_set, tmp_path):
  with pytest.raises(ValueError, match="must end in .npz"):
    embed_lib.embed(model, tiny_set, tmp_path / "x.csv", split="test")
  with pytest.raises(ValueError, match="leave one out"):
    embed_lib.embed(model, tiny_set, tmp_path / "x.npz", split="test",
                    record_name="test/a")
  with pytest.raises(ValueError, match="no split 'tset'"):
    embed_lib.embed(model, tiny_set, tmp_path / "x.npz", split="tset")
  assert jax.device_count() == 8  # the split above was spread over them
