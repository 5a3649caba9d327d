"""Series: NIfTI, DICOM slices or published tensors, mixed within a study."""

import csv
import json
import pathlib
import pickle
import struct
import zipfile

import nibabel as nib
import numpy as np
import pydicom
from pydicom import dataset as pydicom_dataset
from pydicom import uid
import pytest

from data_pipelines import errors
from itemclip_jax.data import record

PATIENT = "DOE^JANE"


def _log(out):
  return [json.loads(line)
          for line in (out / "ingest.jsonl").read_text().splitlines()]


def _slices(folder, voxels, *, spacing=5.0, modality="MR", series="1.2.3",
            skip=()):
  """Axial slices [D, H, W] from feet to head; rows to the back, columns to the
  patient's left, as DICOM has it."""
  folder.mkdir(parents=True, exist_ok=True)
  for number, pixels in enumerate(voxels):
    if number in skip:
      continue
    meta = pydicom_dataset.FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    ds = pydicom.Dataset()
    ds.file_meta = meta
    ds.SOPClassUID = uid.MRImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", series
    ds.PatientName, ds.PatientID, ds.Modality = PATIENT, "4711", modality
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.ImagePositionPatient = [-10.0, -20.0, 7.0 + spacing * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [1.0, 2.0]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds.save_as(folder / f"DOE_{number:03d}.dcm", enforce_file_format=True)


class _Storage:
  """Pickles as torch's reference to the bytes of a tensor."""

  def __init__(self, name, size):
    self.name, self.size = name, size


def _tensor_file(path, voxels, storage):
  """Writes [D, H, W] as `torch.save` does, without torch."""
  class _Global:
    def __init__(self, module, name):
      self.module, self.name = module, name

  class _Pickler(pickle._Pickler):
    dispatch = pickle._Pickler.dispatch.copy()

    def persistent_id(self, value):
      if isinstance(value, _Storage):
        return ("storage", _Global("torch", value.name), "0", "cpu", value.size)
      return None

    def save_global_(self, value):
      self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    dispatch[_Global] = save_global_

    def save_tensor(self, value):
      self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
      strides = tuple(s // value.itemsize for s in value.strides)
      self.save((_Storage(storage, value.size), 0, value.shape, strides, False,
                 {}))
      self.write(pickle.REDUCE)

    dispatch[np.ndarray] = save_tensor

  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, "w") as archive:
    with archive.open("img/data.pkl", "w") as file:
      _Pickler(file, 2).dump(np.ascontiguousarray(voxels))
    archive.writestr("img/data/0", voxels.tobytes())
    archive.writestr("img/byteorder",
                     "little" if struct.pack("=H", 1)[0] else "big")


def _folder(archive, name, study="s1"):
  """A further series of a study, still empty."""
  archive.entries["train"][study]["series"][name] = {}
  return archive.root / "train" / study / name


def test_slices_are_stored_like_the_same_volume_in_nifti(archive, tmp_path):
  # x to the left, y to the back, z to the head: pixels as DICOM stores them.
  pixels = np.random.default_rng(0).integers(0, 900, (4, 6, 8))
  affine = np.diag([-2.0, -1.0, 5.0, 1.0])
  affine[:3, 3] = (10.0, 20.0, 7.0)
  archive.add("s1", np.transpose(pixels, (2, 1, 0)), affine, name="AX_NIFTI")
  _slices(_folder(archive, "AX_DICOM"), pixels)
  out = archive.build(tmp_path / "out")
  study = record.open_split(out, "train").study(0)
  assert study["series_names"] == ["AX_NIFTI", "AX_DICOM"]
  assert study["orientation"] == ["IPR", "IPR"]
  np.testing.assert_array_equal(*study["volume"])
  np.testing.assert_allclose(*study["affine"], atol=1e-5)
  np.testing.assert_allclose(study["source_spacing_mm"], [[5, 1, 2]] * 2)
  assert study["source"] == ["train/s1/AX_NIFTI/img.nii.gz",
                             "train/s1/AX_DICOM"]


def test_slices_that_are_no_series_are_told_without_their_names(
    archive, tmp_path):
  archive.add("s1")
  pixels = np.random.default_rng(0).integers(0, 900, (6, 8, 8))
  _slices(_folder(archive, "CT"), pixels, modality="CT")
  _slices(_folder(archive, "GAP"), pixels, skip=(3,))
  two = _folder(archive, "TWO")
  _slices(two / "a", pixels, series="1.1")
  _slices(two / "b", pixels, series="1.2")
  _folder(archive, "TEXT").mkdir()
  (archive.root / "train/s1/TEXT/notes.txt").write_text("hello")
  cut = _folder(archive, "CUT")
  _slices(cut, pixels)
  whole = (cut / "DOE_002.dcm").read_bytes()
  (cut / "DOE_002.dcm").write_bytes(whole[:-40])
  out = archive.build(tmp_path / "out")
  assert record.open_split(out, "train").study(0)["series_names"] == ["AX_T1"]
  reasons = {line["series"]: line["reason"] for line in _log(out)}
  assert "modality CT, want MR" in reasons["CT"]
  assert "missing" in reasons["GAP"]
  assert reasons["TWO"] == "2 series in one folder, want one"
  assert "no DICOM file" in reasons["TEXT"]
  assert "unreadable pixels" in reasons["CUT"]
  assert "DOE" not in str(reasons)


def test_a_tensor_is_stored_as_it_is_and_its_place_is_unknown(
    archive, tmp_path):
  done = np.random.default_rng(0).integers(0, 256, (4, 10, 10))
  archive.add("s1")
  _tensor_file(_folder(archive, "AX_PT") / "img.pt",
               done.astype(np.float32), "FloatStorage")
  _tensor_file(_folder(archive, "AX_BYTE") / "img.pt",
               done[None].astype(np.uint8), "ByteStorage")
  out = archive.build(tmp_path / "out", shape=(4, 8, 8), resize=(4, 10, 10))
  split = record.open_split(out, "train")
  study = split.study(0)  # passes the contract's check
  assert split.contract.orientation["unknown"] == "???"
  assert study["orientation"] == ["IPR", "???", "???"]
  for stored in study["volume"][1:]:
    np.testing.assert_array_equal(stored, done[:, 1:9, 1:9])
  # The corner's place in the file, as nothing is known of the patient.
  np.testing.assert_array_equal(study["affine"][1] @ [0, 0, 0, 1], [0, 1, 1, 1])
  assert np.isnan(study["source_spacing_mm"][1]).all()


def test_archives_without_tensors_have_the_contract_of_before(
    archive, tmp_path):
  archive.add("s1")
  split = record.open_split(archive.build(tmp_path / "out"), "train")
  assert set(split.contract.orientation) == {"axial", "coronal", "sagittal"}


@pytest.mark.parametrize("voxels, storage, reason", [
    (np.full((4, 8, 8), 300.0, np.float32), "FloatStorage", "want 0..255"),
    (np.full((4, 8, 8), np.nan, np.float32), "FloatStorage", "want 0..255"),
    (np.ones((8, 8), np.float32), "FloatStorage", "want three axes")])
def test_tensors_of_another_kind_are_told(
    archive, tmp_path, voxels, storage, reason):
  archive.add("s1")
  _tensor_file(_folder(archive, "AX_PT") / "img.pt", voxels, storage)
  (line,) = _log(archive.build(tmp_path / "out"))
  assert line["series"] == "AX_PT" and reason in line["reason"]


def test_tensors_are_not_rescaled_by_another_rule(archive, tmp_path):
  archive.add("s1")
  _tensor_file(_folder(archive, "AX_PT") / "img.pt",
               np.arange(256, dtype=np.uint8).reshape(4, 8, 8), "ByteStorage")
  (line,) = _log(archive.build(tmp_path / "out", intensity="median"))
  assert "wants raw ones" in line["reason"]


def test_a_table_replaces_reports(archive, tmp_path):
  archive.add("s1", report=("Old.",))
  archive.add("s2", report=("Kept.",))
  table = tmp_path / "new.csv"
  with open(table, "w", newline="") as file:
    csv.writer(file).writerows([
        ("study", "items"), ("s1", "1. Mass, left.\n2. Old infarct."),
        ("elsewhere", "1. Nothing.")])
  out = archive.build(tmp_path / "out", reports=str(table))
  split = record.open_split(out, "train")
  items = {s["study_id"]: s["items"] for s in map(split.study, range(2))}
  assert items == {"s1": ["Mass, left.", "Old infarct."], "s2": ["Kept."]}


def test_a_table_of_other_columns_is_an_error(archive, tmp_path):
  archive.add("s1")
  (tmp_path / "new.csv").write_text("s1,1. A,more\n")
  with pytest.raises(errors.PrepareError, match="Row 1 .* has 3 columns"):
    archive.build(tmp_path / "out", reports=str(tmp_path / "new.csv"))


def test_a_report_that_is_one_text_is_rejected(archive, tmp_path):
  archive.add("s1")
  archive.add("s2")
  archive.entries["train"]["s2"]["report"] = "Mass."
  out = archive.build(tmp_path / "out")
  (line,) = _log(out)
  assert line["reason"] == "the report is a str, want a list of texts"


@pytest.mark.parametrize("text, told", [
    ("{", "is no JSON"), ("[]", "holds a list"), ('{"s1": 3}', "is a int")])
def test_a_split_file_of_another_kind_is_an_error(
    archive, tmp_path, text, told):
  (tmp_path / "archive").mkdir()
  (tmp_path / "archive" / "test.json").write_text(text)
  with pytest.raises(errors.PrepareError, match=told):
    archive.build(tmp_path / "out")


def test_no_damage_to_a_file_stops_the_others(archive, tmp_path):
  rng = np.random.default_rng(0)
  archive.add("good")
  archive.add("s1", name="AX_NIFTI")
  _slices(_folder(archive, "AX_DICOM"), rng.integers(0, 900, (4, 8, 8)))
  _tensor_file(_folder(archive, "AX_PT") / "img.pt",
               np.arange(256, dtype=np.uint8).reshape(4, 8, 8), "ByteStorage")
  entry = archive.entries["train"].pop("s1")
  for number in range(20):
    study = f"s{number}"
    for path in (archive.root / "train" / "s1").rglob("*.*"):
      whole = bytearray(path.read_bytes())
      if number % 2:
        whole = whole[:rng.integers(0, len(whole))]
      for at in rng.integers(0, len(whole), min(4, len(whole))):
        whole[at] = rng.integers(0, 256)
      copy = archive.root / "train" / f"broken-{study}" / path.relative_to(
          archive.root / "train" / "s1")
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(bytes(whole))
    archive.entries["train"][f"broken-{study}"] = entry
  out = archive.build(tmp_path / "out")
  assert "good" in record.open_split(out, "train").index["study_id"]
  lines = _log(out)
  assert len(lines) > 20 and all(line["reason"] for line in lines)
  assert "DOE" not in str(lines) and "4711" not in str(lines)


def test_a_real_volume_survives_the_journey(archive, tmp_path):
  """nibabel's own test image, an MR head of 128 x 96 x 24 voxels."""
  path = pathlib.Path(nib.__path__[0]) / "tests/data/example4d.nii.gz"
  if not path.exists():
    pytest.skip("nibabel came without its test data")
  image = nib.load(path)
  archive.add("s1", np.asarray(image.dataobj)[..., 0], image.affine)
  out = archive.build(tmp_path / "out", shape=(24, 64, 64),
                      resize=(24, 64, 64))
  study = record.open_split(out, "train").study(0)
  assert study["orientation"] == ["IPR"]
  np.testing.assert_allclose(
      study["source_spacing_mm"][0], [2.2, 2, 2], atol=0.01)
  middle = study["volume"][0][12]
  assert middle[20:44, 20:44].mean() > 2 * middle[:4].mean()
