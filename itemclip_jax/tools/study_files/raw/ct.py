"""One raw study of CT -> voxels, as a chest or a head CT set stores them."""

import dataclasses
import pathlib

import numpy as np

from data_pipelines import scans
from data_pipelines.datasets import cq500
from data_pipelines.datasets import rad_chest_ct
from data_pipelines.datasets import rsna_ich
from data_pipelines.volumes import chest_study
from data_pipelines.volumes import ct
from data_pipelines.volumes import dicom
from data_pipelines.volumes import head_study
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import record
from itemclip_jax.data.volume import Volume
from itemclip_jax.errors import UserError
from itemclip_jax.tools.study_files.raw import files as files_lib
from itemclip_jax.tools.study_files.raw import series as series_lib
from itemclip_jax.tools.study_files.raw.series import left_out, Series

_ARRAY = ".npz"

# How a set calls its series; any other set as CQ500.
_HEAD_NAMES = {"rsna_ich": rsna_ich.NAME}

# What a build knows of a study and raw files do not say.
_NOBODY = {"split": "", "study": "", "patient": "", "items": (), "labels": ()}


def head_options(contract: record.Contract) -> scans.HeadOptions:
  """Windows and tilt of the contract's recipe; where it has none, ours."""
  named = {f.name for f in dataclasses.fields(scans.HeadOptions)}
  return scans.HeadOptions(**{
      name: value for name, value in contract.recipe.items()
      if name in named - {"source", "resize", "shape"}})


def read_chest(
    path: pathlib.Path, contract: record.Contract
) -> tuple[list[Series], list[str]]:
  """One series in Hounsfield units, int16, of any size; and notes.

  Raises:
    UserError: there is no study, or several volumes in files.
  """
  found, notes = _chosen(path, files_lib.find(
      path, (*files_lib.NIFTI, files_lib.TENSOR, _ARRAY)))
  if found is None:
    return [], notes
  try:
    read = _chest_slices if found.headers else _chest_file
    stored, more = read(found, contract.spacing_mm)
  except (SeriesError, ValueError) as error:
    return [], [*notes, left_out(found.name, error)]
  notes += [f"Series {found.name}: {note}." for note in more]
  return [Series(chest_study.SERIES_NAME, stored, series_lib.origin(found))
          ], notes


def _chest_slices(found: files_lib.Found, spacing_mm):
  series = dicom.read_series(found.headers)
  ct.require_axial(series.volume)
  _require_hounsfield(series.volume)
  return ct.chest(series.volume, spacing_mm=spacing_mm), series.notes


def _chest_file(found: files_lib.Found, spacing_mm):
  is_array = found.path.suffix == _ARRAY  # those come from one set only
  stored, _, notes = chest_study.read(chest_study.Job(
      root=found.path.parent, file=found.path.name, spacing_mm=spacing_mm,
      stored_as=(rad_chest_ct.STORED_AS if is_array
                 else ct.ORIENTATION["axial"]), **_NOBODY))
  return stored, notes


def _chosen(path: pathlib.Path, found: list[files_lib.Found]
            ) -> tuple[files_lib.Found | None, list[str]]:
  """The only series, or the axial one of the closest slices; and notes.

  Raises:
    UserError: there are several, and not all of them are DICOM slices.
  """
  if len(found) == 1:
    return found[0], []
  if names := [f.path.name for f in found if not f.headers]:
    raise UserError(
        f"{path} holds {len(found)} volumes, but the model reads one series a "
        f"study; name one of them, such as {names[0]}.")
  gaps, notes = {}, []
  for n, one in enumerate(found):
    try:
      _, affine, _ = dicom.arrange(one.headers)
      ct.require_axial(Volume(np.empty(0), affine))
      gaps[n] = round(float(np.linalg.norm(affine[:3, 0])), 3)
    except SeriesError as error:
      notes.append(left_out(one.name, error))
  if not gaps:
    return None, notes
  best = min(gaps, key=gaps.get)
  if len(gaps) > 1:
    others = ", ".join(found[n].name for n in gaps if n != best)
    notes.append(f"The model reads one series a study: {found[best].name} is "
                 f"taken, whose axial slices are the closest ({gaps[best]:g} "
                 f"mm); left out: {others}.")
  return found[best], notes


def read_head(
    path: pathlib.Path, contract: record.Contract
) -> tuple[list[Series], list[str]]:
  """Every window of every series as a series, uint8; and notes.

  Raises:
    UserError: there is no study.
  """
  options, notes, log, stored = head_options(contract), [], [], []
  found = files_lib.find(path, files_lib.NIFTI)
  owner = {h.path: f for f in found for h in f.headers} | {
      f.path: f for f in found if not f.headers}
  job = head_study.Job(
      root=path if path.is_dir() else path.parent,
      files=tuple(p for p, f in owner.items() if f.headers),
      name=_HEAD_NAMES.get(contract.dataset, cq500.NAME),
      windows=options.windows(), resize=contract.resize, shape=contract.shape,
      max_tilt=options.max_tilt, **_NOBODY)
  if job.files:
    try:
      stored += head_study.read(job, log)
    except SeriesError:
      pass  # the log tells why, series by series
  for line in log:
    name = path.name if line["series"] == "." else line["series"]
    notes.append(left_out(name, line["reason"]) if "reason" in line
                 else f"Series {name}: {line['note']}.")
  for one in found:
    try:
      if not one.headers:
        stored += head_study.views(job, _hounsfield(one.path), one.path,
                                   one.name.replace(" ", "_"))
    except (SeriesError, ValueError) as error:
      notes.append(left_out(one.name, error))
  origins = {source: series_lib.origin(owner[source])
             for source in {s.source for s in stored}}
  return [Series(s.name, s.volume, origins[s.source]) for s in stored], notes


def _hounsfield(path: pathlib.Path) -> Volume:
  volume, placed = ct.read_nifti(path)
  if not placed:
    raise SeriesError("its header does not say where the patient is")
  _require_hounsfield(volume)
  return volume


def _require_hounsfield(volume: Volume):
  if reason := ct.implausible(volume.voxels):
    raise SeriesError(f"no Hounsfield units ({reason})")
