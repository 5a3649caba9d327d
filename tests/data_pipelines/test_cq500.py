"""CQ500: folders of series, three readers."""

import csv
import json

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.datasets import cq500
from itemclip_jax.data import record
from tests.data_pipelines import ct_files


class Archive:
  """Folders as they are unpacked, and a table of readers."""

  def __init__(self, root):
    self.root, self.rows = root, []

  def series(self, number, name, **options):
    folder = (self.root / f"CQ500CT{number} CQ500CT{number}" / "Unknown Study"
              / name)
    ct_files.write_series(folder, **{"series": f"1.{number}.{len(name)}"}
                          | options)
    return folder

  def row(self, number, positive=(), *, series="CT_Plain", **values):
    row = {"subject": f"CQ500CT{number:03d}", "serie": series, "split": ""}
    for column in cq500.PROMPTS:
      row |= {f"R{n}_{column}": 0 for n in (1, 2, 3)}
      row[f"consensus_{column}"] = int(column in positive)
    self.rows.append(row | values)

  def write(self, rows=None):
    rows = rows or self.rows
    with open(self.root / "cq500.csv", "w", newline="") as file:
      # Columns in another order: they are taken by name.
      writer = csv.DictWriter(file, sorted(rows[0], reverse=True))
      writer.writeheader()
      writer.writerows(rows)

  def build(self, out, **options):
    dataset = datasets.make("cq500", source=str(self.root), **(
        {"resize": (8, 20, 20), "shape": (8, 16, 16)} | options))
    prepare.build(dataset, out, num_workers=1)
    return out


@pytest.fixture(name="archive")
def _archive(tmp_path):
  return Archive(tmp_path / "cq500")


def _log(out):
  return [json.loads(line) for line in
          (out / "ingest.jsonl").read_text().splitlines()]


def test_a_record_is_a_subject_with_all_its_series(archive, tmp_path):
  archive.series(7, "CT Plain")
  archive.series(7, "CT Thin 0.625mm", gap=1.0)
  archive.row(7, ("ICH", "SDH", "MidlineShift"))
  archive.row(7, ("ICH", "SDH", "MidlineShift"), series="CT_Thin_0.625mm")
  archive.write()
  out = archive.build(tmp_path / "out")
  study = record.open_split(out, "test").source[0]
  assert study["study_id"] == "CQ500CT7"
  assert study["series_names"] == [
      f"{s}_AX_{w}Window" for s in ("CT_Plain", "CT_Thin_0.625mm")
      for w in ("Bone", "Brain", "Blood")]
  assert study["volume"].shape == (6, 8, 16, 16)
  np.testing.assert_allclose(study["source_spacing_mm"][[0, 3], 0], (2, 1))
  assert study["source"][0] == (
      "CQ500CT7 CQ500CT7/Unknown Study/CT Plain/000.dcm")
  findings = record.read_findings(out)
  assert [f["label"] for f in findings.values()] == list(cq500.PROMPTS)
  assert study["labels"].tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 1, 0]
  assert study["items"] == [
      "Intracranial hemorrhage",
      "Intracranial hemorrhage with subdural hemorrhage", "Midline shift"]
  assert not _log(out)


def test_without_a_consensus_two_of_three_readers_decide(archive, tmp_path):
  archive.series(0, "CT Plain")
  row = {"name": "CQ500-CT-0", "Category": "B1"}
  for column in cq500.PROMPTS:
    row |= {f"R{n}:{column}": 0 for n in (1, 2, 3)}
  row |= {"R1:ICH": 1, "R3:ICH": 1, "R2:EDH": 1}
  archive.write([row])
  study = record.open_split(archive.build(tmp_path / "out"), "test").source[0]
  assert study["labels"].tolist() == [1] + [0] * 9


def test_the_consensus_goes_before_the_readers(archive, tmp_path):
  archive.series(0, "CT Plain")
  archive.row(0, R1_ICH=1, R2_ICH=1, R3_ICH=1)
  archive.write()
  study = record.open_split(archive.build(tmp_path / "out"), "test").source[0]
  assert study["labels"].tolist() == [0] * 10 and study["normal"]


def test_series_that_cannot_be_used_cost_nothing_else(archive, tmp_path):
  archive.series(1, "CT Plain")
  archive.series(1, "Scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
  archive.series(1, "CT MR mix", Modality="MR")
  archive.series(1, "CT Coronal", axes=(1, 0, 0, 0, 0, -1), origin=(0, 0, 0),
                 gap=0.0)
  folder = archive.series(1, "CT Perfusion 4D")
  for k, picture in enumerate(ct_files.patient()):
    ct_files.write_slice(folder / f"later{k}.dcm", picture + 5,
                         (-4, -4, 100 + 2 * k), series="1.1.15")
  folder = archive.series(1, "CT Contrast")
  (folder / "report.txt").write_text("hello")
  (folder / "003.dcm").unlink()
  archive.row(1)
  archive.write()
  out = archive.build(tmp_path / "out")
  study = record.open_split(out, "test").source[0]
  assert study["series_names"] == [
      f"CT_Plain_AX_{w}Window" for w in ("Bone", "Brain", "Blood")]
  log = _log(out)
  assert {line["study"] for line in log} == {"CQ500CT1"}
  reasons = {line["series"].rpartition("/")[2]: line["reason"]
             for line in log if "reason" in line}
  assert len(reasons) == 5
  for series, reason in {
      "Scout": "8 slices: a localiser", "CT MR mix": "modality MR, want CT",
      "CT Coronal": "all slices lie at the same place",
      "CT Perfusion 4D": "8 of 16 slices share their place",
      "CT Contrast": "slices are missing"}.items():
    assert reason in reasons[series]
  assert [line["note"] for line in log if "note" in line] == [
      "1 files are not DICOM"]


def test_coronal_slices_are_told(archive, tmp_path):
  archive.series(1, "CT Plain")
  folder = archive.series(1, "CT Coronal")
  for path in folder.iterdir():
    path.unlink()
  for k, picture in enumerate(ct_files.patient()):
    ct_files.write_slice(folder / f"{k}", picture, (0, 2 * k, 0),
                         axes=(1, 0, 0, 0, 0, -1))
  archive.row(1)
  archive.write()
  log = _log(archive.build(tmp_path / "out"))
  assert [line["reason"] for line in log] == [
      "coronal slices, want axial ones"]


def test_subjects_that_cannot_be_used_are_told(archive, tmp_path):
  archive.series(1, "CT Plain")
  archive.series(163, "CT Plain")
  archive.series(2, "CT Plain", Modality="MR")
  archive.series(3, "CT Plain")
  for number in (1, 2, 163):
    archive.row(number)
  archive.write()
  out = archive.build(tmp_path / "out")
  reasons = {line["study"]: line["reason"] for line in _log(out)}
  assert reasons == {
      "CQ500CT163": "left out by the published evaluation",
      "CQ500CT2": "no usable series (modality MR, want CT)",
      "CQ500CT3": "it has neither a report nor a label"}


def test_rows_that_disagree_are_an_error(archive, tmp_path):
  archive.series(1, "CT Plain")
  archive.row(1)
  archive.row(1, ("ICH",))
  archive.write()
  with pytest.raises(errors.PrepareError, match="two rows of subject 1"):
    archive.build(tmp_path / "out")


def test_a_missing_table_is_told(archive, tmp_path):
  archive.series(1, "CT Plain")
  with pytest.raises(errors.PrepareError, match="no CSV table of CQ500"):
    archive.build(tmp_path / "out")
