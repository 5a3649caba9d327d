"""One study for a trained model: raw files, or a record of a built set.

Raw files are prepared as the contract of the checkpoint says, by the code that
built the training set; a record must have the same contract. As in training,
series that cannot be read are left out, and so does `fit` with those beyond
`data.max_series`; `Study.notes` says which. `fit` makes the model's input of
volumes and pictures of any size.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import privacy
from itemclip_jax.config import schema
from itemclip_jax.data import image, record, series_name, volume
from itemclip_jax.errors import UserError
from itemclip_jax.tools.study_files.raw import read as raw_lib
from itemclip_jax.tools.study_files.raw import series as series_lib
from itemclip_jax.train import trained as trained_lib


@dataclasses.dataclass(frozen=True)
class Study:
  """What the model is shown, and where it comes from. S series, n items.

  A picture is a study of one series without a name: volume [1, 3, h, w], the
  identity as affine.

  Attributes:
    name: of the study.
    series_names: S of them.
    volume: [S, D, H, W] as the contract says.
    affine: [S, 4, 4] stored (d, h, w) -> RAS mm.
    files: of each series its file, or the folder of its DICOM slices; None
      where it is not at hand. Windows of one series share it.
    geometry: of each series the shape and affine (index -> RAS mm) of the
      original grid: that of the NIfTI file, or (slice, row, column) of DICOM;
      None where it is unknown.
    dicom: of each series the DICOM files in the order of those slices, or ().
    modality: of the contract.
    air: what pads volumes that are too small.
    notes: what was left out, in sentences.
    items: n findings of the report, () where none is at hand.
    lesion_mask: [S, D, H, W] k + 1 on the voxels of items[k], or None.
    item_visible: [n, S] 1 = this series shows the item, or None.
  """
  name: str
  series_names: tuple[str, ...]
  volume: np.ndarray
  affine: np.ndarray
  files: tuple[pathlib.Path | None, ...]
  geometry: tuple[tuple[tuple[int, int, int], np.ndarray] | None, ...]
  dicom: tuple[tuple[pathlib.Path, ...], ...]
  modality: str = "MRI"
  air: float = 0.0
  notes: tuple[str, ...] = ()
  items: tuple[str, ...] = ()
  lesion_mask: np.ndarray | None = None
  item_visible: np.ndarray | None = None

  def cut(self, max_series: int) -> "Study":
    """The first `max_series` series; a note names the others."""
    if len(self.series_names) <= max_series:
      return self
    note = (f"The model reads {max_series} series a study; left out: "
            f"{', '.join(self.series_names[max_series:])}.")
    each = ("series_names", "volume", "affine", "files", "geometry", "dicom",
            "lesion_mask")
    some = {name: None if value is None else value[:max_series]
            for name, value in ((name, getattr(self, name)) for name in each)}
    visible = self.item_visible
    return dataclasses.replace(
        self, **some, notes=(*self.notes, note),
        item_visible=None if visible is None else visible[:, :max_series])


def read(path: pathlib.Path, trained: trained_lib.Trained, *,
         record_name: str = "", checkpoint: str) -> Study:
  """The study that a model is shown: raw files, or with a name a record.

  Args:
    path: of the raw study, or of the built set.
    trained: the model.
    record_name: "<split>/<study>", or "" for raw files.
    checkpoint: where the model came from, for errors.

  Raises:
    UserError: see `read_raw` and `read_record`.
  """
  if record_name:
    study = read_record(path, record_name, trained.contract,
                        checkpoint=f"the checkpoint in {checkpoint}")
  else:
    study = read_raw(path, trained.contract)
  return fit(study, trained.config)


def inputs(study: Study, config: schema.Config
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A batch of one fitted study, as `evaluators.embed.Encoder` takes it.

  Returns:
    volume [1, S, D, H, W] as stored, series_mask [1, S] bool, all True, and
    series_names [1, S, L] int32, nothing but padding for a picture.
  """
  length = config.vision.name_length
  names = np.stack([
      series_name.codes(name, length) if name else np.zeros(length, np.int32)
      for name in study.series_names])
  return study.volume[None], np.ones((1, len(names)), bool), names[None]


def read_raw(path: pathlib.Path, contract: record.Contract) -> Study:
  """Reads a study of raw files, laid out as `raw/files.py` beside it says.

  MRI series come in the order of their names, others in that of a build.

  Raises:
    UserError: there is no study, no series can be used, or raw files cannot be
      made into volumes of this contract.
  """
  found, notes = raw_lib.read(path, contract)
  return Study(
      name=pathlib.Path(path).resolve().name,
      series_names=tuple(s.name for s in found),
      volume=np.stack([s.volume.voxels for s in found]),
      affine=np.stack([s.volume.affine for s in found]), notes=tuple(notes),
      **_common(contract, [s.origin for s in found]))


def read_record(root: pathlib.Path, record_name: str,
                contract: record.Contract, *, checkpoint: str) -> Study:
  """Reads the record "<split>/<study>" of the set that `prepare` built.

  Args:
    root: of the set.
    record_name: e.g. "test/test-00003".
    contract: of the model.
    checkpoint: names the model in errors.

  Raises:
    UserError: there is no such set or record, or it was prepared differently.
  """
  root = pathlib.Path(root)
  split_name, _, study_id = record_name.partition("/")
  if not study_id:
    raise UserError(f"--record={record_name} names no study; want SPLIT/STUDY "
                    "such as test/test-00003.")
  split = record.open_split(root, split_name)
  contract.require_same(split.contract, here=checkpoint, there=str(root))
  ids = split.index["study_id"]
  found = np.flatnonzero(ids == study_id)
  if not len(found):
    raise UserError(f"Split {split_name!r} of {root} has no study "
                    f"{study_id!r}; it has {len(ids)}, such as {ids[0]}.")
  stored = split.source[int(found[0])]
  origins, notes = _origins(root, split.contract, stored)
  return Study(
      name=study_id, series_names=tuple(stored["series_names"]), notes=notes,
      items=tuple(stored["items"]), **_voxels(stored),
      **_common(contract, origins))


def fit(study: Study, config: schema.Config) -> Study:
  """Cuts a study to `data.max_series` and to `vision.volume_shape`.

  As evaluation does: volumes keep their middle, or are padded, and their true
  affines; pictures are resized until they cover the shape, and their affine
  stays the identity.
  """
  study, shape = study.cut(config.data.max_series), config.vision.volume_shape
  have = study.volume.shape[1:]
  if have == shape:
    return study
  if study.modality == "RGB":
    return _fit_picture(study, shape)

  def fitted(stack, fill):
    return [volume.fit(volume.Volume(voxels, affine), shape, fill=fill)
            for voxels, affine in zip(stack, study.affine)]

  series, mask, notes = fitted(study.volume, study.air), None, study.notes
  if study.lesion_mask is not None:
    mask = np.stack([m.voxels for m in fitted(study.lesion_mask, 0)])
  if any(h > want for h, want in zip(have, shape)):
    notes = (*notes, f"Of {' x '.join(map(str, have))} voxels (depth, height, "
             f"width) the model is shown the middle {shape[0]} x {shape[1]} x "
             f"{shape[2]}.")
  return dataclasses.replace(
      study, volume=np.stack([s.voxels for s in series]), notes=notes,
      affine=np.stack([s.affine for s in series]), lesion_mask=mask)


def _fit_picture(study: Study, shape: tuple[int, int, int]) -> Study:
  picture = Image.fromarray(
      np.ascontiguousarray(study.volume[0].transpose(1, 2, 0)))
  fitted, mask = image.centre_crop(picture, shape[1:])[None], None
  if study.lesion_mask is not None:
    mask = np.broadcast_to(image.centre_crop_mask(
        study.lesion_mask[0, 0], shape[1:]), fitted.shape)
  return dataclasses.replace(study, volume=fitted, lesion_mask=mask)


def _common(contract: record.Contract,
            origins: list[series_lib.Origin | None]) -> dict[str, Any]:
  """What raw studies and records say alike."""
  return {
      "files": tuple(o and o.path for o in origins),
      "geometry": tuple(o and o.geometry for o in origins),
      "dicom": tuple(o.dicom if o else () for o in origins),
      "modality": contract.modality, "air": contract.air}


def _voxels(stored: dict[str, Any]) -> dict[str, np.ndarray | None]:
  """Volume, affine and ground truth of a record; None where it has none."""
  has_truth = bool(stored["lesion_mask"].size)
  if "image" not in stored:
    truth = {name: stored[name] if has_truth else None
             for name in ("lesion_mask", "item_visible")}
    return truth | {"volume": stored["volume"],
                    "affine": stored["affine"].astype(float)}
  voxels = raw_lib.picture(stored["image"].tobytes())[None]
  mask, visible = None, None
  if has_truth:
    mask = np.broadcast_to(
        image.decode_mask(stored["lesion_mask"].tobytes()), voxels.shape)
    visible = (stored["item_finding"] >= 0)[:, None].astype(np.uint8)
  return {"volume": voxels, "affine": np.eye(4)[None], "lesion_mask": mask,
          "item_visible": visible}


def _origins(root: pathlib.Path, contract: record.Contract, stored
             ) -> tuple[list[series_lib.Origin | None], tuple[str, ...]]:
  """Where the series of a record came from, and notes on it."""
  archives = [root / "raw"]
  if contract.recipe.get("source"):
    archives.insert(0, pathlib.Path(contract.recipe["source"]))
  names = _names(root, stored["study_id"])
  found = {source: _origin(archives, source, names)
           for source in dict.fromkeys(stored["source"])}
  notes = []
  if names and any(found.values()):
    notes.append(f"The paths of the originals were found by the private table "
                 f"{privacy.beside(root, '.ids.jsonl')} and may tell who the "
                 "patient is.")
  missing = [name for name, source in zip(
      stored["series_names"], stored["source"]) if found[source] is None]
  if missing and contract.modality != "RGB":
    notes.append(f"The original files of {', '.join(missing)} are not at hand; "
                 "the overlays have the grid on which the model saw them.")
  return [found[source] for source in stored["source"]], tuple(notes)


def _origin(archives: list[pathlib.Path], source: str, names: dict[str, str]
            ) -> series_lib.Origin | None:
  """The original below the first archive that holds it."""
  parts = [names.get(part, part) for part in pathlib.PurePath(source).parts]
  paths = [archive.joinpath(*parts) for archive in archives]
  path = next((p for p in paths if parts and p.exists()), None)
  return path and series_lib.find_origin(path)


def _names(root: pathlib.Path, study_id: str) -> dict[str, str]:
  """The hash of a study -> its name in the archive; {} where none is known."""
  table = privacy.beside(root, ".ids.jsonl")
  if not table.is_file():
    return {}
  rows = map(json.loads, table.read_text().splitlines())
  return {row["study_id"]: row["study"] for row in rows
          if row["study_id"] == study_id}
