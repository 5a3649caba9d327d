"""CT-RATE in the layouts of both releases and of HLIP, down to a batch."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.datasets import ct_rate
from itemclip_jax.data import loader
from itemclip_jax.data import record
from itemclip_jax.data.example import MakeExample
from tests import tiny
from tests.data_pipelines import ct_files
from tests.data_pipelines.test_ct import write_tensor

SHAPE = (24, 48, 40)          # z, y, x of every file
SPACING = (1.5, 1.25, 2.0)    # x, y, z mm
METADATA = {
    "XYSpacing": "[1.25, 1.5]", "ZSpacing": "2.0", "RescaleSlope": "1",
    "ImagePositionPatient": "[-4.0, -4.0, 100.0]", "Columns": "40",
    "ImageOrientationPatient":
        "[1.000000, 0.000000, 0.000000, 0.000000, 1.000000, 0.000000]",
    "Rows": "48", "NumberofSlices": "24"}


class Archive:
  """Files and tables as they are downloaded."""

  def __init__(self, root):
    self.root, self.metadata, self.labels, self.items = root, {}, {}, {}

  def path(self, name, *, folder="", suffix=".nii.gz"):
    split, number, scan, _ = name.split("_")
    return (self.root / (folder or split) / f"{split}_{number}"
            / f"{split}_{number}_{scan}" / f"{name}{suffix}")

  def add(self, name, *, release=1, intercept=-1024, tensor=False,
          metadata=None, report=None, labels=None, folder="", **options):
    x = ct_files.patient(SHAPE)
    if release == 1:
      x = x - intercept
    if tensor:
      write_tensor(self.path(name, folder=folder, suffix=".pt"),
                   x.astype(np.float32))
    else:
      ct_files.write_nifti(self.path(name, folder=folder), x,
                           **({"spacing": SPACING} | options))
    row = METADATA | {"RescaleIntercept": str(intercept)}
    self.metadata[name] = row | (metadata or {})
    self.labels[name] = {f: "0" for f in ct_rate.FINDINGS} | (labels or {})
    if report:
      scan = self.items.setdefault(
          name.rpartition("_")[0], {"recons": [], "report": report})
      scan["recons"].append(f"{name}.nii.gz")

  def build(self, out, **options):
    tables = (("metadata/train_metadata.csv", self.metadata),
              ("multi_abnormality_labels/train_predicted_labels.csv",
               self.labels))
    for path, table in tables:
      (self.root / path).parent.mkdir(parents=True, exist_ok=True)
      with open(self.root / path, "w", newline="") as file:
        columns = sorted({c for row in table.values() for c in row})
        writer = csv.DictWriter(file, ["VolumeName", *columns])
        writer.writeheader()
        for name, row in table.items():
          writer.writerow({"VolumeName": f"{name}.nii.gz"} | row)
    (self.root / "itemized.json").write_text(json.dumps(self.items))
    dataset = datasets.make("ct_rate", source=str(self.root), **options)
    prepare.build(dataset, out, num_workers=1)
    return out


@pytest.fixture(name="archive")
def _archive(tmp_path):
  return Archive(tmp_path / "dataset")


def _log(out):
  return [json.loads(l) for l in (out / "ingest.jsonl").read_text().split("\n")
          if l]


def _studies(out, split="train"):
  source = record.open_split(out, split).source
  return {study["study_id"]: study for study in map(
      source.__getitem__, range(len(source)))}


def test_releases_orders_and_tensors_give_one_record(archive, tmp_path):
  archive.add("train_1_a_1", report=["Bone."])
  archive.add("train_2_a_1", intercept=-8192, report=["Bone."])
  archive.add("train_3_a_1", release=2, folder="train_fixed", report=["Bone."])
  archive.add("train_4_a_1", axes="RAS", report=["Bone."])
  archive.add("train_5_a_1", placed=False, report=["Bone."])
  studies = _studies(archive.build(tmp_path / "out"))
  assert len(studies) == 5
  first = studies["train_1_a_1"]
  assert first["volume"].dtype == np.int16
  assert first["volume"].shape == (1, 16, 60, 60)
  assert first["orientation"] == ["SPL"]
  np.testing.assert_allclose(first["source_spacing_mm"], [[2, 1.25, 1.5]])
  assert first["source"] == ["train/train_1/train_1_a/train_1_a_1.nii.gz"]
  assert first["patient_id"] == "train_1" and first["items"] == ["Bone."]
  for study in studies.values():
    np.testing.assert_array_equal(study["volume"], first["volume"])
    np.testing.assert_allclose(study["affine"], first["affine"], atol=1e-5)
  # Bone stays at the patient's right, front and feet: below 104 mm.
  at = first["affine"][0] @ [*np.argwhere(first["volume"][0] > 500).mean(0), 1]
  middle = np.argwhere(ct_files.patient(SHAPE) == ct_files.BONE).mean(0)
  np.testing.assert_allclose(at[:3], (
      4 - 1.5 * middle[2], 4 - 1.25 * middle[1], 100 + 2 * middle[0]), atol=0.6)
  assert _log(tmp_path / "out") == [
      {"split": "train", "study": "train_5_a_1",
       "note": "geometry of the metadata table"}]


def test_preprocessed_tensors_lie_where_their_source_lay(archive, tmp_path):
  archive.add("train_1_a_1", report=["Bone."])
  nifti = _studies(archive.build(tmp_path / "nifti"))["train_1_a_1"]
  archive.path("train_1_a_1").unlink()
  write_tensor(archive.path("train_1_a_1", suffix=".pt"),
               nifti["volume"][0].astype(np.float16))
  tensor = _studies(archive.build(tmp_path / "pt"))["train_1_a_1"]
  np.testing.assert_array_equal(tensor["volume"], nifti["volume"])
  np.testing.assert_allclose(tensor["affine"], nifti["affine"], atol=1e-5)
  np.testing.assert_allclose(
      tensor["source_spacing_mm"], nifti["source_spacing_mm"])


def test_a_feet_first_table_turns_the_volume(archive, tmp_path):
  """Slices that run to the feet, in a file without a position."""
  archive.add("train_1_a_1", report=["Bone."], placed=False, metadata={
      "ImageOrientationPatient": "[1, 0, 0, 0, -1, 0]",
      "ImagePositionPatient": "[-4.0, 54.75, 146.0]"})
  study = _studies(archive.build(tmp_path / "out"))["train_1_a_1"]
  bone = np.argwhere(study["volume"][0] > 500)
  assert bone[:, 0].min() > 10       # written first, at the head
  assert bone[:, 1].min() > 40       # and at the back


def test_records_come_from_reports_and_labels(archive, tmp_path):
  archive.add("train_10_a_1", report=["no significant abnormalities"])
  archive.add("train_2_a_1", report=["Nodule.", " "])
  archive.add("valid_1_a_1", labels={"Lung nodule": "1", "Hiatal hernia": "1"})
  archive.add("valid_1_a_2")
  out = archive.build(tmp_path / "out")
  train, valid = _studies(out), _studies(out, "valid")
  assert train["train_10_a_1"]["normal"]
  assert train["train_2_a_1"]["items"] == ["Nodule."]
  nodule = valid["valid_1_a_1"]
  assert nodule["items"] == [
      "findings consistent with nodules or nodular density",
      "findings consistent with hiatal hernia"]
  assert nodule["labels"].sum() == 2 and not nodule["normal"]
  assert valid["valid_1_a_2"]["normal"]
  findings = record.read_findings(out)
  assert list(findings) == list(ct_rate.FINDINGS) and len(findings) == 16
  assert findings["Bronchiectasis"]["prompts"] == [
      "findings consistent with bronchiectasis or bronchiectatic changes"]


def test_what_cannot_be_used_is_told_and_costs_nothing_else(archive, tmp_path):
  archive.add("train_1_a_1", report=["Bone."])
  archive.add("train_1267_a_4", report=["Bone."])
  archive.add("train_2_a_1", report=["x"], metadata={"ZSpacing": "5.0"})
  archive.add("train_3_a_1", report=["x"], intercept=-3000, metadata={
      "RescaleIntercept": "-1024"})
  archive.add("train_4_a_1", report=["x"])
  archive.path("train_4_a_1").write_bytes(b"hello")
  archive.add("train_5_a_1", report=["x"], placed=False,
              metadata={"XYSpacing": ""})
  archive.add("train_6_a_1", labels={f: "" for f in ct_rate.FINDINGS})
  archive.items["train_7_a"] = {"recons": ["train_7_a_1.nii.gz"],
                                "report": ["x"]}
  archive.add("train_8_a_1", report=["x"], placed=False,
              metadata={"NumberofSlices": "30"})
  out = archive.build(tmp_path / "out")
  assert list(_studies(out)) == ["train_1_a_1"]
  reasons = {line["study"]: line["reason"] for line in _log(out)}
  assert len(reasons) == 8
  for study, reason in {
      "train_1267_a_4": "left out by the published loader",
      "train_2_a_1": "the header says voxels of 2 x 1.25 x 1.5 mm, the "
                     "metadata table 5 x 1.25 x 1.5 mm",
      "train_3_a_1": "no Hounsfield units (as hounsfield: values from 2000",
      "train_4_a_1": "not a readable NIfTI file",
      "train_5_a_1": "neither the header nor a metadata table",
      "train_6_a_1": "it has neither a report nor a label",
      "train_7_a_1": "the file is missing",
      "train_8_a_1": "the metadata table says (40, 48, 30)"}.items():
    assert reason in reasons[study]


def test_of_two_copies_the_corrected_release_is_used(archive, tmp_path):
  archive.add("train_1_a_1", report=["x"])
  archive.add("train_1_a_1", release=2, folder="train_fixed", report=["x"])
  out = archive.build(tmp_path / "out")
  assert _studies(out)["train_1_a_1"]["source"][0].startswith("train_fixed/")
  assert _log(out) == [{"split": "train", "study": "train_1_a_1",
                        "note": "1 more files of this name are not used"}]


def test_several_workers_give_the_same_records(archive, tmp_path):
  for n in range(4):
    archive.add(f"train_{n}_a_1", report=[f"Item {n}."])
  one = _studies(archive.build(tmp_path / "one"))
  prepare.build(datasets.make("ct_rate", source=str(archive.root)),
                tmp_path / "two", num_workers=2)
  two = _studies(tmp_path / "two")
  assert list(one) == list(two)
  for name, study in one.items():
    np.testing.assert_array_equal(study["volume"], two[name]["volume"])


def test_options_and_sources_are_checked(tmp_path):
  with pytest.raises(errors.PrepareError, match="scale=v2 is none of"):
    datasets.make("ct_rate", scale="v2")
  with pytest.raises(errors.PrepareError, match="is no folder"):
    datasets.make("ct_rate").fetch(None, None)
  with pytest.raises(errors.PrepareError, match="holds no volume"):
    prepare.build(datasets.make("ct_rate", source=str(tmp_path)),
                  tmp_path / "out", num_workers=1)


def _make(out, tokenize, shape):
  config = tiny.config(out)
  config = dataclasses.replace(
      config, vision=dataclasses.replace(
          config.vision, volume_shape=shape, patch=(4, 4, 4)),
      data=dataclasses.replace(config.data, max_series=1,
                               series_buckets=()),
      train=dataclasses.replace(config.train, global_batch=2))
  contract = record.read_contract(out)
  return MakeExample(config, tokenize, air=contract.air)


def _tokenize(texts):
  return np.zeros((len(texts), 4), np.int32)


@pytest.fixture(name="built")
def _built(archive, tmp_path):
  for n in range(3):
    archive.add(f"train_{n}_a_1", report=["Bone."])
  return archive.build(tmp_path / "out")


def test_a_batch_is_cut_and_padded_with_air(built):
  """From files to the arrays of a training step, with the place of voxels."""
  split = record.open_split(built, "train")
  assert split.contract.shape is None and split.contract.air == -1150
  make = _make(built, _tokenize, (8, 80, 40))
  batch = next(loader.train_loader(split, make, steps=1))
  assert batch["volume"].shape == (2, 1, 8, 80, 40)
  assert batch["volume"].dtype == np.int16
  assert (batch["volume"] == -1150).any()


def test_evaluation_takes_the_middle_and_the_affine_follows(built):
  split = record.open_split(built, "train")
  study, make = split.study(0), _make(built, _tokenize, (8, 80, 40))
  example = make(study, 1)
  np.testing.assert_array_equal(
      example["volume"][0][:, 10:70], study["volume"][0][4:12, :, 10:50])
  assert (example["volume"][0][:, :10] == -1150).all()
  np.testing.assert_allclose(
      example["affine"][0] @ [0, 0, 0, 1],
      study["affine"][0] @ [4, -10, 10, 1], atol=1e-4)


def test_training_draws_its_place_from_the_seed(built):
  study = record.open_split(built, "train").study(0)
  make = _make(built, _tokenize, (8, 40, 40))
  draw = lambda seed: make(study, 1, np.random.default_rng(seed))["volume"]
  np.testing.assert_array_equal(draw(0), draw(0))
  assert any((draw(0) != draw(seed)).any() for seed in range(1, 4))


def test_lesions_stay_on_their_voxels(built):
  study = record.open_split(built, "train").study(0)
  bone = study["volume"] > 500
  study |= {"lesion_mask": bone.astype(np.uint8),
            "item_visible": np.ones((1, 1), np.uint8),
            "item_finding": np.zeros(1, np.int32)}
  example = _make(built, _tokenize, (20, 56, 80))(study, 1)
  np.testing.assert_array_equal(
      example["lesion_mask"] == 1, example["volume"] > 500)
  assert example["lesion_mask"].any()
