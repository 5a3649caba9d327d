"""What lies at the path of one study: its series, files or DICOM slices.

    <study>/<series>/   one volume of any name, or the slices of one series:
                        called after the folder; or more of either, called
                        after their files, or by their SeriesDescription
    <study>/            all the same without folders of series
    <file>              one volume

Volumes whose names say that they are label maps (mask, seg, lesions, ...) are
no series. A series description leaves this file as a name that a model reads
and people see; no other text of a header does.
"""

import collections
import dataclasses
import pathlib
import re

import pydicom

from data_pipelines.volumes import dicom
from data_pipelines.volumes import dicom_pixels
from data_pipelines.volumes import series as series_lib
from itemclip_jax.data import series_name
from itemclip_jax.errors import UserError

NIFTI = (".nii.gz", ".nii")
TENSOR = ".pt"
_LABEL_MAP = re.compile(
    r"(^|[-_. ])(a?seg|segmentation|mask|labels?|lesions?|organs)($|[-_. ])",
    re.IGNORECASE)
_UNFIT = re.compile(r"[^\w.+*(),-]+")    # for a name of a series


@dataclasses.dataclass(frozen=True)
class Found:
  """A series as it lies on the disk.

  Attributes:
    name: unique within the study.
    path: its file, or the folder of its slices.
    headers: of its slices; () for a file.
  """
  name: str
  path: pathlib.Path
  headers: tuple[dicom.Header, ...] = ()


def find(path: pathlib.Path, endings: tuple[str, ...]) -> list[Found]:
  """The series of a study, by folder and name; none may be fit to be read.

  Args:
    path: absolute.
    endings: of volumes in one file.

  Raises:
    UserError: there is none, or they belong to several studies.
  """
  if (path / "contract.json").is_file():
    raise UserError(f"{path} is a built data set; name one of its studies "
                    "with --record=SPLIT/STUDY.")
  found = []
  if path.is_dir():
    found += _volumes(path, endings, is_study=True) or _stacks(_headers(path))
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
      found += _volumes(folder, endings) or _stacks(
          dicom.find_headers(folder)[0])
  elif path.is_file() and path.name.endswith(endings):
    named = path.parent if path.name in series_lib.NAMES else path
    found = [Found(_stem(named), path)]
  if not found:
    raise UserError(
        f"There is no study at {path}: want a folder with a folder of every "
        "series, DICOM files or one volume in each, a folder of DICOM files, "
        f"or one file of {', '.join(endings)}.")
  studies = {h.study for f in found for h in f.headers if h.study}
  if len(studies) > 1:
    raise UserError(f"{path} holds the slices of {len(studies)} studies; name "
                    "the folder of one.")
  return _unique(found)


def _volumes(folder: pathlib.Path, endings: tuple[str, ...], *,
             is_study: bool = False) -> list[Found]:
  """The volumes in files of a folder, without those of its folders."""
  name = series_lib.find_name(folder)
  if name and name.endswith(endings):
    return [Found(folder.name, folder / name)]
  files = [
      p for p in sorted(folder.iterdir())
      if p.is_file() and p.name.endswith(endings)
      and not p.name.startswith(".") and not _LABEL_MAP.search(_stem(p))]
  if len(files) == 1 and not is_study:
    return [Found(folder.name, files[0])]
  return [Found(_stem(file), file) for file in files]


def _headers(folder: pathlib.Path) -> list[dicom.Header]:
  """Of the DICOM files of a folder, without those of its folders."""
  files = sorted(p for p in folder.iterdir() if p.is_file())
  return [header for header in map(dicom.read_header, files) if header]


def _stacks(headers: list[dicom.Header]) -> list[Found]:
  """The series of these slices."""
  groups = dicom.group(headers)
  # Localisers lie beside the slices that they were made for.
  num_usable = collections.Counter(
      g[0].path.parent for g in groups if _is_usable(g))
  found = []
  for group in groups:
    folder = group[0].path.parent
    alone = _is_usable(group) and num_usable[folder] == 1
    name = folder.name if alone else _description(group[0].path) or folder.name
    found.append(Found(name, folder, tuple(group)))
  return found


def _is_usable(headers: list[dicom.Header]) -> bool:
  return any(header.fault is None for header in headers)


def _description(path: pathlib.Path) -> str:
  """SeriesDescription as a name; "" where there is none."""
  try:
    with dicom_pixels.quiet():
      tags = pydicom.dcmread(path, stop_before_pixels=True,
                             specific_tags=["SeriesDescription"])
      text = str(tags.get("SeriesDescription", ""))
  except (OSError, EOFError, ValueError, TypeError, AttributeError):
    return ""
  return _UNFIT.sub("_", text).strip("_")[:series_name.MAX_LENGTH]


def _unique(found: list[Found]) -> list[Found]:
  """Appends -2, -3, ... to names that come again."""
  taken = collections.Counter()
  for n, one in enumerate(found):
    taken[one.name] += 1
    if taken[one.name] > 1:
      found[n] = dataclasses.replace(
          one, name=f"{one.name}-{taken[one.name]}")
  return found


def _stem(path: pathlib.Path) -> str:
  name = path.name.removesuffix(".gz")
  return name.removesuffix(".nii").removesuffix(".pt").removesuffix(".npz")
