"""Rad-ChestCT: arrays without a header, labels by place in the body."""

import csv
import json

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from itemclip_jax.data import record
from tests.data_pipelines import ct_files

# As the original table has them: <finding>*<place>.
COLUMNS = ("emphysema*right_upper", "emphysema*left_upper", "nodule*lingula",
           "opacity*other_location", "calcification*heart", "hernia*esophagus",
           "fibrosis*lung", "catheter_or_port*heart")


def _write(root, volumes, rows, columns=COLUMNS, name="imgtrain_Labels.csv"):
  root.mkdir(exist_ok=True)
  for volume_id, x in volumes.items():
    np.savez_compressed(root / f"{volume_id}.npz", ct=x)
  with open(root / name, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("NoteAcc_DEID", *columns))
    writer.writerows((volume_id, *values) for volume_id, values in rows.items())


def _build(root, out):
  prepare.build(datasets.make("rad_chest_ct", source=str(root)), out,
                num_workers=1)
  return out


def _stored() -> np.ndarray:
  """The patient as the public arrays hold one: head first."""
  return ct_files.patient((30, 20, 20))[::-1]


def test_volumes_are_turned_feet_first(tmp_path):
  _write(tmp_path / "raw", {"trn00001": _stored()},
         {"trn00001": (0.0,) * len(COLUMNS)})
  study = record.open_split(
      _build(tmp_path / "raw", tmp_path / "out"), "train").source[0]
  assert study["volume"].shape == (1, 8, 16, 16)      # 3, 1, 1 mm
  assert study["orientation"] == ["SPL"]
  np.testing.assert_allclose(study["source_spacing_mm"], [[0.8] * 3])
  bone = np.argwhere(study["volume"][0] > 300).mean(0)
  assert bone[0] < 2 and bone[1] < 4 and bone[2] < 4  # feet, front, right
  assert study["items"] == ["no significant abnormalities"] and study["normal"]


def test_labels_are_joined_over_places(tmp_path):
  rows = {"trn00001": (0, 1, 0, 0, 1, 0, 0, 1), "val00002": (0,) * 8}
  _write(tmp_path / "raw", {k: _stored() for k in rows}, rows)
  out = _build(tmp_path / "raw", tmp_path / "out")
  study = record.open_split(out, "train").source[0]
  findings = record.read_findings(out)
  assert len(findings) == 14 and "Mosaic attenuation pattern" not in findings
  positive = [name for name, label in zip(findings, study["labels"])
              if label == 1]
  assert positive == ["Emphysema", "Calcification"]
  assert study["labels"].tolist().count(-1) == 14 - 6  # columns left out here
  assert study["items"] == [
      "findings consistent with emphysema",
      "findings consistent with coronary artery wall calcification"]
  assert record.open_split(out, "valid").index["normal"].tolist() == [True]


def test_tables_of_one_column_a_finding_are_read_too(tmp_path):
  columns = ("Emphysema", "Lung nodule", "Coronary artery wall calcification",
             "Arterial wall calcification")
  _write(tmp_path / "raw", {"tst1": _stored()}, {"tst1": (0.0, 1.0, 1.0, 1.0)},
         columns)
  out = _build(tmp_path / "raw", tmp_path / "out")
  study = record.open_split(out, "test").source[0]
  labels = dict(zip(record.read_findings(out), study["labels"].tolist()))
  assert labels["Lung nodule"] == labels["Calcification"] == 1
  assert labels["Emphysema"] == 0 and labels["Atelectasis"] == -1


def test_what_cannot_be_used_is_told(tmp_path):
  raw = tmp_path / "raw"
  good = {name: (0,) * 8 for name in ("trn1", "trn2", "trn3", "trn4")}
  _write(raw, {"trn1": _stored(), "trn2": _stored()[0],
               "trn5": _stored()}, good)
  np.savez(raw / "trn3.npz", x=_stored())
  (raw / "trn4.npz").write_bytes(b"hello")
  np.savez(raw / "trn6.npz", ct=_stored() + 1024)
  out = _build(raw, tmp_path / "out")
  assert record.open_split(out, "train").index["study_id"].tolist() == ["trn1"]
  reasons = {line["study"]: line["reason"] for line in map(
      json.loads, (out / "ingest.jsonl").read_text().splitlines())}
  for study, reason in {
      "trn2": "want three axes", "trn3": "no array `ct`", "trn4": "no array",
      "trn5": "neither a report nor a label",
      "trn6": "no Hounsfield units"}.items():
    assert reason in reasons[study]


def test_a_missing_table_is_told(tmp_path):
  np.savez(tmp_path / "trn1.npz", ct=_stored())
  with pytest.raises(errors.PrepareError, match="no CSV table"):
    _build(tmp_path, tmp_path / "out")


def test_a_label_that_is_none_is_told(tmp_path):
  _write(tmp_path / "raw", {"trn1": _stored()}, {"trn1": ("maybe",) * 8})
  with pytest.raises(errors.PrepareError, match="label is 'maybe'"):
    _build(tmp_path / "raw", tmp_path / "out")
