"""Attention as a DICOM Segmentation of the series that it was computed from.

One object a series, one binary segment a text: the voxels whose attention is at
least half of the most attended token of the WHOLE study. A viewer shows it over
the source slices, to which every frame refers by their instances and their
frame of reference. A segment may be empty in one series and not in another.

Like its source the object names the patient: it belongs to the patient's study
and has its identifiers. It is research output, not a finding.

Source: DICOM PS3.3, A.51 (Segmentation IOD), through highdicom, an extra:
pip install "itemclip_jax[dicom-seg]".
"""

import pathlib
from collections.abc import Sequence

import numpy as np

import itemclip_jax
from itemclip_jax.errors import UserError
from itemclip_jax.tools.figures import heat
from itemclip_jax.tools.study_files import overlay

MAKER = "itemclip_jax"
RULE = ("Attention of a vision-language model to the text, at least half of "
        "its largest value in the study. Not a medical device.")
_LABEL = 64              # characters of a long string, PS3.5 6.2

# What a file must have, though perhaps nothing in it, and de-identified ones
# lack.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
_SERIES_NUMBER = 9000    # far behind those of a scanner


def require():
  """Raises a UserError unless highdicom is there."""
  try:
    import highdicom  # pylint: disable=import-outside-toplevel,unused-import
  except ImportError as error:
    raise UserError(
        "--dicom_seg needs highdicom, which is not installed; get it with "
        "pip install \"itemclip_jax[dicom-seg]\".") from error


def masks(
    attention: np.ndarray,     # [n, d, h, w] of one series, n texts
    peaks: np.ndarray,         # [n] largest of each text over the whole study
    patch: tuple[int, int, int],
    affine: np.ndarray,        # [4, 4] stored (d, h, w) -> RAS mm
    sources: Sequence,         # headers of the slices, see `read`
) -> np.ndarray:               # [slices, rows, columns, n] bool
  """The voxels of the source that belong to each text's segment.

  Every slice is sampled where its own header puts it, so neither tilted
  gantries nor uneven gaps move the segment.
  """
  out = np.zeros((len(sources), sources[0].Rows, sources[0].Columns,
                  len(attention)), bool)
  for z, source in enumerate(sources):
    place = dict(shape=(1, source.Rows, source.Columns),
                 grid_affine=_affine(source))
    for n, (weights, peak) in enumerate(zip(attention, peaks)):
      values = overlay.on_grid(weights, patch, affine, **place)[0]
      out[z, ..., n] = (values >= heat.HALF * peak) & (values > 0)
  return out


def read(files: Sequence[pathlib.Path]) -> list:
  """Headers of slices as pydicom data sets, without their pixels.

  Raises:
    UserError: they lack what a reference to them needs.
  """
  import pydicom  # pylint: disable=import-outside-toplevel
  sources = [pydicom.dcmread(f, stop_before_pixels=True) for f in files]
  for file, source in zip(files, sources):
    if not source.get("FrameOfReferenceUID"):
      raise UserError(
          f"{file} has no frame of reference (0020,0052), so a DICOM "
          "segmentation cannot say where it lies; leave --dicom_seg out and "
          "use the NIfTI overlays.")
    for name in _MAY_BE_EMPTY:
      if name not in source:
        setattr(source, name, None)
  return sources


def write(path: pathlib.Path, sources: Sequence, voxels: np.ndarray,
          texts: Sequence[str], *, number: int):
  """Writes one Segmentation object.

  Args:
    path: ends in .dcm.
    sources: from `read`.
    voxels: from `masks`; something must be in them.
    texts: n of them.
    number: of the series within the study, 1, 2, ...
  """
  import highdicom as hd  # pylint: disable=import-outside-toplevel
  hd.seg.Segmentation(
      source_images=sources, pixel_array=voxels.astype(np.uint8),
      segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
      segment_descriptions=[
          _describe(hd, n, text) for n, text in enumerate(texts, 1)],
      series_instance_uid=hd.UID(), series_number=_SERIES_NUMBER + number,
      sop_instance_uid=hd.UID(), instance_number=1, manufacturer=MAKER,
      manufacturer_model_name=MAKER, device_serial_number="0",
      software_versions=itemclip_jax.__version__,
      series_description="Attention of a vision-language model (research)",
      content_description="Attention, at least half of its peak",
      # Texts may be in any script.
      specific_character_set="ISO_IR 192").save_as(path)


def _describe(hd, number: int, text: str):
  """A segment that claims no anatomy: a region of an image."""
  label = " ".join(text.replace("\\", "/").split())
  segment = hd.seg.SegmentDescription(
      segment_number=number, segment_label=label[:_LABEL],
      segmented_property_category=hd.sr.CodedConcept(
          "309825002", "SCT", "Spatial and Relational Concept"),
      segmented_property_type=hd.sr.CodedConcept(
          "111030", "DCM", "Image Region"),
      algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
      algorithm_identification=hd.AlgorithmIdentificationSequence(
          name=MAKER, version=itemclip_jax.__version__,
          family=hd.sr.CodedConcept(
              "123110", "DCM", "Artificial Intelligence")))
  segment.SegmentDescription = f"{label} -- {RULE}"[:1024]
  return segment


def _affine(source) -> np.ndarray:
  """[4, 4] (any, row, column) of a slice -> RAS mm; PS3.3, C.7.6.2.1.1."""
  along, down = np.reshape([float(x) for x in source.ImageOrientationPatient],
                           (2, 3))
  rows_mm, columns_mm = (float(x) for x in source.PixelSpacing)
  affine = np.eye(4)
  affine[:3, 0] = np.cross(along, down)
  affine[:3, 1], affine[:3, 2] = down * rows_mm, along * columns_mm
  affine[:3, 3] = [float(x) for x in source.ImagePositionPatient]
  affine[:2] *= -1  # DICOM's x runs to the left and its y to the back
  return affine
