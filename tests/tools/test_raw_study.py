"""What lies on the disk as one study, and what is refused."""

import dataclasses

import numpy as np
from PIL import Image
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.tools.study_files import one_study
from tests import tiny
from tests.data_pipelines import ct_files
from tests.tools.raw_files import (
    brain, CHEST, HEAD, MR, MRI, PICTURE, write_mri)


def test_geometry_places_the_voxels_of_the_original(tmp_path):
  """A bright voxel lies at one place in the file, the slices and the volume."""
  voxels = np.zeros((5, 8, 8), np.int16)
  voxels[1, 2, 3] = 900
  ct_files.write_nifti(tmp_path / "s/AX_FILE/a.nii.gz", voxels)
  ct_files.write_series(tmp_path / "s/AX_SLICES", voxels, **MR)
  study = one_study.read_raw(tmp_path / "s", dataclasses.replace(
      MRI, resize=(5, 8, 8), shape=(5, 8, 8)))
  assert study.files == (tmp_path / "s/AX_FILE/a.nii.gz",
                         tmp_path / "s/AX_SLICES")
  # x 4 - 3/2, y 4 - 2/2, z 100 + 2, of the first voxel and steps of ct_files
  place = (2.5, 3.0, 102.0, 1.0)
  for s, index in enumerate(((3, 2, 1), (1, 2, 3))):
    shape, affine = study.geometry[s]
    assert shape == ((8, 8, 5), (5, 8, 8))[s]
    np.testing.assert_allclose(affine @ [*index, 1], place)
    at = np.argwhere(study.volume[s] == 255)
    assert len(at) == 1
    np.testing.assert_allclose(study.affine[s] @ [*at[0], 1], place)


def test_a_flat_folder_of_slices_is_split_into_its_series(tmp_path):
  for n, name in enumerate(("Ax T2 / FLAIR", "Cor T1+C", "Ax T2 / FLAIR")):
    for k, pixels in enumerate(brain(n)):
      ct_files.write_slice(
          tmp_path / f"{k}{n}", pixels, (0, 0, 5.0 * k), series=f"1.{n}",
          SeriesDescription=name, **MR)
  (tmp_path / "notes.txt").write_text("no image")
  study = one_study.read_raw(tmp_path, MRI)
  assert study.series_names == ("Ax_T2_FLAIR", "Cor_T1+C", "Ax_T2_FLAIR-2")
  assert [p.name for p in study.dicom[1]] == ["01", "11", "21", "31", "41"]
  ct_files.write_series(tmp_path / "other/AX", brain(1), **MR)
  alone = one_study.read_raw(tmp_path / "other", MRI)
  assert alone.series_names == ("AX",)
  np.testing.assert_array_equal(alone.volume[0], study.volume[1])


def test_a_folder_of_files_is_a_study_without_its_label_maps(tmp_path):
  for name in ("case-t1n", "case-t2f", "case-seg", "brain_mask", "Lesions"):
    write_mri(tmp_path / f"{name}.nii.gz", seed=len(name))
  write_mri(tmp_path / "AX_SWI/any name.nii")
  write_mri(tmp_path / "anat/T1w.nii.gz")
  write_mri(tmp_path / "anat/T2w.nii.gz")
  study = one_study.read_raw(tmp_path, MRI)
  assert study.series_names == (
      "case-t1n", "case-t2f", "AX_SWI", "T1w", "T2w")
  one = one_study.read_raw(tmp_path / "case-seg.nii.gz", MRI)
  assert one.series_names == ("case-seg",)  # it was named


def test_a_series_in_its_usual_file_is_called_after_its_folder(tmp_path):
  file = write_mri(tmp_path / "study/AX_T1/img.nii.gz")
  for path in (file, file.parent, file.parents[1]):
    assert one_study.read_raw(path, MRI).series_names == ("AX_T1",)


def test_series_that_cannot_be_read_are_told(tmp_path):
  write_mri(tmp_path / "AX_GOOD/img.nii.gz")
  (tmp_path / "AX_BAD").mkdir()
  (tmp_path / "AX_BAD/img.nii").write_text("no image")
  ct_files.write_series(tmp_path / "CT")
  ct_files.write_series(tmp_path / "DWI", brain(), order=(0, 1, 1, 2, 3, 4),
                        series="1.9", **MR)
  study = one_study.read_raw(tmp_path, MRI)
  assert study.series_names == ("AX_GOOD", "DWI")
  assert study.notes == (
      "Series AX_BAD is left out: not a NIfTI file (ImageFileError).",
      "Series CT is left out: modality CT, want MR.",
      "Series DWI: dropped 1 duplicate slices.")
  with pytest.raises(UserError, match="that can be used. Series AX_BAD is"):
    one_study.read_raw(tmp_path / "AX_BAD", MRI)


def test_a_tensor_is_left_out_by_a_model_of_known_orientations(
    tmp_path, monkeypatch):
  write_mri(tmp_path / "AX_T1/img.nii.gz")
  (tmp_path / "AX_T2").mkdir()
  (tmp_path / "AX_T2/img.pt").write_bytes(b"")
  monkeypatch.setattr("data_pipelines.volumes.torch_file.read_tensor",
                      lambda path: brain() % 256)
  known = one_study.read_raw(tmp_path, MRI)
  assert known.series_names == ("AX_T1",)
  assert "AX_T2 is left out: its orientation is unknown" in known.notes[0]
  both = one_study.read_raw(tmp_path, dataclasses.replace(
      MRI, orientation=MRI.orientation | {"unknown": "???"}))
  assert both.series_names == ("AX_T1", "AX_T2") and not both.notes
  assert both.geometry[1] is None and both.files[1].name == "img.pt"


def test_of_several_chest_series_the_thinnest_axial_one_is_taken(tmp_path):
  hu = ct_files.patient()
  ct_files.write_series(tmp_path / "thick", hu, series="1.1")
  ct_files.write_series(tmp_path / "thin", hu, gap=1.0, series="1.2")
  ct_files.write_series(tmp_path / "cor", hu, gap=0.5, series="1.3",
                        axes=(1, 0, 0, 0, 0, -1))
  ct_files.write_series(tmp_path / "scout", hu, series="1.4",
                        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
  study = one_study.read_raw(tmp_path, CHEST)
  assert study.files == (tmp_path / "thin",)
  assert study.series_names == ("CHEST",) and study.air == -1150
  told = " ".join(study.notes)
  assert "thin is taken, whose axial slices are the closest (1 mm)" in told
  assert "left out: thick." in told and "scout is left out" in told
  assert "cor is left out" in told


def test_a_head_in_nifti_has_the_windows_of_its_slices(tmp_path):
  ct_files.write_series(tmp_path / "CT Plain")
  ct_files.write_nifti(tmp_path / "CT Plain.nii.gz", ct_files.patient(),
                       axes="RAS")
  file = one_study.read_raw(tmp_path / "CT Plain.nii.gz", HEAD)
  slices = one_study.read_raw(tmp_path / "CT Plain", HEAD)
  np.testing.assert_array_equal(file.volume, slices.volume)
  assert file.series_names == slices.series_names == tuple(
      f"CT_Plain_AX_{w}Window" for w in ("Bone", "Brain", "Blood"))


def test_a_grey_picture_becomes_red_green_and_blue(tmp_path):
  Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "a.png")
  study = one_study.read_raw(tmp_path / "a.png", PICTURE)
  assert study.volume.shape == (1, 3, 20, 30) and (study.volume == 7).all()
  assert study.files == (tmp_path / "a.png",) and study.modality == "RGB"


def test_surplus_series_are_cut_with_all_that_is_known_of_them(tmp_path):
  for n, name in enumerate("ABC"):
    ct_files.write_series(tmp_path / name, brain(), series=f"1.{n}", **MR)
  study = one_study.read_raw(tmp_path, MRI)
  config = tiny.config(data={"max_series": 2}, vision={
      "volume_shape": (4, 8, 8), "patch": (4, 4, 4)})
  cut = one_study.fit(study, config)
  each = ("series_names", "volume", "affine", "files", "geometry", "dicom")
  assert {len(getattr(cut, name)) for name in each} == {2}
  assert cut.notes == ("The model reads 2 series a study; left out: C.",)


def test_several_chest_files_are_named(tmp_path):
  for name in ("a", "b"):
    ct_files.write_nifti(tmp_path / f"{name}.nii.gz", ct_files.patient())
  with pytest.raises(UserError, match="holds 2 volumes.*such as a.nii.gz"):
    one_study.read_raw(tmp_path, CHEST)


@pytest.mark.parametrize("contract", [CHEST, HEAD])
def test_what_are_no_hounsfield_units_is_refused(tmp_path, contract):
  raw = tmp_path / "raw.nii.gz"
  ct_files.write_nifti(raw, ct_files.patient() + 1024)
  with pytest.raises(UserError, match="no Hounsfield units"):
    one_study.read_raw(raw, contract)
  lost = tmp_path / "lost.nii.gz"
  ct_files.write_nifti(lost, ct_files.patient(), placed=False)
  with pytest.raises(UserError, match="where the patient is"):
    one_study.read_raw(lost, contract)


def test_slices_of_two_studies_are_refused(tmp_path):
  ct_files.write_series(tmp_path / "a", series="1.1")
  ct_files.write_series(tmp_path / "b", series="1.2", StudyInstanceUID="1.9")
  for contract in (CHEST, HEAD, MRI):
    with pytest.raises(UserError, match="slices of 2 studies"):
      one_study.read_raw(tmp_path, contract)


@pytest.mark.parametrize("contract, change, told", [
    (CHEST, {"intensity": "logarithms"}, "wants the intensities 'logarithms'"),
    (CHEST, {"orientation": {"axial": "SAL"}}, "orientation .'axial': 'SPL'."),
    (HEAD, {"intensity": "one window"}, "windows of level/width bone 600/2800"),
    (HEAD, {"spacing_mm": (1, 1, 1)}, "wants volumes of spacing_mm"),
    (PICTURE, {"dtype": "int16"}, "wants volumes of dtype 'int16'"),
    (MRI, {"modality": "RGB"}, "wants volumes of modality 'RGB'")])
def test_a_contract_that_no_reader_meets_names_both_sides(
    tmp_path, contract, change, told):
  with pytest.raises(UserError, match=told) as error:
    one_study.read_raw(tmp_path, dataclasses.replace(contract, **change))
  assert "but raw files are prepared with" in str(error.value)


@pytest.mark.parametrize("contract, told", [
    (MRI, "There is no study at"), (CHEST, "There is no study at"),
    (HEAD, "There is no study at"), (PICTURE, "there is no file")])
def test_nothing_is_one_sentence(tmp_path, contract, told):
  for path in (tmp_path, tmp_path / "nowhere"):
    with pytest.raises(UserError, match=told):
      one_study.read_raw(path, contract)
  with pytest.raises(UserError, match="cannot be used|There is no study"):
    (tmp_path / "a.txt").write_text("no image")
    one_study.read_raw(tmp_path / "a.txt", contract)
