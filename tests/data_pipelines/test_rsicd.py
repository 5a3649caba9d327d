"""RSICD's CSV files -> records -> batches."""

import csv
import json

import pytest

from data_pipelines.datasets import rsicd
from data_pipelines.errors import PrepareError
from tests.data_pipelines import picture_files as files


def _row(name, sentences, encoded):
  text = " ".join(f"{s} ." for s in sentences)
  return {"filename": f"rsicd_images/{name}.jpg", "captions": repr([text]),
          "image": repr({"bytes": encoded, "path": f"{name}.jpg"})}


def _sentences(n):
  return [f"Many planes are at gate {n}{k}" for k in range(5)]


def _rows(prefix, count, first):
  return [_row(f"{prefix}_{n}", _sentences(n), files.encoded(n))
          for n in range(first, first + count)]


def _write(root, **rows_of_split):
  root.mkdir(exist_ok=True)
  for split, rows in rows_of_split.items():
    with open(root / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
      writer = csv.DictWriter(file, ("filename", "captions", "image"))
      writer.writeheader()
      writer.writerows(rows)
  return root


def test_from_the_archive_to_batches(tmp_path):
  root = _write(tmp_path / "rsicd", train=_rows("airport", 3, 0),
                valid=_rows("beach", 1, 10), test=_rows("port", 3, 20))
  (root / "large_label.json").write_text("[20, 29]")
  (tmp_path / "items.json").write_text(json.dumps(
      {"0": [" Planes at the GATE ", "a runway"], "2": ["grass"]}))
  out = files.build(tmp_path / "out", "rsicd", source=str(root),
                    items=str(tmp_path / "items.json"))
  assert not files.rejected(out)
  train = files.studies(out, "train")
  study = train["rsicd_images/airport_0.jpg"]
  assert study["items"] == ["planes at the gate", "a runway"]
  assert study["image"].tobytes() == files.encoded(0)
  assert study["source"] == ["train.csv:0"] and (study["labels"] == -1).all()
  assert train["rsicd_images/airport_1.jpg"]["items"] == _sentences(1)
  assert train["rsicd_images/airport_2.jpg"]["items"] == ["grass"]
  valid = files.studies(out, "valid")
  assert valid["rsicd_images/beach_10.jpg"]["items"] == _sentences(10)

  x = files.batch_for_training(out, diverse_max_merge=3, max_items=6)
  assert x["volume"].shape == (2, 1, 3, files.SIDE, files.SIDE)
  assert x["item_mask"].all()
  y = files.batch_for_evaluation(out, "test", 3)
  assert y["labels"].shape == (3, 30)
  names = list(files.studies(out, "test"))
  labels = dict(zip(names, y["labels"].tolist()))
  assert labels["rsicd_images/port_20.jpg"] == [int(i == 20) for i in range(30)]
  assert labels["rsicd_images/port_21.jpg"] == [int(i == 29) for i in range(30)]
  assert labels["rsicd_images/port_22.jpg"] == [-1] * 30


def test_classes_have_the_prompts_of_the_benchmark(tmp_path):
  findings = rsicd.Dataset().findings(tmp_path)
  assert len(findings) == 30
  assert list(findings)[5] == "center" and list(findings)[29] == "viaduct"
  assert findings["storage tanks"] == {
      "prompts": ["there is storage tanks", "the storage tanks"],
      "label": "storage tanks"}


def test_cells_are_never_run_and_broken_ones_are_told(tmp_path):
  spy = tmp_path / "was_run"
  rows = _rows("x", 7, 0)
  rows[0]["image"] = f"open({str(spy)!r}, 'w')"
  rows[1]["captions"] = "['half"
  rows[2]["image"] = "{'path': 'x.jpg'}"
  rows[3]["captions"] = "[' . ']"
  rows[4] = _row("x_4", ["Cut."], files.encoded(4)[:200])
  rows[5]["captions"] = "{'a': 1}"
  root = _write(tmp_path / "rsicd", test=rows)
  out = files.build(tmp_path / "out", "rsicd", source=str(root))
  assert list(files.studies(out, "test")) == ["rsicd_images/x_6.jpg"]
  reasons = files.rejected(out)
  reasons = [reasons[f"rsicd_images/x_{n}.jpg"] for n in range(6)]
  assert not spy.exists()
  assert reasons[:4] == ["image is no Python literal",
                         "captions is no Python literal",
                         "image holds no bytes", "it has no caption"]
  assert reasons[4].startswith("a broken picture")
  assert reasons[5] == "captions is no list of texts"


def test_a_row_that_ends_early_is_told(tmp_path):
  root = _write(tmp_path / "rsicd", test=_rows("x", 1, 0))
  with open(root / "test.csv", "a", encoding="utf-8") as file:
    file.write("rsicd_images/short.jpg,\"['One .']\"\n")
  out = files.build(tmp_path / "out", "rsicd", source=str(root))
  assert files.rejected(out) == {
      "rsicd_images/short.jpg": "image is no Python literal"}


@pytest.mark.parametrize("labels, told", [
    ("[3, 30]", "holds class numbers that are not from 0 to 29"),
    ("{}", "holds a JSON dict, want a list"), ("[", "cannot be read")])
def test_useless_labels_are_told(tmp_path, labels, told):
  root = _write(tmp_path / "rsicd", test=_rows("x", 1, 0))
  (root / "large_label.json").write_text(labels)
  with pytest.raises(PrepareError, match=f"large_label.json {told}"):
    files.build(tmp_path / "out", "rsicd", source=str(root))


def test_useless_files_are_told(tmp_path):
  with pytest.raises(PrepareError, match="holds none of train.csv"):
    files.build(tmp_path / "out", "rsicd", source=str(tmp_path))
  (tmp_path / "test.csv").write_text("filename,captions\na,b\n")
  with pytest.raises(PrepareError, match="test.csv lacks the column image"):
    files.build(tmp_path / "out2", "rsicd", source=str(tmp_path))
  _write(tmp_path, test=_rows("x", 1, 0))
  with pytest.raises(PrepareError, match="nowhere.json cannot be read"):
    files.build(tmp_path / "out3", "rsicd", source=str(tmp_path),
                items=str(tmp_path / "nowhere.json"))
