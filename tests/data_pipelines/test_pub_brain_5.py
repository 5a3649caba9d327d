"""Pub-Brain-5: the published tables over folders of files."""

import json

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from itemclip_jax.data import record

GRID = {"shape": (4, 8, 8), "resize": (4, 8, 8)}
HEADER = "study,Normal,Stroke,Glioma,Meningioma,Metastasis\n"


def _volume(seed=0, shape=(8, 8, 6)):
  return np.random.default_rng(seed).uniform(
      1, 100, shape).astype(np.float32)


def _save(path, voxels=None, affine=(1.0, 1.0, 4.0)):
  path.parent.mkdir(parents=True, exist_ok=True)
  nib.save(nib.Nifti1Image(_volume() if voxels is None else voxels,
                           np.diag([*affine, 1.0])), path)


def _build(root, out, rows, **options):
  (root / "pub_brain_5.csv").write_text(HEADER + "".join(
      f"{row}\n" for row in rows))
  dataset = datasets.make("pub_brain_5", source=str(root), **GRID | options)
  prepare.build(dataset, out, num_workers=1)
  return record.open_split(out, "test")


def _log(out):
  return [json.loads(line)
          for line in (out / "ingest.jsonl").read_text().splitlines()]


@pytest.fixture
def root(tmp_path):
  root = tmp_path / "root"
  case = "BraTS-MEN-00004-000"
  folder = root / "brats23/train/meningioma" / case
  for kind in ("t1n", "t2f", "seg"):
    _save(folder / f"{case}-{kind}.nii.gz")
  _save(root / "open_bhb/sub-1/sub-1-t1.nii")
  return root


ROWS = ("/data/pub_brain_5/brats23/train/meningioma/BraTS-MEN-00004-000,"
        "0,0,0,1,0", "/elsewhere/open_bhb/sub-1,1,0,0,0,0")


def test_rows_become_labelled_studies(root, tmp_path):
  split = _build(root, tmp_path / "out", ROWS)
  studies = {s["study_id"]: s for s in map(split.study, range(2))}
  tumour = studies["brats23/train/meningioma/BraTS-MEN-00004-000"]
  assert tumour["series_names"] == ["AX_t1n", "AX_t2f"]  # no mask
  assert tumour["items"] == ["Meningioma"] and not tumour["normal"]
  assert tumour["labels"].tolist() == [0, 0, 0, 1, 0]
  assert tumour["patient_id"] == "BraTS-MEN-00004"
  healthy = studies["open_bhb/sub-1"]
  assert healthy["items"] == ["Study is unremarkable"] and healthy["normal"]
  assert [f["prompts"] for f in split.findings.values()] == [
      ["Study is unremarkable"], ["Acute stroke"], ["Glioma"], ["Meningioma"],
      ["Metastasis"]]
  assert split.contract.dataset == "pub_brain_5"


def test_lesion_slices_stand_beside_the_records(root, tmp_path):
  (root / "pub_brain_5_ground_truth.csv").write_text(
      "study,target_slices\n"
      'brats23/train/meningioma/BraTS-MEN-00004-000,"[1,2,3]"\n')
  split = _build(root, tmp_path / "out", ROWS)
  truth = json.loads((tmp_path / "out" / "ground_truth.json").read_text())
  (study, slices), = truth.items()
  assert slices == [1, 2, 3] and study in split.index["study_id"]
  # What the header of the module says of the file's depth.
  stored = split.study(split.index["study_id"].tolist().index(study))
  step = np.linalg.norm(stored["affine"][0, :3, 0])
  assert round(4 * step / stored["source_spacing_mm"][0, 0]) == 6


def test_diffusion_stacks_its_first_two_volumes(root, tmp_path):
  x = np.stack([_volume(i, (8, 8, 2)) for i in range(3)], axis=-1)
  x[..., 2] = 1e6  # never looked at
  _save(root / "stroke/s1/s1-dwi.nii.gz", x)
  split = _build(root, tmp_path / "out",
                 ["/x/stroke/s1,0,1,0,0,0"], intensity="percentiles")
  study = split.study(0)
  assert study["series_names"] == ["AX_dwi"]
  # Depth runs to the feet: the last slice of each volume comes first.
  want = np.concatenate([x[..., i].T[::-1] for i in range(2)])
  want = want[:, ::-1, :].reshape(4, 64)
  got = study["volume"][0].reshape(4, 64).astype(float)
  for a, b in zip(want, got):
    assert np.corrcoef(a, b)[0, 1] > 0.99
  np.testing.assert_allclose(study["affine"][0] @ [0, 0, 0, 1], [0, 7, 4, 1])


def test_bad_rows_are_told_and_cost_nothing_else(root, tmp_path):
  rows = (*ROWS, "/x/nowhere/s9,0,0,0,0,1", "/x/open_bhb,0,0,0,0,0")
  split = _build(root, tmp_path / "out", rows)
  assert len(split.source) == 2
  assert {line["study"]: line["reason"] for line in _log(tmp_path / "out")} == {
      "x/nowhere/s9": "the folder is missing",
      "open_bhb": "0 of Normal, Stroke, Glioma, Meningioma, Metastasis are 1, "
                  "want one"}


@pytest.mark.parametrize("text, told", [
    ("study,Normal\nx,1\n", "lacks the column Stroke"),
    (HEADER + "x,a,0,0,0,0\n", "no number"), (HEADER + "x,1\n", "cut off"),
    (HEADER + "x,1,0,0,0,0\ny/x,1,0,0,0,0\nx,1,0,0,0,0\n", "again")])
def test_a_table_that_cannot_be_read_is_an_error(root, tmp_path, text, told):
  table = tmp_path / "table.csv"
  table.write_text(text)
  with pytest.raises(errors.PrepareError, match=told):
    _build(root, tmp_path / "out", (), labels=str(table))
