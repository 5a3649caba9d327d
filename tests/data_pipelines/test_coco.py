"""COCO's layout -> records -> batches."""

import io
import json

import numpy as np
from PIL import Image
import pytest

from data_pipelines.errors import PrepareError
from itemclip_jax.data import image, record
from tests.data_pipelines import picture_files as files


def _write(root, name="train2017", *, images=3, folder=None, captions=2):
  """Writes pictures 100, 101, ... and their captions; returns the JSON."""
  place = root / (folder or name)
  place.mkdir(parents=True, exist_ok=True)
  raw = {"info": {"description": "a test"}, "licenses": [], "images": [],
         "annotations": []}
  for i in range(100, 100 + images):
    file = f"{name}-{i:012d}.jpg"
    (place / file).write_bytes(files.encoded(i, size=(i % 7 + 20, 30)))
    raw["images"].append({"license": 4, "file_name": file, "height": 30,
                          "width": i % 7 + 20, "id": i})
    raw["annotations"] += [
        {"image_id": i, "id": 10 * i + k, "caption": f"Thing {i}, said {k}. "}
        for k in range(captions)]
  _write_captions(root, name, raw)
  return raw


def _write_captions(root, name, raw):
  (root / "annotations").mkdir(exist_ok=True)
  (root / f"annotations/captions_{name}.json").write_text(json.dumps(raw))


def test_from_the_archive_to_batches(tmp_path):
  root = tmp_path / "coco"
  _write(root)
  _write(root, "val2017", images=2)
  out = files.build(tmp_path / "out", "coco_captions", source=str(root))
  train, test = files.studies(out, "train"), files.studies(out, "test")
  assert len(train) == 3 and len(test) == 2 and not files.rejected(out)
  study = train["train2017-000000000101.jpg"]
  assert study["items"] == ["Thing 101, said 0.", "Thing 101, said 1."]
  assert study["source"] == ["train2017/train2017-000000000101.jpg"]
  assert study["image"].tobytes() == files.encoded(101, size=(23, 30))
  assert not study["normal"] and not study["labels"].size
  contract = record.read_contract(out)
  assert contract.modality == "RGB" and contract.shape is None

  x = files.batch_for_training(out)
  side = files.SIDE
  assert x["volume"].shape == (2, 1, 3, side, side)
  assert x["volume"].dtype == np.uint8
  assert x["series_mask"].all() and not x["series_names"].any()
  assert x["item_mask"].sum(1).tolist() == [2, 2]
  y = files.batch_for_evaluation(out, "test", 2)
  assert "lesion_mask" not in y and y["labels"].shape == (2, 0)
  for volume, study in zip(y["volume"], test.values()):
    np.testing.assert_array_equal(volume[0], image.centre_crop(
        image.decode(study["image"].tobytes()), (side, side)))


def test_the_train_batches_follow_from_the_seed(tmp_path):
  _write(tmp_path)
  out = files.build(tmp_path / "out", "coco_captions", source=str(tmp_path))
  first, again = (files.batch_for_training(out) for _ in range(2))
  for name in first:
    np.testing.assert_array_equal(first[name], again[name])


def test_what_cannot_be_used_is_told_and_costs_nothing_else(tmp_path):
  raw = _write(tmp_path, images=6, captions=1)
  names = [entry["file_name"] for entry in raw["images"]]
  place = tmp_path / "train2017"
  (place / names[0]).unlink()
  (place / names[1]).write_bytes(files.encoded(1)[:300])
  (place / names[2]).write_bytes(b"")
  raw["annotations"] = [a for a in raw["annotations"] if a["image_id"] != 103]
  raw["annotations"][4 - 1]["caption"] = "   "            # of picture 104
  raw["images"].append(dict(raw["images"][5], id=200))    # the same file
  raw["annotations"].append({"image_id": 200, "id": 1, "caption": "Again."})
  _write_captions(tmp_path, "train2017", raw)
  out = files.build(tmp_path / "out", "coco_captions", source=str(tmp_path))
  assert list(files.studies(out, "train")) == [names[5]]
  reasons = files.rejected(out)
  assert reasons[names[0]] == f"the file {names[0]} is missing"
  assert reasons[names[1]].startswith("a broken picture")
  assert reasons[names[2]] == "no JPEG or PNG picture"
  assert reasons[names[3]] == reasons[names[4]] == "it has no caption"
  assert reasons[names[5]] == "another picture of this name is in split train"
  assert len(reasons) == 6


def test_a_picture_in_two_splits_stays_in_the_first(tmp_path):
  _write(tmp_path, "train", images=2, folder="images")
  raw = _write(tmp_path, "test", images=2, folder="images")
  raw["images"][0]["file_name"] = "train-000000000100.jpg"
  _write_captions(tmp_path, "test", raw)
  out = files.build(tmp_path / "out", "coco_captions", source=str(tmp_path))
  assert len(files.studies(out, "train")) == 2
  assert list(files.studies(out, "test")) == ["test-000000000101.jpg"]
  assert files.rejected(out) == {"train-000000000100.jpg": (
      "another picture of this name is in split train")}


@pytest.mark.parametrize("folder", ["images/val2017", "images"])
def test_pictures_may_lie_below_a_folder_of_their_own(tmp_path, folder):
  _write(tmp_path, "val2017", folder=folder)
  out = files.build(tmp_path / "out", "coco_captions", source=str(tmp_path))
  assert len(files.studies(out, "test")) == 3


def _with_mask(tmp_path, mask, **entry):
  raw = _write(tmp_path, "test", images=1)
  png = io.BytesIO()
  Image.fromarray(mask).save(png, "PNG")
  (tmp_path / "mask.png").write_bytes(png.getvalue())
  raw["images"][0] |= {"mask": "mask.png", "findings": ["cat"]} | entry
  raw["annotations"][1]["finding"] = "cat"
  _write_captions(tmp_path, "test", raw)
  (tmp_path / "findings.json").write_text(json.dumps({
      name: {"prompts": [f"a {name}"], "label": name} for name in ("dog", "cat")
  }))
  return files.build(tmp_path / "out", "coco_captions", source=str(tmp_path))


def test_masks_and_findings_reach_the_batch(tmp_path):
  mask = np.zeros((30, 22), np.uint8)
  mask[10:20, 4:18] = 2
  out = _with_mask(tmp_path, mask)
  x = files.batch_for_evaluation(out, "test", 1)
  assert x["labels"].tolist() == [[0, 1]]
  assert x["item_finding"][0, :3].tolist() == [-1, 1, -1]
  assert x["item_visible"][0, :3, 0].tolist() == [False, True, False]
  side = files.SIDE
  assert x["lesion_mask"].shape == (1, 1, 3, side, side)
  for channel in x["lesion_mask"][0, 0]:
    np.testing.assert_array_equal(channel, image.centre_crop_mask(
        mask, (side, side)))
  assert set(np.unique(x["lesion_mask"])) == {0, 2}


def test_a_mask_that_does_not_fit_its_picture_is_told(tmp_path):
  with pytest.raises(PrepareError, match=(
      r"the mask has \(5, 4\) pixels up to 1, want \(22, 30\) and numbers")):
    _with_mask(tmp_path, np.ones((4, 5), np.uint8))


def test_a_mask_of_an_item_that_is_not_there_is_told(tmp_path):
  with pytest.raises(PrepareError, match="up to 3, want .* of the 2 captions"):
    _with_mask(tmp_path, np.full((30, 22), 3, np.uint8))


@pytest.mark.parametrize("damage, told", [
    (lambda root: (root / "annotations/captions_train.json").unlink(),
     "holds no captions_"),
    (lambda root: (root / "annotations/captions_train.json").write_text("{"),
     "cannot be read .* download it again"),
    (lambda root: (root / "annotations/captions_train.json").write_text("[]"),
     "holds a JSON list, want a dict"),
    (lambda root: (root / "annotations/captions_train.json").write_text(
        '{"images": []}'), "lacks annotations"),
    (lambda root: _write(root, "train2014"), "are both of split train"),
    (lambda root: _write(root, "mine"), "is of no known split"),
])
def test_a_useless_archive_is_told(tmp_path, damage, told):
  root = tmp_path / "coco"
  root.mkdir()
  _write(root, "train")
  damage(root)
  with pytest.raises(PrepareError, match=told):
    files.build(tmp_path / "out", "coco_captions", source=str(root))


@pytest.mark.parametrize("source", ["", "nowhere"])
def test_a_missing_source_is_told(tmp_path, source):
  with pytest.raises(PrepareError, match="--source.*give the"):
    files.build(tmp_path / "out", "coco_captions", source=source)
