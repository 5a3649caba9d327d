"""The chest phantom's archive: its files, its records, its restarts."""

import csv
import json
import pathlib

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.datasets import phantom_chest
from data_pipelines.parallel import Workers
from data_pipelines.phantom import chest_anatomy as anatomy
from data_pipelines.phantom import chest_files
from data_pipelines.phantom import chest_findings
from data_pipelines.phantom import chest_organs
from data_pipelines.phantom import chest_report as report
from data_pipelines.volumes import nifti
from itemclip_jax.data import record
from itemclip_jax.data import volume

SIZES = {"num_train": 10, "num_valid": 1, "num_test": 1}
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def chest(tmp_path_factory) -> pathlib.Path:
  """A small set, built in this process, every format of file among it."""
  out = tmp_path_factory.mktemp("chest")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(chest_files, "FORMAT_RATES", (0.2,) * 5)
    prepare.build(datasets.make("phantom_chest", **SIZES), out, num_workers=1)
  return out


def _studies(out, splits=("train",)):
  sources = [record.open_split(out, split).source for split in splits]
  return [source[i] for source in sources for i in range(len(source))]


def test_stored_volumes_keep_sides_units_and_masks(chest):
  split = record.open_split(chest, "train")
  contract, columns = split.contract, list(split.findings)
  assert contract.window == (-400.0, 1500.0) and contract.modality == "CT"
  sides = 0
  for study in map(split.study, range(SIZES["num_train"])):
    assert study["volume"].shape == (1, *contract.shape) == (1, 32, 64, 64)
    assert study["volume"].dtype == np.int16
    assert study["orientation"] == ["SPL"]
    stored, affine = study["volume"][0], study["affine"][0]
    assert stored[0, 0, 0] == -1000 and stored.max() > 250
    # A slice is seen as a radiologist sees it: the patient's left comes last.
    np.testing.assert_array_less(affine[0, 2], -4.9)
    for k, column in enumerate(study["item_finding"]):
      mask = study["lesion_mask"][0] == k + 1
      if column < 0:
        assert not mask.any()
        continue
      assert mask.any() and study["labels"][column] == 1
      x = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
      for side, sign in anatomy.SIDES.items():
        # An artery's name tells its course, not its side.
        if f", {side}" in columns[column] and "artery" not in columns[column]:
          assert sign * x[:, 0].mean() > 20, columns[column]
          sides += 1
  assert sides >= 5


def test_formats_are_those_of_archives_and_read_alike(chest):
  rows = {}
  for split in SPLITS:
    with open(chest / "raw" / f"{split}_metadata.csv", newline="") as table:
      rows |= {row["VolumeName"]: row for row in csv.DictReader(table)}
  itemized = json.loads((chest / "raw/itemized.json").read_text())
  assert {r for e in itemized.values() for r in e["recons"]} == set(rows)
  air = set()
  for name, row in rows.items():
    patient, scan = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
    path = chest / "raw" / name.split("_")[0] / patient / scan / name
    if path.is_dir():
      assert len(list(path.glob("*.dcm"))) == int(row["NumberofSlices"])
      air.add("dicom")
      continue
    image = nib.load(path)
    assert image.get_data_dtype() == np.int16
    assert nib.aff2axcodes(image.affine) == tuple("LPS")
    corner = int(image.dataobj[0, 0, 0])
    assert corner in (-1000, -1000 - int(row["RescaleIntercept"]))
    air.add(corner)
  assert air == {-1000, 24, 7192, "dicom"}
  volumes = [s["volume"] for s in _studies(chest, SPLITS)]
  assert {int(v[0, 0, 0, 0]) for v in volumes} == {-1000}
  assert (chest / "ingest.jsonl").read_text() == ""


def test_the_raw_archive_is_read_as_ct_rate(chest):
  dataset = datasets.make("ct_rate", source=str(chest / "raw"))
  builder = dataset.builder(chest / "raw", chest / "none", None, lambda _: None)
  jobs = {job.study: job for split in builder._splits.values() for job in split}
  for study in _studies(chest):
    job = jobs[f"{study['study_id']}_1"]
    assert list(job.items) == study["items"]
    assert job.patient == study["patient_id"]
    assert job.metadata["XYSpacing"] == "[2.5, 2.5]"
    names = list(report.findings())
    for finding, label in zip(dataset.findings(None), job.labels):
      if finding.lower() in names:
        assert label == study["labels"][names.index(finding.lower())]


def test_organs_stand_beside_the_scan(chest):
  for study in _studies(chest, SPLITS):
    folder = (chest / "raw" / study["source"][0]).parent
    # A mirrored scan would show lung where the map says liver.
    stored, affine = study["volume"][0], study["affine"][0]
    organs = volume.sample_labels(
        nifti.read_labels(folder / "organs.nii.gz"), shape=stored.shape,
        affine=affine)
    for name, low, high in (("liver", 30, 65), ("gas", -960, -500),
                            ("left lung", -1000, -400),
                            ("vertebrae", 120, 250)):
      hu = stored[organs == anatomy.LABEL[name]].mean()
      assert low < hu < high, (study["source"], name, hu)


def test_records_hold_the_organs_of_the_map_beside_the_scan(chest):
  organs = record.open_split(chest, "train").organs
  assert organs == ("lung", "heart", "esophagus", "aorta", "trachea",
                    "vertebrae", "rib", "liver", "spleen", "stomach")
  parts = {"lung": ("right lung", "left lung"), "stomach": ("stomach", "gas"),
           "esophagus": ("oesophagus",), "vertebrae": ("vertebrae", "disc"),
           "rib": ("ribs",)}
  for study in _studies(chest, SPLITS):
    folder = (chest / "raw" / study["source"][0]).parent
    labels = volume.sample_labels(
        nifti.read_labels(folder / "organs.nii.gz"),
        shape=study["volume"].shape[1:], affine=study["affine"][0])
    for r, organ in enumerate(organs):
      want = np.isin(labels, [anatomy.LABEL[name]
                              for name in parts.get(organ, (organ,))])
      assert want.any(), organ
      np.testing.assert_array_equal(study["organ_mask"] == r + 1, want, organ)


def test_organs_are_told_the_findings_that_belong_to_them(chest):
  findings = list(report.findings())
  told = 0
  for study in _studies(chest, SPLITS):
    organs = dict(zip(chest_organs.GROUPING.names, zip(
        study["organ_texts"], study["organ_normal"])))
    for item, column in zip(study["items"], study["item_finding"]):
      if column >= 0:
        organ = chest_organs.ORGAN[findings[column].partition(",")[0]]
        text, normal = organs[organ]
        assert item in text and not normal
        told += 1
    for organ, (text, normal) in organs.items():
      default = f"{organ.capitalize()} shows no significant abnormalities."
      assert normal == (text == default)
    assert sum(len(text) for text, normal in organs.values() if not normal) <= (
        sum(len(item) + 1 for item in study["items"]))
  assert told > 15
  assert chest_organs.ORGAN.keys() == {k.name for k in chest_findings.KINDS}


def test_normal_studies_say_so_and_nothing_else():
  items, about = report.write(np.random.default_rng(0), [])
  assert (items, about) == (["no significant abnormalities"], [])
  assert not any(report.labels([]).values())


def test_normal_studies_have_no_lesion(chest):
  for study in _studies(chest):
    healthy = not study["lesion_mask"].any()
    assert study["normal"] == healthy == (study["items"] == [report.NORMAL])


def test_a_subject_depends_on_its_number_only(chest, tmp_path, monkeypatch):
  jobs = [phantom_chest.Job(tmp_path, 0, "train", n) for n in (3, 0)]
  monkeypatch.setattr(chest_files, "FORMAT_RATES", (0.2,) * 5)
  for job in jobs:
    phantom_chest.write_subject(job)
  files = [p for p in tmp_path.rglob("*") if p.is_file()]
  assert len(files) >= 8
  for path in files:
    same = chest / "raw" / path.relative_to(tmp_path)
    assert path.read_bytes() == same.read_bytes(), path
  other = phantom_chest.Job(tmp_path / "b", 1, "train", 0)
  assert phantom_chest.write_subject(other)["report"] != json.loads(
      (chest / "raw/itemized.json").read_text())["train_0_a"]["report"]


def test_the_number_of_workers_changes_no_byte(tmp_path):
  dataset = datasets.make(
      "phantom_chest", num_train=3, num_valid=0, num_test=1)
  for num in (1, 2):
    prepare.build(dataset, tmp_path / str(num), num_workers=num)
  files = [sorted(p.relative_to(tmp_path / str(num))
                  for p in (tmp_path / str(num)).rglob("*") if p.is_file()
                  and p.name != "index.npz") for num in (1, 2)]
  assert files[0] == files[1] and len(files[0]) > 20
  for path in files[0]:
    assert (tmp_path / "1" / path).read_bytes() == (
        tmp_path / "2" / path).read_bytes(), path


def test_a_damaged_scan_is_told_and_costs_nothing_else(tmp_path):
  dataset = datasets.make(
      "phantom_chest", num_train=3, num_valid=0, num_test=0)
  with Workers(1) as workers:
    raw = dataset.fetch(tmp_path, workers)
  scan = raw / "train/train_1/train_1_a/train_1_a_1.nii.gz"
  scan.write_bytes(scan.read_bytes()[:1000])
  prepare.build(dataset, tmp_path, num_workers=1)
  (line,) = (tmp_path / "ingest.jsonl").read_text().splitlines()
  assert json.loads(line)["study"] == "train_1_a"
  assert len(_studies(tmp_path)) == 2


def test_options_that_leave_nothing_are_refused(tmp_path):
  with pytest.raises(errors.PrepareError, match="may be negative"):
    datasets.make("phantom_chest", num_train=-1)
  with pytest.raises(errors.PrepareError, match="finer"):
    datasets.make("phantom_chest", spacing=(900.0, 5.0, 5.0))
