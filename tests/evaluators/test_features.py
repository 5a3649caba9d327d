"""Studies are encoded once, go on after an interruption, and do not mix."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from itemclip_jax.data import loader, record
from itemclip_jax.evaluators import features
from tests.evaluators.subject import Subject


@pytest.fixture(name="subject", scope="module")
def _subject(tiny_set, tmp_path_factory):
  return Subject(tiny_set, tmp_path_factory.mktemp("subject"))


@pytest.fixture(name="studies", scope="module")
def _studies(subject):
  return subject.studies()


def _everything(studies):
  return studies.features(np.arange(len(studies)))


def _assert_same(ours, theirs):
  for name, array in theirs.items():
    np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_labels_items_and_series_are_those_of_the_records(studies, tiny_set):
  split = record.open_split(tiny_set, "test")
  assert len(studies) == len(split.source) == 10
  for row in range(len(studies)):
    study = split.source[row]
    assert studies.items(row) == tuple(study["items"])
    assert studies.num_series[row] == len(study["series_names"])
    np.testing.assert_array_equal(studies.labels[row], study["labels"])


def test_features_are_those_of_the_tower(subject, studies):
  batch = next(loader.eval_batches(
      studies.split, studies.make_example, batch=4))
  out = subject.encoder.features(
      subject.params, batch["volume"], batch["series_mask"],
      batch["series_names"])
  kept = studies.features(np.arange(4))
  np.testing.assert_allclose(kept["image"], out.image, atol=1e-5)
  np.testing.assert_array_equal(kept["mask"], out.mask)
  np.testing.assert_allclose(
      kept["tokens"], np.where(kept["mask"][..., None], out.tokens, 0),
      atol=1e-5)


def test_the_batch_size_changes_nothing(subject, studies):
  other = subject.studies(batch=3, name="three")
  np.testing.assert_allclose(_everything(other)["tokens"],
                             _everything(studies)["tokens"], atol=1e-5)
  assert other.sha256 == studies.sha256


def test_a_second_look_encodes_nothing(subject, studies, monkeypatch):
  monkeypatch.setattr(subject.encoder.__class__, "features", None)
  _assert_same(_everything(subject.studies()), _everything(studies))


@pytest.mark.parametrize("torn", ["tokens-0.bin", "studies-0.jsonl"])
def test_an_interruption_loses_nothing(subject, torn):
  """Half a batch was written behind the first one when it was killed."""
  whole = subject.studies(batch=3, name="whole")
  (folder,) = (subject.folder / "whole").iterdir()
  for name in ("cut", "short"):
    copy = subject.folder / f"{name}{torn}" / folder.name
    shutil.copytree(folder, copy)
    done = json.loads((copy / "done-0.json").read_text())
    done["sizes"] = done["sizes"][:2]
    (copy / "done-0.json").write_text(json.dumps(done))
    if name == "short":      # what it says is whole was lost as well
      (copy / torn).write_bytes((copy / torn).read_bytes()[:7])
    again = subject.studies(batch=3, name=copy.parent.name)
    _assert_same(_everything(again), _everything(whole))
    assert again.texts == whole.texts


def test_a_set_that_was_built_again_is_encoded_again(subject, tiny_set,
                                                     tmp_path):
  shutil.copytree(tiny_set, tmp_path / "set")
  other = Subject(tmp_path / "set", tmp_path / "run")
  other.studies()
  (kept,) = (tmp_path / "run" / "kept").iterdir()
  shards = tmp_path / "set" / "studies"
  next(p for p in shards.rglob("*array_record*")).touch()
  other.studies()
  assert len(list((tmp_path / "run" / "kept").iterdir())) == 2
  assert kept.exists()


def test_one_id_for_two_studies_is_refused(subject, studies, monkeypatch):
  ids = studies.split.index["study_id"].copy()
  ids[4] = ids[2]
  twice = dataclasses.replace(
      studies.split, index=studies.split.index | {"study_id": ids})
  monkeypatch.setattr(record, "open_split", lambda *_, **__: twice)
  want = f"1 study ids stand for several records, such as {str(ids[2])!r}"
  with pytest.raises(ValueError, match=want):
    subject.studies(name="twice")


def test_a_full_disk_is_told_before_it_is_full(subject, monkeypatch):
  usage = shutil.disk_usage(subject.folder)._replace(free=1)
  monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage)
  with pytest.raises(ValueError, match="The encoded studies take .* GB and"):
    subject.studies(name="full")
