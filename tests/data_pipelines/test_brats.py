"""BraTS: four named series, the tumour as one outlined item."""

import json

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from itemclip_jax.data import record

GRID = {"shape": (8, 16, 16), "resize": (8, 16, 16)}
# As published: left, back, head; 1 mm.
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def _write(root, case, *, kinds=("t1n", "t1c", "t2w", "t2f"), seg=True):
  rng = np.random.default_rng(0)
  x = rng.uniform(10, 100, (16, 16, 8)).astype(np.float32)
  parts = np.zeros(x.shape, np.uint8)
  parts[2:5, 3:6, 6:8], parts[3, 4, 6] = 2, 1  # the patient's right, top
  folder = root / case
  folder.mkdir(parents=True)
  for kind in kinds:
    bright = x + 500 * (parts > 0) * (kind == "t2f")
    nib.save(nib.Nifti1Image(bright, AFFINE), folder / f"{case}-{kind}.nii.gz")
  if seg:
    nib.save(nib.Nifti1Image(parts, AFFINE), folder / f"{case}-seg.nii.gz")


def _build(root, out):
  dataset = datasets.make("brats", source=str(root), **GRID)
  prepare.build(dataset, out, num_workers=1)
  return record.open_split(out, "test")


def _studies(split):
  studies = [split.study(i) for i in range(len(split.source))]
  return {study["study_id"]: study for study in studies}


def test_a_case_is_one_study_of_four_named_series(tmp_path):
  _write(tmp_path / "raw", "BraTS-GLI-00008-001")
  study = _studies(_build(tmp_path / "raw", tmp_path / "out"))[
      "BraTS-GLI-00008-001"]
  assert study["series_names"] == ["AX_t1n", "AX_t1c", "AX_t2w", "AX_t2f"]
  assert study["orientation"] == ["IPR"] * 4
  assert study["items"] == ["Glioma."] and not study["normal"]
  assert study["patient_id"] == "BraTS-GLI-00008"
  assert study["source"][3].endswith(
      "BraTS-GLI-00008-001/BraTS-GLI-00008-001-t2f.nii.gz")


def test_all_parts_of_the_tumour_are_one_item_that_flair_shows(tmp_path):
  _write(tmp_path / "raw", "BraTS-GLI-00001-000")
  split = _build(tmp_path / "raw", tmp_path / "out")
  study = split.study(0)
  assert set(np.unique(study["lesion_mask"])) == {0, 1}
  np.testing.assert_array_equal(
      study["lesion_mask"][3], study["volume"][3] > 150)
  np.testing.assert_array_equal(study["lesion_mask"][0],
                                study["lesion_mask"][3])
  assert study["lesion_mask"][3].sum() == 18
  assert study["item_visible"].tolist() == [[0, 0, 0, 1]]
  assert study["item_finding"].tolist() == [0]
  assert split.findings == {
      "Glioma": {"prompts": ["Glioma."], "label": "Glioma"}}


def test_the_name_of_a_case_tells_its_tumour(tmp_path):
  for case in ("BraTS-MEN-00001-000", "BraTS-MET-00002-000",
               "BraTS-PED-00003-000", "BraTS2021_00004"):
    _write(tmp_path / "raw", case)
  split = _build(tmp_path / "raw", tmp_path / "out")
  assert list(split.findings) == ["Glioma", "Meningioma", "Metastasis"]
  found = {k: (s["items"], s["labels"].tolist())
           for k, s in _studies(split).items()}
  assert found == {
      "BraTS-MEN-00001-000": (["Meningioma."], [0, 1, 0]),
      "BraTS-MET-00002-000": (["Metastasis."], [0, 0, 1]),
      "BraTS-PED-00003-000": (["Glioma."], [1, 0, 0]),
      "BraTS2021_00004": (["Glioma."], [1, 0, 0])}


def test_a_case_without_an_outline_is_kept_and_gaps_are_told(tmp_path):
  _write(tmp_path / "raw", "BraTS-GLI-00001-000")
  _write(tmp_path / "raw", "BraTS-GLI-00002-000", seg=False, kinds=("t1n",))
  (tmp_path / "raw" / "BraTS-GLI-00003-000").mkdir()
  split = _build(tmp_path / "raw", tmp_path / "out")
  study = _studies(split)["BraTS-GLI-00002-000"]
  assert study["series_names"] == ["AX_t1n"]
  assert not study["lesion_mask"].any()
  assert study["item_finding"].tolist() == [-1]
  lines = [json.loads(line) for line in
           (tmp_path / "out" / "ingest.jsonl").read_text().splitlines()]
  left_out = [(l["study"][-7:], l.get("series")) for l in lines]
  assert left_out == [("002-000", "AX_t1c"), ("002-000", "AX_t2w"),
                      ("002-000", "AX_t2f"), ("003-000", None)]


def test_a_folder_without_cases_is_an_error(tmp_path):
  with pytest.raises(errors.PrepareError, match="no folder <case>"):
    _build(tmp_path, tmp_path / "out")
