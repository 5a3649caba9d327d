"""One study of any kind: raw files and records give the same voxels."""

import csv
import dataclasses
import shutil
import types

import nibabel as nib
import numpy as np
import pytest

from data_pipelines import datasets, prepare
from data_pipelines.phantom import chest_files
from itemclip_jax.data import example, record
from itemclip_jax.tools.study_files import one_study
from tests import tiny
from tests.data_pipelines import ct_files
from tests.tools.raw_files import brain, HEAD, MR, write_mri


def _build(out, name, **options):
  prepare.build(datasets.make(name, **options), out, num_workers=1)
  return out


def _first(root, split="train"):
  """The first record of a split as a study, and the contract of its set."""
  contract = record.read_contract(root)
  name = record.open_split(root, split).index["study_id"][0]
  return one_study.read_record(root, f"{split}/{name}", contract,
                               checkpoint="the model"), contract


def _require_same(raw, stored):
  """Names, voxels and places of two studies, whatever their order."""
  assert sorted(raw.series_names) == sorted(stored.series_names)
  for s, name in enumerate(raw.series_names):
    t = stored.series_names.index(name)
    np.testing.assert_array_equal(raw.volume[s], stored.volume[t])
    # Records hold float32.
    np.testing.assert_allclose(raw.affine[s], stored.affine[t], atol=1e-4)
    assert raw.files[s] == stored.files[t]
    assert raw.dicom[s] == stored.dicom[t]
    assert raw.geometry[s][0] == stored.geometry[t][0]
    np.testing.assert_array_equal(raw.geometry[s][1], stored.geometry[t][1])
  assert raw.volume.dtype == stored.volume.dtype
  assert (raw.modality, raw.air) == (stored.modality, stored.air)


def test_mri_files_are_read_like_their_record(tiny_set):
  stored, contract = _first(tiny_set, "test")
  raw = one_study.read_raw(stored.files[0].parents[1], contract)
  _require_same(raw, stored)
  assert raw.modality == "MRI" and not raw.notes and not stored.notes
  assert raw.series_names == tuple(sorted(raw.series_names))


def test_what_is_read_for_a_model_fits_it(tiny_set):
  stored, contract = _first(tiny_set, "test")
  config = tiny.config(tiny_set, data={"max_series": 2})
  model = types.SimpleNamespace(contract=contract, config=config)
  given = {"checkpoint": "runs/x", "record_name": f"test/{stored.name}"}
  record_of = one_study.read(tiny_set, model, **given)
  assert record_of.series_names == stored.series_names[:2]
  raw = one_study.read(stored.files[0].parents[1], model, checkpoint="runs/x")
  assert raw.series_names == tuple(sorted(stored.series_names))[:2]
  assert config.vision.grid == (2, 3, 3)
  model.contract = dataclasses.replace(contract, intensity="logarithms")
  with pytest.raises(ValueError, match="in the checkpoint in runs/x but"):
    one_study.read(tiny_set, model, **given)


def test_hashed_studies_find_their_files_by_the_private_table(tmp_path):
  source, out = tmp_path / "archive", tmp_path / "out"
  write_mri(source / "train/doe/AX_T1/img.nii.gz")
  ct_files.write_series(source / "train/doe/AX_T2", brain(1), **MR)
  (source / "train.json").write_text(
      '{"doe": {"series": {"AX_T1": {}, "AX_T2": {}}, "report": ["x."]}}')
  _build(out, "studies", source=str(source), resize=(4, 8, 8), shape=(4, 8, 8))
  stored, contract = _first(out)
  raw = one_study.read_raw(source / "train/doe", contract)
  _require_same(raw, stored)
  assert stored.name != "doe" and len(stored.dicom[1]) == 5
  assert "may tell who the patient is" in stored.notes[0]
  (tmp_path / "out.ids.jsonl").unlink()
  hidden, _ = _first(out)
  assert hidden.files == hidden.geometry == (None, None)
  assert "AX_T1, AX_T2 are not at hand" in hidden.notes[0]


def _chest(tmp_path, monkeypatch, kind="hounsfield"):
  """A set of one chest whose file is of this kind."""
  rates = [float(f.name == kind) for f in chest_files.FORMATS]
  monkeypatch.setattr(chest_files, "FORMAT_RATES", np.divide(rates, sum(rates)))
  return _build(tmp_path / "set", "phantom_chest", num_train=1, num_valid=0,
                num_test=0)


@pytest.mark.parametrize("kind", ["hounsfield", "dicom"])
def test_a_chest_is_read_like_its_record(tmp_path, monkeypatch, kind):
  stored, contract = _first(_chest(tmp_path, monkeypatch, kind))
  _require_same(one_study.read_raw(stored.files[0], contract), stored)
  # The folder of the scan also holds organs.nii.gz and lesions.nii.gz.
  _require_same(one_study.read_raw(stored.files[0].parent, contract), stored)
  assert stored.volume.dtype == np.int16 and stored.air == -1150
  assert stored.lesion_mask is not None
  assert len(stored.dicom[0]) == (64 if kind == "dicom" else 0)


def test_an_array_without_a_header_is_read_like_its_record(tmp_path):
  source = tmp_path / "archive"
  source.mkdir()
  np.savez(source / "trn1.npz", ct=ct_files.patient())
  (source / "labels.csv").write_text("NoteAcc_DEID,nodule*left\ntrn1,1\n")
  stored, contract = _first(
      _build(tmp_path / "out", "rad_chest_ct", source=str(source)))
  raw = one_study.read_raw(source / "trn1.npz", contract)
  np.testing.assert_array_equal(raw.volume, stored.volume)
  np.testing.assert_allclose(raw.affine, stored.affine, atol=1e-6)
  assert raw.files == stored.files == (source / "trn1.npz",)
  assert raw.geometry == stored.geometry == (None,)


@pytest.fixture(name="head")
def _head(tmp_path):
  """A CQ500 archive of one subject with two series."""
  folder = tmp_path / "cq500/CQ500CT7 CQ500CT7/Unknown Study"
  ct_files.write_series(folder / "CT Plain", series="1.1")
  ct_files.write_series(folder / "CT Thin", series="1.2", gap=1.0,
                        order=range(7, -1, -1))
  with open(tmp_path / "cq500/reads.csv", "w", newline="") as file:
    csv.writer(file).writerows([["name", "consensus_ICH"], ["CQ500CT7", 1]])
  return folder


def test_a_head_is_read_like_its_record(tmp_path, head):
  out = _build(tmp_path / "set", "cq500", source=str(tmp_path / "cq500"),
               resize=(8, 20, 20), shape=(8, 16, 16), brain_window=(35.0, 70.0))
  stored, contract = _first(out, "test")
  assert contract.recipe["brain_window"] == [35, 70]
  raw = one_study.read_raw(head, contract)
  _require_same(raw, stored)
  assert raw.series_names == stored.series_names  # and the order
  assert raw.files[::3] == (head / "CT Plain", head / "CT Thin")
  # From the feet up, whatever the files are called.
  assert [p.name for p in raw.dicom[3]] == [f"{n:03d}.dcm"
                                            for n in range(7, -1, -1)]


def test_a_picture_is_read_like_its_record(tmp_path):
  out = _build(tmp_path / "set", "digit_scenes", num_train=1, num_valid=0,
               num_test=0)
  stored, contract = _first(out)
  raw = one_study.read_raw(stored.files[0], contract)
  np.testing.assert_array_equal(raw.volume, stored.volume)
  assert raw.volume.shape == stored.lesion_mask.shape == (1, 3, 64, 64)
  assert raw.series_names == stored.series_names == ("",)
  assert raw.geometry == stored.geometry == (None,)
  assert stored.item_visible.shape == (len(stored.items), 1)
  assert stored.notes == ()


def _for_evaluation(config, stored, air=0.0):
  """What the loader makes of a record."""
  tokenize = lambda slots: np.zeros((len(slots), 1), np.int32)
  return example.MakeExample(config, tokenize, air)(stored, 1)


def _require_same_inputs(study, config, want):
  names = ("volume", "series_mask", "series_names")
  for name, value in zip(names, one_study.inputs(study, config), strict=True):
    np.testing.assert_array_equal(value[0], want[name])
    assert value.dtype == want[name].dtype


@pytest.mark.parametrize("shape", [(24, 80, 48), (32, 64, 64)])
def test_a_chest_is_cut_and_padded_as_in_evaluation(
    tmp_path, monkeypatch, shape):
  out = _chest(tmp_path, monkeypatch)
  study, contract = _first(out)
  config = tiny.config(vision={"volume_shape": shape, "patch": (8, 16, 16)})
  fitted = one_study.fit(study, config)
  stored = record.open_split(out, "train").source[0]
  want = _for_evaluation(config, stored, contract.air)
  for name in ("volume", "lesion_mask"):
    np.testing.assert_array_equal(getattr(fitted, name), want[name])
  np.testing.assert_allclose(fitted.affine, want["affine"], atol=1e-4)
  _require_same_inputs(fitted, config, want)
  assert fitted.geometry is study.geometry
  if shape == (32, 64, 64):
    assert fitted is study
  else:
    assert "the middle 24 x 80 x 48" in fitted.notes[-1]
    assert fitted.volume[0, 0, 0, 0] == -1150


def test_a_picture_is_covered_and_cropped_as_in_evaluation(tmp_path):
  out = _build(tmp_path / "set", "digit_scenes", num_train=1, num_valid=0,
               num_test=0)
  study, _ = _first(out)
  config = tiny.config(data={"max_series": 1}, vision={
      "volume_shape": (3, 32, 48), "patch": (3, 8, 8)})
  fitted = one_study.fit(study, config)
  want = _for_evaluation(config, record.open_split(out, "train").source[0])
  for name in ("volume", "lesion_mask", "affine"):
    np.testing.assert_array_equal(getattr(fitted, name), want[name])
  _require_same_inputs(fitted, config, want)
  assert fitted.lesion_mask.any() and one_study.fit(fitted, config) is fitted


def test_a_record_finds_its_slices_by_the_first_of_them(tmp_path, head):
  """Beside them lie those of another series, as in flat archives."""
  for file in (head / "CT Thin").iterdir():
    shutil.copy(file, head / "CT Plain" / f"thin{file.name}")
  flat = one_study.read_raw(head / "CT Plain", HEAD)
  assert [len(files) for files in flat.dicom] == [8] * 6
  assert flat.dicom[0] == tuple(
      head / "CT Plain" / f"{n:03d}.dcm" for n in range(8))
  out = _build(tmp_path / "set", "cq500", source=str(tmp_path / "cq500"),
               resize=(8, 20, 20), shape=(8, 16, 16))
  stored, _ = _first(out, "test")
  assert stored.dicom[:6] == flat.dicom


def test_a_file_without_a_position_has_no_geometry(tmp_path, monkeypatch):
  """Such files of CT-RATE are placed by its table; their header is a guess."""
  out = _chest(tmp_path, monkeypatch)
  study, _ = _first(out)
  image = nib.load(study.files[0])
  image.set_sform(None, 0)
  image.set_qform(None, 0)
  nib.save(image, tmp_path / "a.nii.gz")
  shutil.move(tmp_path / "a.nii.gz", study.files[0])
  again, _ = _first(out)
  assert again.files == study.files and again.geometry == (None,)
