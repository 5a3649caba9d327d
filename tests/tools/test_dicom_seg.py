"""A DICOM Segmentation lies where its source lies, and says what it is of."""

import sys

import numpy as np
import pydicom
from pydicom import uid
import pytest

import itemclip_jax
from data_pipelines.volumes import dicom, nifti
from itemclip_jax.data import volume
from itemclip_jax.errors import UserError
from itemclip_jax.tools import explain_files
from itemclip_jax.tools.study_files import dicom_seg, one_study, overlay

PATCH, GRID = (3, 8, 8), (4, 4, 4)
SHAPE = tuple(p * g for p, g in zip(PATCH, GRID))
ROWS, COLUMNS, SLICES = 40, 32, 12
TEXTS = ("Finding A — 脳出血.", "Everything alike.",
         "A sentence that is longer than the sixty-four characters of a label.")
# Direction of +column and +row in LPS: axial, axial and tilted, coronal.
PLANES = {"axial": [1, 0, 0, 0, 1, 0], "tilted": [1, 0, 0, 0, 0.96, 0.28],
          "coronal": [1, 0, 0, 0, 0, -1]}


def _write_slices(folder, axes, **changes):
  """Slices of noise around a bright block, in files of shuffled names."""
  folder.mkdir(parents=True)
  along, down = np.reshape(axes, (2, 3)).astype(float)
  normal = np.cross(along, down)
  rng = np.random.default_rng(0)
  study, series, frame = (uid.generate_uid(entropy_srcs=[n]) for n in "abc")
  for k, name in enumerate(rng.permutation(SLICES)):
    tags = pydicom.Dataset()
    tags.file_meta = pydicom.dataset.FileMetaDataset()
    tags.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    tags.SOPClassUID = uid.MRImageStorage
    tags.SOPInstanceUID = uid.generate_uid(entropy_srcs=[f"slice {k}"])
    tags.StudyInstanceUID, tags.SeriesInstanceUID = study, series
    tags.FrameOfReferenceUID, tags.Modality = frame, "MR"
    tags.PatientID = "p1"
    tags.ImageOrientationPatient = axes
    tags.ImagePositionPatient = list(
        np.array([-40.0, -55.0, 12.0]) + 5.0 * k * normal)
    tags.PixelSpacing, tags.SliceThickness = [2.0, 2.5], 5.0
    tags.Rows, tags.Columns, tags.SamplesPerPixel = ROWS, COLUMNS, 1
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.BitsAllocated = tags.BitsStored = 16
    tags.HighBit, tags.PixelRepresentation = 15, 0
    tags.InstanceNumber = int(name) + 1
    tags.PixelData = rng.integers(
        0, 999, (ROWS, COLUMNS)).astype("<u2").tobytes()
    for keyword, value in changes.items():
      setattr(tags, keyword, value)
    tags.save_as(folder / f"{name:02d}.dcm", enforce_file_format=True)


def _study(folder, **changes):
  headers, _ = dicom.find_headers(folder)
  slices, affine, _ = dicom.arrange(headers, modality="MR")
  found = dicom.read_series(headers, modality="MR")
  stored = volume.conform(nifti.to_plane(found.volume)[0], resize_to=SHAPE,
                          shape=SHAPE)
  study = one_study.Study(
      name="s", series_names=("AX_T2",), volume=stored.voxels[None],
      affine=stored.affine[None], files=(folder,),
      geometry=(((SLICES, ROWS, COLUMNS), affine),),
      dicom=(tuple(s.path for s in slices),))
  return study if not changes else one_study.dataclasses.replace(
      study, **changes)


def _attention(token=(2, 1, 2)):
  """[3 texts, 1 series, d, h, w]; the peak of text 2 is elsewhere."""
  attention = np.full((3, 1, *GRID), 1e-4, np.float32)
  attention[(0, 0, *token)] = attention[(2, 0, *token)] = 0.6
  attention[2, 0, 0, 0, 0] = 0.2
  return attention


@pytest.mark.parametrize("axes", PLANES)
def test_a_segment_is_the_overlay_at_half_of_the_peak(tmp_path, axes):
  _write_slices(tmp_path / "s", PLANES[axes])
  study = _study(tmp_path / "s")
  sources = dicom_seg.read(study.dicom[0])
  shape, affine = study.geometry[0]
  got = dicom_seg.masks(_attention()[:, 0], np.array([0.6, 9.0, 0.6]), PATCH,
                        study.affine[0], sources)
  values = overlay.on_grid(_attention()[0, 0], PATCH, study.affine[0],
                           shape=shape, grid_affine=affine)
  # Positions in files are rounded, so voxels on the very edge may differ.
  sure = np.abs(values - 0.3) > 1e-4
  np.testing.assert_array_equal(got[..., 0][sure], (values > 0.3)[sure])
  assert got[..., 0].sum() > 20 and not got[..., 1].any()
  np.testing.assert_array_equal(got[..., 2], got[..., 0])


def test_slices_that_lie_unevenly_are_sampled_where_they_lie(tmp_path):
  _write_slices(tmp_path / "s", PLANES["axial"])
  study = _study(tmp_path / "s")
  sources = dicom_seg.read(study.dicom[0])
  sampled = lambda some: dicom_seg.masks(
      _attention()[:1, 0], np.array([0.6]), PATCH, study.affine[0], some)
  whole = sampled(sources)
  np.testing.assert_array_equal(sampled(sources[::-3]), whole[::-3])


@pytest.mark.parametrize("axes", PLANES)
def test_it_is_read_back_over_its_source(tmp_path, axes):
  hd = pytest.importorskip("highdicom")
  _write_slices(tmp_path / "s", PLANES[axes])
  study = _study(tmp_path / "s")
  (written,) = explain_files.write_segments(
      tmp_path, study, TEXTS, _attention(), PATCH)
  assert written == {"series": "AX_T2", "file": "attention_AX_T2.dcm"}
  found = hd.seg.segread(tmp_path / written["file"])
  sources = [pydicom.dcmread(f) for f in study.dicom[0]]
  by_uid = {s.SOPInstanceUID: s for s in sources}

  for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
    assert found[name].value == sources[0][name].value
  assert found.SeriesInstanceUID != sources[0].SeriesInstanceUID
  for frame in found.PerFrameFunctionalGroupsSequence:
    origin = frame.DerivationImageSequence[0].SourceImageSequence[0]
    np.testing.assert_allclose(
        frame.PlanePositionSequence[0].ImagePositionPatient,
        by_uid[origin.ReferencedSOPInstanceUID].ImagePositionPatient,
        atol=1e-6)  # mm; positions are texts

  voxels = found.get_pixels_by_source_instance(
      [s.SOPInstanceUID for s in sources], ignore_spatial_locations=False,
      segment_numbers=[1, 2, 3], assert_missing_frames_are_empty=True)
  np.testing.assert_array_equal(voxels, dicom_seg.masks(
      _attention()[:, 0], np.array([0.6, 1e-4, 0.6]), PATCH, study.affine[0],
      sources))
  # The middle of the segment is the token's, by highdicom's own geometry.
  stack = found.get_volume(segment_numbers=[1], combine_segments=False)
  hot = np.argwhere(np.asarray(stack.array)[..., 0]).mean(0)
  lps = (stack.affine @ [*hot, 1])[:3]
  centre = study.affine[0] @ [*overlay.token_centre((2, 1, 2), PATCH), 1]
  np.testing.assert_allclose(lps * [-1, -1, 1], centre[:3], atol=2.5)  # mm


def test_it_says_what_it_is_and_claims_no_anatomy(tmp_path):
  hd = pytest.importorskip("highdicom")
  _write_slices(tmp_path / "s", PLANES["axial"])
  study = _study(tmp_path / "s")
  explain_files.write_segments(tmp_path, study, TEXTS, _attention(), PATCH)
  found = hd.seg.segread(tmp_path / "attention_AX_T2.dcm")
  segments = found.SegmentSequence
  assert [s.SegmentNumber for s in segments] == [1, 2, 3]
  assert segments[0].SegmentLabel == TEXTS[0]
  assert segments[2].SegmentLabel == TEXTS[2][:64]
  assert segments[2].SegmentDescription.startswith(TEXTS[2])
  assert "at least half" in segments[0].SegmentDescription
  for segment in segments:
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "itemclip_jax"
    assert algorithm.AlgorithmVersion == itemclip_jax.__version__
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == (
        "Image Region")
  assert found.SegmentationType == "BINARY"


def test_a_series_that_no_text_looks_at_gets_no_file(tmp_path):
  pytest.importorskip("highdicom")
  _write_slices(tmp_path / "s", PLANES["axial"])
  one = _study(tmp_path / "s")
  twice = lambda x: (*x, *x)
  study = _study(
      tmp_path / "s", series_names=("A", "B/C"), files=twice(one.files),
      geometry=twice(one.geometry), dicom=twice(one.dicom),
      volume=np.repeat(one.volume, 2, 0), affine=np.repeat(one.affine, 2, 0))
  attention = np.concatenate([_attention() * 0.4, _attention()], 1)
  written = explain_files.write_segments(
      tmp_path, study, TEXTS[::2], attention[::2], PATCH)
  assert written == [{"series": "B/C", "file": "attention_B_C.dcm"}]
  assert not (tmp_path / "attention_A.dcm").exists()


def test_what_cannot_be_referred_to_is_one_sentence(tmp_path, monkeypatch):
  _write_slices(tmp_path / "s", PLANES["axial"], FrameOfReferenceUID="")
  with pytest.raises(UserError, match="no frame of reference .* NIfTI"):
    dicom_seg.read(_study(tmp_path / "s").dicom[0])
  with pytest.raises(UserError, match="needs a study of DICOM files"):
    explain_files.write_segments(
        tmp_path, _study(tmp_path / "s", dicom=((),)), TEXTS, _attention(),
        PATCH)
  monkeypatch.setitem(sys.modules, "highdicom", None)  # an import then fails
  with pytest.raises(UserError, match=r"pip install .*\[dicom-seg\]"):
    dicom_seg.require()
