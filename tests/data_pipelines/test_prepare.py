"""From a raw archive to records, with everything that can go wrong."""

import errno
import json

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.volumes import study as study_lib
from itemclip_jax.data import record


def _log(out):
  return [json.loads(l) for l in (out / "ingest.jsonl").read_text().split("\n")
          if l]


def test_round_trip(archive, tmp_path):
  archive.add("s1", report=("One.", "Two."), subid="p1")
  archive.add("s2", report=("No significant abnormalities.",), split="test")
  out = archive.build(tmp_path / "out")
  split = record.open_split(out, "train")
  study = split.source[0]
  assert study["study_id"] == "s1" and study["patient_id"] == "p1"
  assert study["items"] == ["One.", "Two."] and not study["normal"]
  assert study["volume"].shape == (1, 4, 8, 8)
  assert study["volume"].dtype == np.uint8
  assert study["series_names"] == ["AX_T1"]
  assert study["orientation"] == ["IPR"]
  assert study["source"] == ["train/s1/AX_T1/img.nii.gz"]
  np.testing.assert_array_equal(study["source_spacing_mm"], [[5, 1, 1]])
  assert study["lesion_mask"].size == study["item_finding"].size == 0
  assert split.contract.shape == (4, 8, 8) and split.findings == {}
  assert record.open_split(out, "test").index["normal"].tolist() == [True]


def test_skipping_ground_truth_leaves_the_rest_alone(archive, tmp_path):
  archive.add("s1")
  out = archive.build(tmp_path / "out")
  full = record.open_split(out, "train").source[0]
  lean = record.open_split(out, "train", ground_truth=False).source[0]
  assert full.keys() - lean.keys() == set(record.GROUND_TRUTH)
  np.testing.assert_array_equal(full["volume"], lean["volume"])


@pytest.mark.parametrize("items, normal", [
    (["Study is unremarkable."], True),
    (["No significant abnormalities."], True),
    (["The STUDY IS UNREMARKABLE, as before."], True),
    (["No significant abnormalities in the left lobe."], False),
    (["Mass.", "Study is unremarkable."], False)])
def test_normal_flag_reads_the_first_item(items, normal):
  assert study_lib.is_normal(items) == normal


def test_rejected_studies_are_counted_with_their_reason(archive, tmp_path):
  archive.add("good")
  archive.add("silent", report=())
  archive.add("blank", report=("x.", "  "))
  archive.add("flat", np.ones((8, 8, 4)))
  out = archive.build(tmp_path / "out")
  assert record.open_split(out, "train").index["study_id"].tolist() == ["good"]
  reasons = {line["study"]: line["reason"] for line in _log(out)}
  assert reasons == {
      "silent": "the report is empty",
      "blank": "item 1 of the report is not a text",
      "flat": "no usable series (AX_T1: the volume is constant)"}


def test_a_bad_series_does_not_cost_the_study(archive, tmp_path):
  archive.add("s1", series={"AX_T1": {}, "AX_DWI": {}})
  out = archive.build(tmp_path / "out")
  assert record.open_split(out, "train").source[0]["series_names"] == ["AX_T1"]
  assert _log(out) == [{"split": "train", "study": "s1", "series": "AX_DWI",
                        "reason": "the file is missing"}]


def test_masks_lie_on_the_voxels_of_their_item(archive, tmp_path):
  x = np.random.default_rng(0).uniform(size=(8, 8, 4))
  x[1:3, 5:7, 2] = 50.0
  archive.add("s1", x, report=("Nothing.", "Bright."), labels={"bright": 1},
              lesions=[{"item": 1, "finding": "bright", "series": ["AX_T1"]}])
  nib.save(nib.Nifti1Image(
      np.where(x == 50, 2, 0).astype(np.uint8), np.diag([1, 1, 5, 1])),
      archive.root / "train/s1/lesions.nii.gz")
  (archive.root / "findings.json").write_text(json.dumps({
      "dark": {"prompts": ["dark"], "label": "dark"},
      "bright": {"prompts": ["bright"], "label": "bright"}}))
  out = archive.build(tmp_path / "out")
  study = record.open_split(out, "train").source[0]
  np.testing.assert_array_equal(study["lesion_mask"] == 2,
                                study["volume"] == 255)
  assert study["labels"].tolist() == [-1, 1]
  assert study["item_visible"].tolist() == [[0], [1]]
  assert study["item_finding"].tolist() == [-1, 1]


def test_a_patient_in_two_splits_is_an_error(archive, tmp_path):
  archive.add("s1", subid="p")
  archive.add("s2", subid="p", split="test")
  with pytest.raises(errors.PrepareError, match="in one only"):
    archive.build(tmp_path / "out")


def test_a_try_that_wrote_no_record_does_not_bind_the_next(archive, tmp_path):
  """E.g. a --source that was misspelt: the same --out can be given again."""
  archive.add("s1", report=())
  with pytest.raises(errors.PrepareError, match="None of the 1 studies"):
    archive.build(tmp_path / "out")
  other = type(archive)(tmp_path / "other")
  other.add("s1")
  out = other.build(tmp_path / "out")
  assert len(record.open_split(out, "train").source) == 1


def test_a_split_without_any_usable_study_is_an_error(archive, tmp_path):
  archive.add("s1", report=())
  with pytest.raises(errors.PrepareError, match="None of the 1 studies"):
    archive.build(tmp_path / "out")
  assert _log(tmp_path / "out")


def test_a_finished_set_is_used_again(archive, tmp_path, capsys, monkeypatch):
  archive.add("s1")
  out = archive.build(tmp_path / "out")
  monkeypatch.setattr(study_lib, "make_record", None)  # would be called
  archive.build(out)
  assert "built already" in capsys.readouterr().out


def test_other_options_do_not_overwrite_a_set(archive, tmp_path):
  archive.add("s1")
  out = archive.build(tmp_path / "out")
  with pytest.raises(errors.PrepareError, match="name another --out"):
    archive.build(out, shape=(4, 6, 6))


def test_a_full_disk_ends_with_one_sentence_and_code_2(
    archive, tmp_path, monkeypatch, capsys):
  def full(self, out, workers):
    raise OSError(errno.ENOSPC, "No space left on device")
  studies = type(datasets.make("studies", source=str(archive.root)))
  monkeypatch.setattr(studies, "fetch", full)
  monkeypatch.setattr(studies, "bytes_needed", lambda self: 3_000_000_000)
  monkeypatch.setattr(errors, "require_free", lambda folder, num_bytes: None)
  argv = ["prepare", "--dataset=studies", f"--out={tmp_path / 'out'}",
          f"--source={archive.root}"]
  prepare.flags.FLAGS(argv)
  with pytest.raises(SystemExit) as end:
    prepare.main(argv[:1])
  text = capsys.readouterr().err.strip()
  assert end.value.code == 2
  assert text.startswith("The disk under") and "3.00 GB" in text
  assert len(text.splitlines()) == 1


def test_too_little_space_is_noticed_before_the_start(tmp_path):
  with pytest.raises(errors.PrepareError, match="free some space"):
    errors.require_free(tmp_path / "not" / "there", 10**18)


def test_unknown_names_are_refused_with_the_choices():
  with pytest.raises(errors.PrepareError, match="phantom_brain.*, studies"):
    datasets.make("brain")
  with pytest.raises(errors.PrepareError, match="no option shape"):
    datasets.make("phantom_brain", shape=(1, 2, 3))
