"""DICOM series: what is trusted, what is mended, what is refused."""

import pathlib

import nibabel as nib
import numpy as np
import pydicom
from pydicom import data as pydicom_data
from pydicom import uid
import pytest

from data_pipelines.volumes import ct
from data_pipelines.volumes import dicom
from data_pipelines.volumes.nifti import SeriesError
from tests.data_pipelines import ct_files


def _read(folder, **options):
  headers, _ = dicom.find_headers(folder)
  series = dicom.group(headers)
  assert len(series) == 1
  return dicom.read_series(series[0], **options)


def _position_of_bone(volume) -> np.ndarray:
  """RAS mm of the middle of what is as dense as bone."""
  index = np.argwhere(volume.voxels > 500).mean(0)
  return (volume.affine @ [*index, 1])[:3]


def test_slices_are_ordered_by_position_alone(tmp_path):
  ct_files.write_series(tmp_path, order=[5, 0, 7, 2, 1, 6, 3, 4])
  series = _read(tmp_path)
  np.testing.assert_array_equal(series.volume.voxels, ct_files.patient())
  np.testing.assert_allclose(series.volume.spacing_mm, (2.0, 0.5, 0.5))
  np.testing.assert_allclose(
      series.volume.affine @ [0, 0, 0, 1], (4, 4, 100, 1))
  assert series.notes == ()


@pytest.mark.parametrize("axes", [
    (1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0),
    (0, 1, 0, 1, 0, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)])
@pytest.mark.parametrize("position", ["HFS", "FFS"])
def test_left_stays_left_and_feet_stay_feet(tmp_path, axes, position):
  """The same patient, in slices along every axis and in any direction."""
  x = ct_files.patient((16, 16, 16))               # z, y, x at 1 mm
  column, row = np.reshape(axes, (2, 3))
  step = np.cross(column, row)
  # First voxel of the file: the end that each axis of the file runs from.
  start = np.array([15 if -1 in (a[i] for a in (column, row, step)) else 0
                    for i in range(3)])
  for k in range(16):
    picture = np.zeros((16, 16))
    for r, c in np.ndindex(16, 16):
      i, j, l = start + c * column + r * row + k * step
      picture[r, c] = x[l, j, i]
    ct_files.write_slice(tmp_path / f"{(k * 7) % 16}.dcm", picture,
                         start + k * step, axes=axes, spacing=(1, 1),
                         PatientPosition=position)
  volume = ct.to_canonical(_read(tmp_path).volume)
  assert "".join(nib.aff2axcodes(volume.affine)) == "SPL"
  np.testing.assert_array_equal(volume.voxels, x)
  # Bone is at the patient's right (+x in RAS), front and feet.
  np.testing.assert_allclose(_position_of_bone(volume), (-4, -4, 1.5))


def test_hounsfield_units_are_computed_in_floats_slice_by_slice(tmp_path):
  x = ct_files.patient()
  for k, (slope, intercept) in enumerate(
      [(1, -1024), (0.5, -1000), (2, -8192), (1, 0)]):
    ct_files.write_slice(tmp_path / f"{k}", x[k], (0, 0, k), slope=slope,
                         intercept=intercept)
  voxels = _read(tmp_path).volume.voxels
  assert voxels.dtype == np.float32
  np.testing.assert_array_equal(voxels, x[:4])


def test_padding_around_the_image_becomes_air(tmp_path):
  x = ct_files.patient()
  x[:, 0] = -3024                                   # stored as -2000
  ct_files.write_series(tmp_path, x, PixelPaddingValue=-2000)
  voxels = _read(tmp_path).volume.voxels
  assert (voxels[:, 0] == -1024).all()
  np.testing.assert_array_equal(voxels[:, 1:], x[:, 1:])


def test_padding_around_an_mr_image_becomes_its_darkest_value(tmp_path):
  x = ct_files.patient()
  x[:, 0] = -3024
  ct_files.write_series(tmp_path, x, PixelPaddingValue=-2000, Modality="MR")
  headers, _ = dicom.find_headers(tmp_path)
  voxels = dicom.read_series(headers, modality="MR").volume.voxels
  assert voxels.min() == x[:, 1:].min()
  np.testing.assert_array_equal(voxels[:, 1:], x[:, 1:])


def test_monochrome1_changes_no_number(tmp_path):
  ct_files.write_series(tmp_path, PhotometricInterpretation="MONOCHROME1")
  np.testing.assert_array_equal(
      _read(tmp_path).volume.voxels, ct_files.patient())


def test_a_duplicate_slice_is_dropped_and_told(tmp_path):
  ct_files.write_series(tmp_path, order=[0, 1, 2, 3, 3, 4, 5, 6, 7])
  series = _read(tmp_path)
  np.testing.assert_array_equal(series.volume.voxels, ct_files.patient())
  assert series.notes == ("dropped 1 duplicate slices",)


def test_a_localiser_among_the_slices_costs_nothing_else(tmp_path):
  ct_files.write_series(tmp_path)
  ct_files.write_slice(tmp_path / "scout", ct_files.patient((1, 9, 9))[0],
                       (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY",
                                             "LOCALIZER"])
  series = _read(tmp_path)
  assert series.volume.shape == (8, 16, 16)
  assert series.notes == ("left out 1 slice: a localiser",)


def _tilted(folder, degrees):
  """Slices in the plane z = 0, stacked along a line that leans to the back."""
  step = 2 * np.array([0, np.sin(np.radians(degrees)),
                       np.cos(np.radians(degrees))])
  for k, picture in enumerate(ct_files.patient()):
    ct_files.write_slice(folder / f"{k}", picture, k * step)
  return step


def test_a_small_tilt_stays_exact_in_the_affine(tmp_path):
  step = _tilted(tmp_path, 3.0)
  series = _read(tmp_path)
  np.testing.assert_allclose(
      (series.volume.affine @ [7, 0, 0, 1])[:3], 7 * step * (-1, -1, 1),
      atol=1e-5)
  assert series.notes == ("gantry tilt of 3.0 degrees, kept in the affine",)


def test_the_largest_tilt_is_an_option(tmp_path):
  _tilted(tmp_path, 20.0)
  with pytest.raises(SeriesError, match="tilt of 20.0 degrees, want at most 5"):
    _read(tmp_path)
  assert _read(tmp_path, max_tilt=25.0).notes


def test_oblique_slices_are_no_tilt(tmp_path):
  turn = np.radians(20)
  down = (0, np.cos(turn), -np.sin(turn))
  normal = np.cross((1, 0, 0), down)
  for k, picture in enumerate(ct_files.patient()):
    ct_files.write_slice(tmp_path / f"{k}", picture, 2 * k * normal,
                         axes=(1, 0, 0, *down))
  series = _read(tmp_path)
  assert series.notes == ()
  np.testing.assert_allclose(series.volume.spacing_mm, (2, 0.5, 0.5))


X = ct_files.patient()
CAPTURE = str(uid.SecondaryCaptureImageStorage)
LAST = {  # reason -> how the last of 8 slices differs from the others
    "^modality MR, want CT": {"Modality": "MR"},
    "mixed sizes: 7 slices of 16 x 16, 1 slice of 8 x 16":
        {"picture": X[7][:8]},
    "mixed orientations: 1 of 8": {"axes": (0, 1, 0, 1, 0, 0)},
    "mixed pixel spacings: 1 of 8": {"spacing": (0.6, 0.6)},
    "uneven gaps: 1 of 7 differ from 2 mm, the largest is 4 mm":
        {"position": (0, 0, 16)},
    "1 of 8 slices share their place": {"position": (0, 0, 12)},
    "do not lie on one line": {"position": (9, 0, 14)},
    r"unreadable pixels \(ValueError\)": {"PixelData": b"\0\0"},
    "no numbers after slope 0": {"slope": 1, "RescaleSlope": 0},
}
ALL = {  # reason -> what all slices have
    "8 slices: a secondary capture": {"SOPClassUID": CAPTURE},
    "8 slices: a localiser": {"ImageType": ["DERIVED", "LOCALIZER"]},
    "modality MR, want CT": {"Modality": "MR"},
    "8 slices: a colour image": {"PhotometricInterpretation": "PALETTE COLOR"},
    "8 slices: several frames": {"NumberOfFrames": 4},
    "8 slices: no ImagePositionPatient": {"ImagePositionPatient": None},
    "8 slices: no PixelSpacing": {"PixelSpacing": None},
    "no pair of right-angled axes": {"axes": (1, 0, 0, 1, 0, 0)},
    "8 slices: no image": {"Rows": None},
    "8 slices: a damaged header": {"NumberOfFrames": None, "axes": (1, 0)},
}


def _refused(folder) -> str:
  with pytest.raises(SeriesError) as error:
    _read(folder)
  assert "Doe" not in str(error.value) and "MRN" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("reason", LAST)
def test_one_slice_that_does_not_fit_is_told(tmp_path, reason):
  for k in range(8):
    options = dict(LAST[reason]) if k == 7 else {}
    picture = options.pop("picture", X[k])
    position = options.pop("position", (0, 0, 2 * k))
    ct_files.write_slice(tmp_path / f"{k}", picture, position, **options)
  assert pytest.raises(SeriesError, _read, tmp_path).match(reason)
  _refused(tmp_path)


@pytest.mark.parametrize("reason", ALL)
def test_series_that_are_no_volume_are_told(tmp_path, reason):
  ct_files.write_series(tmp_path, **ALL[reason])
  assert pytest.raises(SeriesError, _read, tmp_path).match(reason)
  _refused(tmp_path)


def test_single_slices_are_told(tmp_path):
  ct_files.write_series(tmp_path, X[:1])
  assert _refused(tmp_path) == "1 slice in the series, want at least 3"


def test_a_missing_codec_is_told(tmp_path):
  ct_files.write_series(tmp_path)
  for path in tmp_path.iterdir():
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    image.PixelData = pydicom.encaps.encapsulate([b"\0" * 16])
    image["PixelData"].is_undefined_length = True
    image.save_as(path)
  assert "JPEG Lossless" in _refused(tmp_path)
  assert "pylibjpeg" in _refused(tmp_path)


def test_other_files_are_told_apart(tmp_path):
  ct_files.write_series(tmp_path / "a")
  ct_files.write_series(tmp_path / "b", series="1.2.4")
  (tmp_path / "notes.txt").write_text("hello")
  headers, others = dicom.find_headers(tmp_path)
  assert [len(g) for g in dicom.group(headers)] == [8, 8]
  assert [path.name for path in others] == ["notes.txt"]


@pytest.fixture(name="archive")
def _archive() -> pathlib.Path:
  """A real archive that comes with pydicom, at 16 x 16 pixels."""
  folder = pydicom_data.get_testdata_file("dicomdirtests/DICOMDIR")
  return pathlib.Path(folder).parent


def test_real_series_with_missing_slices(archive):
  with pytest.raises(SeriesError, match="1 of 3 differ from 1.25 mm, the .* "
                                        "202 mm: slices are missing"):
    _read(archive / "77654033/CT2")


def test_real_series_feet_first(archive):
  series = _read(archive / "98892001/CT5N")
  volume = ct.to_canonical(series.volume)
  assert volume.shape == (5, 16, 16)
  np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.488281, 0.488281))
  np.testing.assert_allclose(
      volume.affine @ [4, 0, 0, 1], (72.199997, 143, 8.7625, 1), atol=1e-4)
  top = pydicom.dcmread(archive / "98892001/CT5N/2062")
  np.testing.assert_array_equal(volume.voxels[4], top.pixel_array - 1024.0)


def test_real_localisers(archive):
  with pytest.raises(SeriesError, match="2 slices: a localiser"):
    _read(archive / "98892001/CT2N")
