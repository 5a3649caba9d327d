"""Files of a segmentation -> one map of organs on the grid of a volume.

    <root>/**/<study>.nii.gz            one label map of all classes, or
    <root>/**/<study>/<class>.nii.gz    a file a class, 0 outside of it

as TotalSegmentator writes them, with --ml and without. Positions count, not
voxels: a map on another grid than the scan's is read where it lies.
"""

import pathlib

import numpy as np

from data_pipelines.errors import PrepareError
from data_pipelines.organs import grouping as grouping_lib
from data_pipelines.organs.grouping import Grouping
from data_pipelines.volumes import ct
from data_pipelines.volumes.nifti import SeriesError
from itemclip_jax.data import volume as volume_lib
from itemclip_jax.data.volume import Volume

_ENDINGS = (".nii.gz", ".nii")


def find(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Study -> its file or folder.

  Raises:
    PrepareError: the folder is missing or has no mask, or a study has two.
  """
  found: dict[str, set] = {}
  known = grouping_lib.known_classes()
  for path in sorted(root.rglob("*.nii*")):
    stem = _stem(path)
    if stem in known:
      found.setdefault(path.parent.name, set()).add(path.parent)
    else:
      found.setdefault(stem, set()).add(path)
  if not found:
    raise PrepareError(f"{root} holds no mask of organs; give the folder of "
                       "<study>.nii.gz, or of a folder a study.")
  for study, paths in found.items():
    if len(paths) > 1:
      raise PrepareError(f"{study!r} has {len(paths)} masks, such as "
                         f"{sorted(paths)[0]}; leave one.")
  return {study: paths.pop() for study, paths in found.items()}


def read(path: pathlib.Path, of: Grouping, release: str) -> Volume:
  """One file or folder as a map of organs, in the axis order of its file.

  Args:
    path: see above.
    of: which classes make up an organ.
    release: what the values of a file of all classes stand for.

  Raises:
    SeriesError: it cannot be read, its files lie on different grids, it holds a
      value of no class or no organ at all, or a folder lacks a class.
    PrepareError: the release lacks a class, or there is no such release.
  """
  volume = (_read_folder(path, of) if path.is_dir()
            else _read_file(path, of, grouping_lib.classes(release)))
  if not volume.voxels.any():
    raise SeriesError("the mask has no voxel of any organ")
  return volume


def on_grid(organs: Volume, shape: tuple[int, int, int], affine: np.ndarray
            ) -> np.ndarray:
  """The map on a volume's grid, nearest voxel, uint8.

  Raises:
    SeriesError: no organ lies in the volume: it is another patient's mask, or
      its positions are wrong.
  """
  moved = volume_lib.sample_labels(organs, shape=shape, affine=affine)
  if not moved.any():
    raise SeriesError("no organ of the mask lies in the volume; its affine is "
                      "another one's")
  return moved


def _read_file(path, of: Grouping, values: dict[int, str]) -> Volume:
  labels = _read_labels(path)
  try:
    merged = grouping_lib.grouped(labels.voxels, of, values)
  except ValueError as error:
    raise SeriesError(str(error)) from error
  return Volume(merged, labels.affine)


def _read_folder(folder: pathlib.Path, of: Grouping) -> Volume:
  files = {_stem(p): p for p in sorted(folder.glob("*.nii*"))}
  try:
    members = of.members(files)
  except PrepareError as error:   # of this study; others may be whole
    raise SeriesError(str(error)) from error
  out = None
  for r, regions in enumerate(members.values()):
    for region in regions:
      part = _read_labels(files[region])
      if out is None:
        out = Volume(np.zeros(part.shape, np.uint8), part.affine)
      if part.shape != out.shape or not np.allclose(
          part.affine, out.affine, atol=1e-3):
        raise SeriesError(
            f"{files[region].name} has {part.shape} voxels at other positions "
            f"than the {out.shape} of the classes before it")
      out.voxels[part.voxels > 0] = r + 1
  return out


def _read_labels(path: pathlib.Path) -> Volume:
  """The file as bytes; numbers that bytes do not hold are an error."""
  volume, placed = ct.read_nifti(path)
  if not placed:
    raise SeriesError("the mask's header does not say where the patient is")
  labels = volume.voxels.astype(np.uint8)
  if not np.array_equal(labels, volume.voxels):
    raise SeriesError("the mask holds values other than 0 to 255")
  return Volume(labels, volume.affine)


def _stem(path: pathlib.Path) -> str:
  for ending in _ENDINGS:
    if path.name.endswith(ending):
      return path.name.removesuffix(ending)
  return path.name
