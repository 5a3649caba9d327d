"""Names of studies and patients stay outside of the data set."""

import json
import stat

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import privacy
from itemclip_jax.data import record

SECRETS = ("MRN-20931", "Mueller", "MRN-55120")


def _archive(archive):
  archive.add("MRN-20931", subid="Mueller")
  archive.add("MRN-55120", np.ones((8, 8, 4)))  # rejected
  archive.entries["train"]["MRN-20931"]["series"]["AX_T2"] = {}  # missing
  return archive


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_set_holds_no_name_by_default(archive, tmp_path):
  out = _archive(archive).build(tmp_path / "out", keep_ids=False)
  study = record.open_split(out, "train").study(0)
  texts = [study["study_id"], study["patient_id"], *study["source"]]
  for path in out.rglob("*"):
    texts.append(path.relative_to(out).as_posix())
    if path.suffix in (".json", ".jsonl", ".npz"):
      texts.append(path.read_bytes().decode("latin-1"))
  index = record.open_split(out, "train").index
  texts += [*index["study_id"], *index["patient_id"]]
  assert len(texts) > 12
  assert not [t for t in texts for secret in SECRETS if secret in t]
  assert study["source"] == [f"train/{study['study_id']}/AX_T1/img.nii.gz"]
  assert study["study_id"] != study["patient_id"]


def test_the_private_table_finds_a_rejected_study_again(archive, tmp_path):
  out = _archive(archive).build(tmp_path / "out", keep_ids=False)
  names = {l["study_id"]: l for l in _lines(tmp_path / "out.ids.jsonl")}
  told = {names[l["study"]]["study"]: l["reason"]
          for l in _lines(out / "ingest.jsonl")}
  assert told == {"MRN-20931": "the file is missing",
                  "MRN-55120": "no usable series (AX_T1: the volume is "
                               "constant)"}
  study = record.open_split(out, "train").study(0)
  row = names[study["study_id"]]
  assert row["patient"] == "Mueller"
  assert row["patient_id"] == study["patient_id"]


def test_salt_and_table_are_for_their_owner_only(archive, tmp_path):
  _archive(archive).build(tmp_path / "out", keep_ids=False)
  for name in ("out.salt", "out.ids.jsonl"):
    mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
    assert mode == 0o600, name


def test_one_salt_gives_the_same_hashes_and_another_gives_others(
    archive, tmp_path):
  ids = []
  for out, salt in (("a", "one"), ("b", "one"), ("c", "two")):
    _archive(archive) if not archive.entries else None
    built = archive.build(tmp_path / out, keep_ids=False,
                          salt=str(tmp_path / salt))
    ids.append(record.open_split(built, "train").study(0)["study_id"])
  assert ids[0] == ids[1] != ids[2]
  assert not (tmp_path / "a.salt").exists()


def test_names_are_kept_when_asked_for(archive, tmp_path):
  out = _archive(archive).build(tmp_path / "out", keep_ids=True)
  study = record.open_split(out, "train").study(0)
  assert (study["study_id"], study["patient_id"]) == ("MRN-20931", "Mueller")
  assert not (tmp_path / "out.salt").exists()
  assert not (tmp_path / "out.ids.jsonl").exists()


def test_a_salt_inside_of_the_set_is_refused(archive, tmp_path):
  with pytest.raises(errors.PrepareError, match="inside of the data set"):
    _archive(archive).build(tmp_path / "out", keep_ids=False,
                            salt=str(tmp_path / "out" / "salt"))


def test_a_salt_that_can_be_guessed_is_refused(archive, tmp_path):
  (tmp_path / "salt").write_text("pepper")
  with pytest.raises(errors.PrepareError, match="6 bytes, want at least 16"):
    _archive(archive).build(tmp_path / "out", keep_ids=False,
                            salt=str(tmp_path / "salt"))


def test_salt_and_kept_names_exclude_each_other(tmp_path):
  with pytest.raises(errors.PrepareError, match="leave one of them out"):
    datasets.make("studies", source=str(tmp_path), keep_ids=True, salt="x")


def test_a_hash_tells_nothing_without_its_salt():
  names = privacy.Pseudonyms(b"a" * 32)
  assert names("x") == names("x") != names("y")
  assert names("x") != privacy.Pseudonyms(b"b" * 32)("x")
  assert len(names("x")) == 32


def test_phantoms_keep_their_names(phantom):
  study = record.open_split(phantom, "test").study(0)
  assert study["study_id"] == "test-00000"
  assert study["source"][0].startswith("test/test-00000/")
