"""One chest scan as archives hold it: CT-RATE's NIfTI, or a folder of DICOM.

The first release of CT-RATE holds the scanner's numbers and the second holds
Hounsfield units; the table of metadata tells the same intercept for both. All
positions are the phantom's own, so the table, the headers and the affine agree.
"""

import dataclasses
import json
import pathlib
import uuid
import warnings
from typing import Any

import numpy as np
import pydicom
from pydicom import uid

from data_pipelines.phantom import raw as raw_lib
from data_pipelines.phantom.anatomy import Grid


@dataclasses.dataclass(frozen=True)
class Format:
  """How a scan is stored; stored = HU - intercept unless it is in HU."""
  name: str                  # "stored", "hounsfield" or "dicom"
  intercept: int


FORMATS = (
    Format("stored", -1024), Format("stored", -8192),
    Format("hounsfield", -1024), Format("hounsfield", -8192),
    Format("dicom", -1024))
FORMAT_RATES = (0.24, 0.23, 0.24, 0.23, 0.06)
AXES = "LPS"                 # of a NIfTI file: columns, rows, slices


def write_scan(
    rng: np.random.Generator,
    folder: pathlib.Path,
    name: str,
    hu: np.ndarray,          # [x, y, z] int16 Hounsfield units
    grid: Grid,
) -> dict[str, Any]:
  """Writes <name>.nii.gz or <name>/*.dcm; returns its row of metadata."""
  kind = FORMATS[rng.choice(len(FORMATS), p=FORMAT_RATES)]
  folder.mkdir(parents=True, exist_ok=True)
  row = _metadata(grid) | {"RescaleIntercept": kind.intercept,
                           "RescaleSlope": 1}
  if kind.name == "dicom":
    _write_dicom(rng, folder / name, hu - np.int16(kind.intercept), row)
    return {"VolumeName": name} | row
  stored = hu if kind.name == "hounsfield" else hu - np.int16(kind.intercept)
  raw_lib.save_nifti(folder / f"{name}.nii.gz", stored, grid, AXES)
  return {"VolumeName": f"{name}.nii.gz"} | row


def _metadata(grid: Grid) -> dict[str, Any]:
  """The columns of CT-RATE's table that say where a scan lies."""
  x, y, z = grid.lines()
  dx, dy, dz = grid.spacing_mm
  # DICOM's positions run to the left and back; the first slice is the lowest.
  first = [float(-x[-1]), float(-y[-1]), float(z[0])]
  return {
      "PatientPosition": "HFS",
      "ImagePositionPatient": json.dumps(first),
      "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
      "Rows": len(y), "Columns": len(x), "XYSpacing": json.dumps([dy, dx]),
      "NumberofSlices": len(z), "ZSpacing": dz}


def _write_dicom(rng, folder: pathlib.Path, stored: np.ndarray, row):
  """One file a slice; file names run from feet to head or the other way."""
  folder.mkdir()
  slices = stored.transpose(2, 1, 0)[:, ::-1, ::-1]
  names = np.arange(len(slices))[::rng.choice([1, -1])]
  first = json.loads(row["ImagePositionPatient"])
  for k, (pixels, number) in enumerate(zip(slices, names)):
    position = [*first[:2], first[2] + k * row["ZSpacing"]]
    slice_ = _slice(folder.name, pixels, int(number), position, row)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      slice_.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def _slice(name: str, pixels, number: int, position, row) -> pydicom.Dataset:
  slice_ = pydicom.Dataset()
  slice_.SOPClassUID = uid.CTImageStorage
  slice_.SOPInstanceUID = _uid(name, str(number))
  slice_.StudyInstanceUID, slice_.SeriesInstanceUID = _uid(name), _uid(name, "")
  slice_.file_meta = pydicom.dataset.FileMetaDataset()
  slice_.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  slice_.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
  slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
  slice_.Modality = "CT"
  slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
  slice_.PatientID = name.rsplit("_", 2)[0]
  slice_.PatientPosition = row["PatientPosition"]
  slice_.InstanceNumber = number + 1
  slice_.ImagePositionPatient = position
  slice_.ImageOrientationPatient = json.loads(row["ImageOrientationPatient"])
  slice_.PixelSpacing = json.loads(row["XYSpacing"])
  slice_.SliceThickness = row["ZSpacing"]
  slice_.Rows, slice_.Columns = pixels.shape
  slice_.SamplesPerPixel = 1
  slice_.PhotometricInterpretation = "MONOCHROME2"
  slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
  slice_.PixelRepresentation = 1
  slice_.RescaleIntercept = row["RescaleIntercept"]
  slice_.RescaleSlope = row["RescaleSlope"]
  slice_.RescaleType = "HU"
  slice_.PixelData = pixels.astype("<i2").tobytes()
  return slice_


def _uid(*names: str) -> str:
  """A valid identifier that depends on the names only."""
  return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(names)).int}"
