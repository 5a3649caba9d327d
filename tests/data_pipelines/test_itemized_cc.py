"""Tar shards and their items -> records -> batches."""

import io
import json
import tarfile

import pytest

from data_pipelines.datasets import itemized_cc
from data_pipelines.errors import PrepareError
from tests.data_pipelines import picture_files as files

ITEMS = "first_300000_rewrites.json"


def _shard(path, samples):
  """Writes {key: {ending: bytes}} as WebDataset does."""
  path.parent.mkdir(exist_ok=True)
  with tarfile.open(path, "w") as tar:
    for key, members in samples.items():
      for ending, content in members.items():
        info = tarfile.TarInfo(f"{key}.{ending}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
  return path


def _sample(n, **sidecar):
  return {"jpg": files.encoded(n), "json": json.dumps(
      {"key": n, "raw_caption": "raw"} | sidecar).encode(),
          "txt": b"raw"}


def _archive(root, items, shards):
  for name, samples in shards.items():
    _shard(root / f"{name}.tar", samples)
  (root / ITEMS).write_text(json.dumps(items))
  return root


@pytest.mark.parametrize("key, number", [
    ("000000000", "0"), ("000004999", "4999"), ("000010000", "5000"),
    ("000014999", "9999"), ("000020001", "10001"), ("abc", None)])
def test_numbers_of_keys_leave_no_gap_between_blocks(key, number):
  assert itemized_cc.number_of(key) == number


def test_from_the_archive_to_batches(tmp_path):
  root = _archive(
      tmp_path / "cc", {"0": ["a dog", "a ball"], "5001": ["a cat"]}, {
          "00000": {"000000000": _sample(0),
                    "000000001": _sample(1, shortIB_captions="a short one")},
          "00001": {"000010001": _sample(2),
                    "000010002": _sample(3, shortIB_captions=["x", "y"])}})
  out = files.build(tmp_path / "out", "itemized_cc", source=str(root))
  train = files.studies(out, "train")
  assert {name: study["items"] for name, study in train.items()} == {
      "000000000": ["a dog", "a ball"], "000000001": ["a short one"],
      "000010001": ["a cat"], "000010002": ["x", "y"]}
  assert train["000010001"]["image"].tobytes() == files.encoded(2)
  assert train["000010001"]["source"] == ["00001.tar:000010001"]
  assert not files.rejected(out)
  x = files.batch_for_training(out, diverse_max_merge=3, max_items=7,
                               diverse_count="to_max")
  assert x["volume"].shape == (2, 1, 3, files.SIDE, files.SIDE)
  assert x["item_mask"].all() and x["item_tokens"].shape[1] == 7


def test_what_cannot_be_used_is_told_and_costs_nothing_else(tmp_path):
  samples = {f"{n:09d}": _sample(n) for n in range(7)}
  samples["000000001"]["jpg"] = files.encoded(1)[:100]
  del samples["000000002"]["jpg"]
  del samples["000000003"]["json"]           # has items
  del samples["000000004"]["json"]           # has none
  samples["000000005"]["json"] = b"{"        # has none
  root = _archive(tmp_path / "cc",
                  {str(n): ["thing"] for n in (0, 1, 2, 3)} | {"6": []},
                  {"00000": samples})
  out = files.build(tmp_path / "out", "itemized_cc", source=str(root))
  assert set(files.studies(out, "train")) == {"000000000", "000000003"}
  reasons = files.rejected(out)
  assert reasons.pop("000000001").startswith("a broken picture")
  assert reasons == {
      "000000002": "the shard has no picture of it",
      "000000004": "it has neither items nor a JSON file",
      "000000005": "its JSON file is broken",
      "000000006": "it has no caption"}


def test_shards_that_end_early_or_are_none_are_told(tmp_path):
  names = [f"{n:09d}" for n in range(4)]
  root = _archive(tmp_path / "cc", {str(n): ["thing"] for n in range(9)}, {
      "00000": {k: {"jpg": files.encoded(int(k), size=(60, 60))}
                for k in names}})
  whole = (root / "00000.tar").read_bytes()
  with tarfile.open(root / "00000.tar") as tar:
    third = tar.getmembers()[2]
  (root / "00000.tar").write_bytes(whole[:third.offset_data + 700])
  (root / "00001.tar").write_bytes(b"<html>" * 200)
  _shard(root / "00002.tar", {"000000008": _sample(8)})
  out = files.build(tmp_path / "out", "itemized_cc", source=str(root))
  assert set(files.studies(out, "train")) == {*names[:2], "000000008"}
  reasons = files.rejected(out)
  assert reasons[names[2]] == "00000.tar ends within it"
  assert reasons["00000.tar"].startswith("the shard cannot be read on")
  assert reasons["00001.tar"].startswith("the shard cannot be read on")
  assert len(reasons) == 3


def test_memory_does_not_grow_with_the_shard(tmp_path):
  shard = _shard(tmp_path / "00000.tar", {
      f"{n:09d}": {"jpg": b"x" * 1000, "json": b"{}"} for n in range(50)})
  with tarfile.open(shard, "r:") as tar:
    for _ in itemized_cc._files(tar):  # pylint: disable=protected-access
      assert len(tar.members) <= 1


def test_a_useless_archive_is_told(tmp_path):
  with pytest.raises(PrepareError, match=r"holds no \*.tar"):
    files.build(tmp_path / "out", "itemized_cc", source=str(tmp_path))
  _shard(tmp_path / "00000.tar", {"000000000": _sample(0)})
  with pytest.raises(PrepareError, match=f"{ITEMS} cannot be read.*--items"):
    files.build(tmp_path / "out", "itemized_cc", source=str(tmp_path))
