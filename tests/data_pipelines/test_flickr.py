"""Flickr30k in Karpathy's splits -> records -> batches."""

import json

import pytest

from data_pipelines.errors import PrepareError
from tests.data_pipelines import picture_files as files


def _write(root, rows_of_split, prefix="flickr30k_karpathy_"):
  (root / "flickr30k-images").mkdir(parents=True, exist_ok=True)
  for split, rows in rows_of_split.items():
    (root / f"{prefix}{split}.json").write_text(json.dumps(
        [{"image": f"flickr30k-images/{n}.jpg", "caption": c}
         for n, c in rows], indent=0))
    for n, _ in rows:
      (root / f"flickr30k-images/{n}.jpg").write_bytes(files.encoded(n))


def _captions(n):
  return [f"Scene {n}, in words {k}." for k in range(5)]


def test_from_the_archive_to_batches(tmp_path):
  root = tmp_path / "flickr"
  _write(root, {"val": [(n, _captions(n)) for n in (10, 11)],
                "test": [(n, _captions(n)) for n in (20, 21, 22)]})
  out = files.build(tmp_path / "out", "flickr30k", source=str(root))
  valid, test = files.studies(out, "valid"), files.studies(out, "test")
  assert set(valid) == {f"flickr30k-images/{n}.jpg" for n in (10, 11)}
  assert test["flickr30k-images/21.jpg"]["items"] == _captions(21)
  assert not files.rejected(out)
  x = files.batch_for_evaluation(out, "test", 3, max_items=5)
  assert x["volume"].shape == (3, 1, 3, files.SIDE, files.SIDE)
  assert x["item_mask"].all()


def test_rows_of_one_picture_are_put_together(tmp_path):
  rows = [(n, f"Scene {n}, in words {k}.") for n in (1, 2) for k in range(3)]
  _write(tmp_path, {"train": rows}, prefix="flickr30k_")
  out = files.build(tmp_path / "out", "flickr30k", source=str(tmp_path))
  train = files.studies(out, "train")
  assert len(train) == 2
  assert train["flickr30k-images/2.jpg"]["items"] == _captions(2)[:3]
  assert files.batch_for_training(out)["item_mask"].sum(1).tolist() == [3, 3]


def test_broken_rows_are_told(tmp_path):
  _write(tmp_path, {"test": [(1, _captions(1)), (2, []), (3, [7]), (4, ["x"])]})
  (tmp_path / "flickr30k-images/4.jpg").unlink()
  out = files.build(tmp_path / "out", "flickr30k", source=str(tmp_path))
  assert list(files.studies(out, "test")) == ["flickr30k-images/1.jpg"]
  assert files.rejected(out) == {
      "flickr30k-images/2.jpg": "it has no caption",
      "flickr30k-images/3.jpg": "its captions are not a list of texts",
      "flickr30k-images/4.jpg": "the file 4.jpg is missing"}


def test_two_files_of_a_split_are_told(tmp_path):
  for prefix in ("flickr30k_", "flickr30k_karpathy_"):
    _write(tmp_path, {"val": [(1, ["x"])]}, prefix=prefix)
  with pytest.raises(PrepareError, match="both of split valid; keep one"):
    files.build(tmp_path / "out", "flickr30k", source=str(tmp_path))


def test_an_empty_folder_is_told(tmp_path):
  with pytest.raises(PrepareError, match="holds no flickr30k"):
    files.build(tmp_path / "out", "flickr30k", source=str(tmp_path))
