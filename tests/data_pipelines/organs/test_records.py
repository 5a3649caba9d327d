"""CT-RATE with masks of organs, from files to what a model is given."""

import json

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines.errors import PrepareError
from data_pipelines.organs import grouping
from itemclip_jax.data import record
from tests.data_pipelines import ct_files
from tests.data_pipelines.test_ct_rate import Archive, SHAPE, SPACING

VALUE = {n: v for v, n in grouping.classes("totalsegmentator_2").items()}


def write_mask(root, name, voxels=None):
  """Bone is heart, water lung, in the order of the volume's file."""
  if voxels is None:
    x = ct_files.patient(SHAPE)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[x == ct_files.WATER] = VALUE["lung_upper_lobe_left"]
    voxels[x == ct_files.BONE] = VALUE["heart"]
  ct_files.write_nifti(root / f"{name}.nii.gz", voxels, spacing=SPACING)


@pytest.fixture(name="archive")
def _archive(tmp_path):
  archive = Archive(tmp_path / "dataset")
  for n in (1, 2, 3):
    archive.add(f"train_{n}_a_1", report=["Nodule in the left lung."])
  return archive


def _log(out):
  return {(line["study"], line.get("reason", line.get("note"))) for line in map(
      json.loads, (out / "ingest.jsonl").read_text().splitlines())}


def _studies(out):
  split = record.open_split(out, "train")
  return split, {s["study_id"]: s for s in map(
      split.study, range(len(split.source)))}


def test_masks_and_texts_go_into_the_record(archive, tmp_path):
  for n in (1, 2):
    write_mask(tmp_path / "masks", f"train_{n}_a_1")
  write_mask(tmp_path / "masks", "train_3_a_1", np.zeros(SHAPE, np.uint8))
  (tmp_path / "texts.json").write_text(json.dumps({
      "train_1_a": {"heart": "Large heart."}}))
  archive.add("train_4_a_1", report=["Cyst."])
  out = archive.build(tmp_path / "out", organ_masks=str(tmp_path / "masks"),
                      organ_texts=(str(tmp_path / "texts.json"),))
  split, studies = _studies(out)
  assert split.organs == ("lung", "heart", "esophagus", "aorta")
  assert studies.keys() == {"train_1_a_1", "train_2_a_1"}
  told, ruled = studies["train_1_a_1"], studies["train_2_a_1"]
  assert told["organ_normal"].tolist() == [1, 0, 1, 1]
  assert told["organ_texts"][:2] == [
      "Lung shows no significant abnormalities.", "Large heart."]
  assert ruled["organ_normal"].tolist() == [0, 1, 1, 1]
  assert ruled["organ_texts"][0] == "Nodule in the left lung."
  for study in studies.values():
    mask, hu = study["organ_mask"], study["volume"][0]
    assert mask.shape == hu.shape and set(np.unique(mask)) == {0, 1, 2}
    assert (mask[hu > 900] == 2).all() and (mask[hu < -900] == 0).all()
    inside = np.abs(hu) < 50
    assert (mask[inside] == 1).mean() > 0.9
  assert _log(out) == {
      ("train_2_a_1", "organs: no texts; by rules from the items"),
      ("train_3_a_1", "organs: no texts; by rules from the items"),
      ("train_3_a_1", "organs: the mask has no voxel of any organ"),
      ("train_4_a_1", "organs: there is no mask of this study")}


def test_records_without_masks_are_what_they_were(archive, tmp_path):
  out = archive.build(tmp_path / "out")
  split, studies = _studies(out)
  assert split.organs == () and len(studies) == 3
  assert "organ_mask" not in studies["train_1_a_1"]
  assert not (out / "organs.json").exists()
  assert not [k for k in split.contract.recipe if k.startswith("organ_")]


@pytest.mark.parametrize("options, reason", [
    ({"organ_texts": ("a",)}, "wants --organ_masks"),
    ({"organ_masks": "m", "organ_order": "x"}, "--organ_order=x is none of"),
    ({"organ_masks": "m", "organ_grouping": "x"}, "no grouping 'x'"),
    ({"organ_masks": "m", "organ_classes": "x"}, "no release 'x'"),
    ({"organ_masks": "m", "organ_grouping": "fvlm"}, "lacks the class face")])
def test_options_are_checked_before_the_build(options, reason):
  with pytest.raises(PrepareError, match=reason):
    datasets.make("ct_rate", **options)
