"""Raw files of one study -> voxels as the contract of a model says.

    contract    raw files                           built alike by
    MRI         NIfTI, DICOM or img.pt a series     volumes/series.py
    CT, int16   one volume in Hounsfield units:     volumes/chest_study.py
                NIfTI, DICOM, .npz or .pt
    CT, uint8   NIfTI or DICOM in Hounsfield        volumes/head_study.py
                units; each window is a series
    RGB         one JPEG or PNG                     data/image.py

A raw study and its record hold the same voxels, bit by bit.
"""

import os
import pathlib
from collections.abc import Callable

import numpy as np

from data_pipelines import scans
from data_pipelines.datasets import coco_captions
from data_pipelines.volumes import ct as ct_lib
from data_pipelines.volumes import nifti
from data_pipelines.volumes import series as mri_series
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import image
from itemclip_jax.data import record
from itemclip_jax.data import series_name
from itemclip_jax.data import volume as volume_lib
from itemclip_jax.data.volume import Volume
from itemclip_jax.errors import UserError
from itemclip_jax.tools.study_files.raw import ct
from itemclip_jax.tools.study_files.raw import files as files_lib
from itemclip_jax.tools.study_files.raw import series as series_lib
from itemclip_jax.tools.study_files.raw.series import left_out, Series


def read(path: pathlib.Path, contract: record.Contract
         ) -> tuple[list[Series], list[str]]:
  """The series of a study that can be used, and notes on them and the others.

  Raises:
    UserError: raw files cannot be made into volumes of this contract, there is
      no study, or none of its series can be used.
  """
  reader = _reader(contract)
  path = pathlib.Path(os.path.abspath(path))
  found, notes = reader(path, contract)
  if not found:
    raise UserError(f"{path} has no series that can be used. "
                    f"{' '.join(notes)}")
  return found, notes


def _reader(contract: record.Contract) -> Callable:
  """The reader that makes such volumes; an error names what differs."""
  faults = {
      reader: {field: values for field, values in accepted.items()
               if getattr(contract, field) not in values}
      for reader, accepted in _accepted(contract).items()}
  nearest = min(faults, key=lambda reader: len(faults[reader]))
  if not faults[nearest]:
    return nearest
  words = {"intensity": "the intensities"}
  wanted = [f"{words.get(field, f'volumes of {field}')} "
            f"{getattr(contract, field)!r}" for field in faults[nearest]]
  known = [f"{field} {' or '.join(map(repr, values))}"
           for field, values in faults[nearest].items()]
  raise UserError(
      f"The model wants {' and '.join(wanted)}, but raw files are prepared "
      f"with {' and '.join(known)} only; use --record with a set that was "
      "built for it, or the version that built the training set.")


def _accepted(contract: record.Contract) -> dict[Callable, dict[str, tuple]]:
  """Reader -> field of the contract -> the values that it can make."""
  def same(like: record.Contract, *fields: str) -> dict[str, tuple]:
    return {field: (getattr(like, field),) for field in (
        "modality", "dtype", "intensity", "orientation", *fields)}

  head = ct.head_options(contract)
  tensors = nifti.ORIENTATION | {"unknown": mri_series.UNKNOWN}
  return {
      _read_mri: {
          "modality": ("MRI",), "dtype": ("uint8",),
          "intensity": tuple(volume_lib.INTENSITY.values()),
          "orientation": (nifti.ORIENTATION, tensors), "spacing_mm": (None,)},
      ct.read_chest: same(scans.chest_contract(head), "resize") | {
          "spacing_mm": (contract.spacing_mm or ct_lib.SPACING_MM,)},
      ct.read_head: same(head.contract(), "window", "spacing_mm"),
      _read_picture: same(coco_captions.Dataset().contract(), "window",
                          "spacing_mm"),
  }


def _read_mri(path: pathlib.Path, contract: record.Contract
              ) -> tuple[list[Series], list[str]]:
  names = {text: name for name, text in volume_lib.INTENSITY.items()}
  grid = mri_series.Grid(resize=contract.resize, shape=contract.shape,
                         intensity=names[contract.intensity])
  kept, notes = [], []
  for found in files_lib.find(path, (*files_lib.NIFTI, files_lib.TENSOR)):
    try:
      if fault := series_name.fault(found.name):
        raise SeriesError(fault)
      series = (mri_series.read_slices(found.headers, grid) if found.headers
                else mri_series.read(found.path, grid))
      if series.orientation not in contract.orientation.values():
        raise SeriesError("its orientation is unknown, and the model was "
                          "trained on known ones only")
    except (SeriesError, ValueError) as error:
      notes.append(left_out(found.name, error))
      continue
    kept.append(Series(found.name, series.volume, series_lib.origin(found)))
    notes += [f"Series {found.name}: {note}." for note in series.notes]
  return kept, notes


def _read_picture(path: pathlib.Path, contract: record.Contract
                  ) -> tuple[list[Series], list[str]]:
  """The whole picture as a volume [3, h, w]; there is one way to store it."""
  del contract
  if not path.is_file():
    raise UserError(f"The model reads pictures, and there is no file {path}; "
                    "name one JPEG or PNG.")
  try:
    voxels = picture(path.read_bytes())
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be used: {error}; name one JPEG or PNG of "
                    "8 bits a channel.") from error
  return [Series("", Volume(voxels, np.eye(4)), series_lib.Origin(path))], []


def picture(encoded: bytes) -> np.ndarray:  # [3, h, w] uint8
  """Decodes a picture; its colours are its depth."""
  return np.asarray(image.decode(encoded)).transpose(2, 0, 1)
