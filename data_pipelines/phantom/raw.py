"""Raw archives of phantoms: subjects that are complete or not there."""

import gzip
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np

from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.phantom.anatomy import Grid


def claim(raw: pathlib.Path, recipe: dict[str, Any]):
  """Refuses to mix subjects of two recipes in one archive."""
  raw.mkdir(parents=True, exist_ok=True)
  path = raw / "recipe.json"
  if path.exists() and json.loads(path.read_text()) != recipe:
    raise PrepareError(f"{raw} holds subjects of {path.read_text()}, asked for "
                       f"is {json.dumps(recipe)}; name another --source or "
                       "delete it.")
  write_json(path, recipe)


def write_once(
    folder: pathlib.Path, write: Callable[[pathlib.Path], dict[str, Any]]
) -> dict[str, Any]:
  """Runs `write(folder)` unless it has been; returns what it returned.

  The folder gets its name when it is complete, so an interrupted run leaves no
  half of a subject under a name that the next run would trust.
  """
  if (folder / "entry.json").exists():
    return json.loads((folder / "entry.json").read_text())
  unfinished = folder.with_name(f".{folder.name}")
  shutil.rmtree(unfinished, ignore_errors=True)
  unfinished.mkdir(parents=True)
  entry = write(unfinished)
  (unfinished / "entry.json").write_text(json.dumps(entry))
  unfinished.rename(folder)
  return entry


def save_nifti(path: pathlib.Path, voxels: np.ndarray, grid: Grid, axes: str):
  """Writes a NIfTI file whose axes run as `axes` says, lightly compressed."""
  change = nib.orientations.ornt_transform(
      nib.orientations.axcodes2ornt("RAS"),
      nib.orientations.axcodes2ornt(axes))
  affine = grid.affine @ nib.orientations.inv_ornt_aff(change, voxels.shape)
  image = nib.Nifti1Image(
      nib.orientations.apply_orientation(voxels, change), affine)
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))
