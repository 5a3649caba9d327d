"""The pixels of one DICOM slice in Hounsfield units (or what its modality has).

Source: DICOM PS3.3, C.11.1 (modality LUT) and C.7.5.1.1.2 (padding). Whether
0 is shown black or white (MONOCHROME1) changes no number.
"""

import contextlib
import logging
import pathlib
import warnings

import numpy as np
import pydicom
from pydicom import errors as pydicom_errors

from data_pipelines.volumes.nifti import SeriesError

AIR_HU = -1024.0         # what replaces the padding around a round image


@contextlib.contextmanager
def quiet():
  """Silences pydicom, whose warnings quote what stands in a header."""
  logger = logging.getLogger("pydicom")
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    logger.setLevel(level)


def read(path: pathlib.Path) -> np.ndarray:  # [rows, columns] float32
  """Reads one slice and applies its slope and intercept.

  Padding becomes air in CT, the darkest real value elsewhere.

  Raises:
    SeriesError: it cannot be decoded.
  """
  with quiet():
    try:
      tags = pydicom.dcmread(path)
      stored = _decoded(tags)
      slope, intercept = (
          default if tags.get(name) is None else float(tags[name].value)
          for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
      padding = [int(tags[name].value) for name in (
          "PixelPaddingValue", "PixelPaddingRangeLimit") if name in tags]
    except (OSError, EOFError, KeyError, ValueError, TypeError, AttributeError,
            NotImplementedError, pydicom_errors.InvalidDicomError) as error:
      raise SeriesError(
          f"unreadable pixels ({type(error).__name__})") from error
  values = (stored * slope + intercept).astype(np.float32)
  if not slope or not np.isfinite(values).all():
    raise SeriesError(f"no numbers after slope {slope:g} and intercept "
                      f"{intercept:g}")
  if padding:
    outside = (stored >= min(padding)) & (stored <= max(padding))
    real = values[~outside]
    values[outside] = (AIR_HU if tags.get("Modality") == "CT" or not real.size
                       else real.min())
  return values


def _decoded(tags: pydicom.Dataset) -> np.ndarray:
  try:
    return tags.pixel_array
  except RuntimeError as error:  # also: no plugin for this compression
    syntax = tags.file_meta.TransferSyntaxUID.name
    raise SeriesError(
        f"pixels in {syntax} cannot be decoded; if they are intact, `pip "
        "install 'pylibjpeg[all]'` reads them") from error
