"""Writes small CT files in the layouts of the public sets."""

import pathlib

import nibabel as nib
import numpy as np
import pydicom
from pydicom import uid

AIR, WATER, BONE = -1000, 0, 1000
INTERCEPT = -1024


def patient(shape=(8, 16, 16)) -> np.ndarray:
  """[z, y, x] Hounsfield units: water in air, bone at feet, front, right.

  z runs to the head, y to the back, x to the left.
  """
  x = np.full(shape, AIR, np.int16)
  x[1:-1, 3:-3, 3:-3] = WATER
  x[1:3, 3:6, 3:6] = BONE
  return x


def write_slice(path: pathlib.Path, hounsfield: np.ndarray, position, *,
                axes=(1, 0, 0, 0, 1, 0), series="1.2.3", slope=1,
                intercept=INTERCEPT, spacing=(0.5, 0.5), **tags):
  """One CT image; `tags` replace header fields, None takes them away."""
  path.parent.mkdir(parents=True, exist_ok=True)
  meta = pydicom.dataset.FileMetaDataset()
  meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  meta.MediaStorageSOPClassUID = uid.CTImageStorage
  meta.MediaStorageSOPInstanceUID = uid.generate_uid()
  image = pydicom.dataset.FileDataset(
      str(path), {}, file_meta=meta, preamble=b"\0" * 128)
  stored = np.rint((hounsfield - intercept) / slope).astype(np.int16)
  header = {
      "SOPClassUID": uid.CTImageStorage, "Modality": "CT",
      "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
      "StudyInstanceUID": "1.2", "SeriesInstanceUID": series,
      "PatientName": "Doe^Jane", "PatientID": "MRN123",
      "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
      "ImagePositionPatient": [f"{p:.6f}" for p in position],
      "ImageOrientationPatient": list(axes), "PixelSpacing": list(spacing),
      "SliceThickness": 99, "SpacingBetweenSlices": 77,  # never to be used
      "Rows": stored.shape[0], "Columns": stored.shape[1],
      "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
      "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
      "PixelRepresentation": 1, "RescaleSlope": slope,
      "RescaleIntercept": intercept, "PixelData": stored.tobytes()} | tags
  for name, value in header.items():
    if value is not None:
      setattr(image, name, value)
  image.save_as(path, enforce_file_format=True)


def write_series(folder: pathlib.Path, hounsfield=None, *, gap=2.0,
                 order=None, origin=(-4.0, -4.0, 100.0), **options):
  """Slices from the feet up, written in `order` under counting names."""
  hounsfield = patient() if hounsfield is None else hounsfield
  slices = range(len(hounsfield)) if order is None else order
  for name, k in enumerate(slices):
    write_slice(folder / f"{name:03d}.dcm", hounsfield[k],
                (origin[0], origin[1], origin[2] + k * gap), **options)


def write_nifti(path: pathlib.Path, hounsfield: np.ndarray, *,
                spacing=(0.5, 0.5, 2.0), axes="LPS", placed=True):
  """A file whose axes run as `axes` says; spacing of x, y, z."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lps = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
  lps[:3, 3] = (4.0, 4.0, 100.0)
  change = nib.orientations.ornt_transform(
      nib.orientations.axcodes2ornt("LPS"),
      nib.orientations.axcodes2ornt(axes))
  xyz = hounsfield.transpose(2, 1, 0)
  affine = lps @ nib.orientations.inv_ornt_aff(change, xyz.shape)
  nib.save(nib.Nifti1Image(
      nib.orientations.apply_orientation(xyz, change),
      affine if placed else None), path)
