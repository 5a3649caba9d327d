"""RSNA 2019: a flat folder of slices becomes studies."""

import json

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from itemclip_jax.data import loader
from itemclip_jax.data import record
from itemclip_jax.data.example import MakeExample
from tests import tiny
from tests.data_pipelines import ct_files

# The made-up identifiers of this set break the norm when they are written.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

SUBTYPES = ("epidural", "intraparenchymal", "intraventricular",
            "subarachnoid", "subdural", "any")


class Archive:
  """Slices of all studies in one folder, and the table of their labels."""

  def __init__(self, root):
    self.root, self.rows, self.count = root, ["ID,Label"], 0

  def add(self, study, *, positive=(), hounsfield=None, labelled=True,
          **options):
    x = ct_files.patient() if hounsfield is None else hounsfield
    for k, picture in enumerate(x):
      self.count += 1
      # Names in no order of place or study.
      name = f"ID_{(self.count * 7919) % 99991:09x}"
      ct_files.write_slice(
          self.root / "stage_2_train" / f"{name}.dcm", picture,
          (0, 0, 2 * k), **{
              "StudyInstanceUID": study, "SeriesInstanceUID": f"{study}s",
              "PatientID": f"{study}p"} | options)
      for subtype in SUBTYPES if labelled else ():
        label = int(k == 3 and subtype in positive)
        self.rows.append(f"{name}_{subtype},{label}")

  def build(self, out, num_workers=1, **options):
    (self.root / "stage_2_train.csv").write_text("\n".join(self.rows))
    sizes = {"resize": (8, 20, 20), "shape": (8, 16, 16)}
    dataset = datasets.make(
        "rsna_ich", source=str(self.root), **(sizes | options))
    prepare.build(dataset, out, num_workers=num_workers)
    return out


@pytest.fixture(name="archive")
def _archive(tmp_path):
  return Archive(tmp_path / "rsna")


def test_slices_find_their_study_and_labels(archive, tmp_path):
  archive.add("ID_b", positive=("any", "subdural", "epidural"))
  archive.add("ID_a")
  (archive.root / "rsna_studies_train.txt").write_text("RSNA_ID_a\n")
  (archive.root / "rsna_studies_test.txt").write_text("RSNA_ID_b\n")
  out = archive.build(tmp_path / "out")
  bleeding = record.open_split(out, "test").source[0]
  findings = record.read_findings(out)
  assert [f["label"] for f in findings.values()] == [
      "any", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
  assert bleeding["labels"].tolist() == [1, 0, 0, 0, 1]
  assert bleeding["items"] == [
      "Intracranial hemorrhage",
      "Intracranial hemorrhage with subdural hemorrhage"]
  assert bleeding["study_id"] == "ID_b" and bleeding["patient_id"] == "ID_bp"
  assert bleeding["series_names"] == [
      f"MPR-AX_HEAD-protocol_{w}Window" for w in ("Bone", "Brain", "Blood")]
  assert record.open_split(out, "train").source[0]["normal"]


def test_every_window_is_a_series_with_feet_first(archive, tmp_path):
  archive.add("ID_a")
  study = record.open_split(archive.build(tmp_path / "out"), "test").source[0]
  assert study["volume"].shape == (3, 8, 16, 16)
  assert study["volume"].dtype == np.uint8
  bone, brain, blood = study["volume"]
  assert bone[3, 8, 8] == 73 and bone[0, 0, 0] == 0   # 800 / 2800 of 255
  assert brain[3, 8, 8] == 0 and blood[3, 8, 8] == 26  # water: 20 / 200
  for view in study["volume"]:
    bright = np.argwhere(view == view.max()).mean(0)
    assert (bright < (3, 5, 5)).all()                 # feet, front, right
  np.testing.assert_allclose(study["source_spacing_mm"], [[2, 0.5, 0.5]] * 3)


def test_windows_are_options(archive, tmp_path):
  archive.add("ID_a")
  out = archive.build(tmp_path / "out", brain_window=(0.0, 100.0))
  split = record.open_split(out, "test")
  assert split.source[0]["volume"][1, 3, 8, 8] == 128
  assert "brain 0/100" in split.contract.intensity
  with pytest.raises(errors.PrepareError, match="bone_window has the width 0"):
    datasets.make("rsna_ich", bone_window=(600, 0))


def test_what_cannot_be_used_is_told(archive, tmp_path):
  archive.add("ID_good")
  archive.add("ID_dark", labelled=False)
  archive.add("ID_gap", hounsfield=ct_files.patient()[:2])
  archive.add("ID_wrapped", intercept=0,
              hounsfield=ct_files.patient() + 1000)
  archive.add("ID_crown", axes=(1, 0, 0, 0, 0, -1), hounsfield=ct_files.patient(
      ), SliceLocation=0)
  (archive.root / "stage_2_train/ID_x.dcm").write_bytes(b"hello")
  (archive.root / "rsna_studies_test.txt").write_text("RSNA_ID_lost\n")
  out = archive.build(tmp_path / "out")
  log = [json.loads(line) for line in
         (out / "ingest.jsonl").read_text().splitlines()]
  reasons = {line["study"]: line["reason"] for line in log}
  assert record.open_split(out, "test").index["study_id"].tolist() == [
      "ID_good"]
  assert len(reasons) == len(log) == 6
  for study, reason in {
      "ID_dark": "neither a report nor a label",
      "ID_gap": "2 slices in the series, want at least 3",
      "ID_wrapped": "no Hounsfield units", "ID_crown": "same place",
      "ID_x": "not a DICOM file", "ID_lost": "no slice of it"}.items():
    assert reason in reasons[study]


def test_nothing_else_of_a_header_reaches_a_record(archive, tmp_path):
  archive.add("ID_a", PatientName="Secret^Name", InstitutionName="Clinic",
              PatientBirthDate="19700101", AccessionNumber="ACC77")
  out = archive.build(tmp_path / "out")
  study = record.open_split(out, "test").source[0]
  everything = repr({k: v for k, v in study.items() if k != "volume"})
  everything += (out / "ingest.jsonl").read_text()
  for secret in ("Secret", "Clinic", "1970", "ACC77", "MRN", "ID_as"):
    assert secret not in everything


def test_workers_give_the_same_records(archive, tmp_path):
  for name in "abc":
    archive.add(f"ID_{name}", positive=("any",) if name == "b" else ())
  one = record.open_split(archive.build(tmp_path / "one"), "test").source
  two = record.open_split(
      archive.build(tmp_path / "two", num_workers=2), "test").source
  for i in range(3):
    assert one[i]["study_id"] == two[i]["study_id"]
    np.testing.assert_array_equal(one[i]["volume"], two[i]["volume"])


def test_a_batch_holds_the_windows(archive, tmp_path):
  archive.add("ID_a")
  archive.add("ID_b")
  config = tiny.config(tmp_path / "out")
  shape = config.vision.volume_shape
  out = archive.build(tmp_path / "out", resize=shape, shape=shape)
  split = record.open_split(out, "test")
  make = MakeExample(config, lambda texts: np.zeros((len(texts), 4), np.int32),
                     air=split.contract.air)
  batch = next(loader.eval_batches(split, make, batch=2))
  assert batch["volume"].shape == (2, 3, *shape)
  assert batch["labels"].shape == (2, 5)


def test_a_study_in_two_lists_is_an_error(archive, tmp_path):
  archive.add("ID_a")
  for split in ("train", "test"):
    (archive.root / f"rsna_studies_{split}.txt").write_text("RSNA_ID_a\n")
  with pytest.raises(errors.PrepareError, match="in the lists of"):
    archive.build(tmp_path / "out")


def test_a_missing_table_is_told(tmp_path):
  ct_files.write_series(tmp_path)
  with pytest.raises(errors.PrepareError, match="stage_2_train.csv"):
    prepare.build(datasets.make("rsna_ich", source=str(tmp_path)),
                  tmp_path / "out", num_workers=1)
