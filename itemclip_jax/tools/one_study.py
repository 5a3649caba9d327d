"""One study for a trained model: raw files, or a record of a built set.

Raw files are prepared as the contract of the checkpoint says, by the code that
built the training set; a record must have the same contract. As in training,
series that cannot be read are left out, and so are those beyond
`data.max_series`; `Study.notes` says which.
"""

import dataclasses
import pathlib

import numpy as np

from data_pipelines.volumes import nifti
from itemclip_jax.data import record, series_name, volume
from itemclip_jax.errors import UserError

FILE = "img.nii.gz"


@dataclasses.dataclass(frozen=True)
class Study:
  """What the model is shown, and where it comes from. S series, n items.

  Attributes:
    name: of the study.
    series_names: S of them.
    volume: [S, D, H, W] as the contract says.
    affine: [S, 4, 4] stored (d, h, w) -> RAS mm.
    files: the NIfTI file of each series; None where it is not at hand.
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
  notes: tuple[str, ...] = ()
  items: tuple[str, ...] = ()
  lesion_mask: np.ndarray | None = None
  item_visible: np.ndarray | None = None

  def cut(self, max_series: int) -> "Study":
    """The first `max_series` series; a note names the others."""
    if len(self.series_names) <= max_series:
      return self
    some = lambda x: None if x is None else x[:max_series]
    note = (f"The model reads {max_series} series a study; left out: "
            f"{', '.join(self.series_names[max_series:])}.")
    visible = self.item_visible
    return dataclasses.replace(
        self, series_names=some(self.series_names), volume=some(self.volume),
        affine=some(self.affine), files=some(self.files),
        lesion_mask=some(self.lesion_mask), notes=(*self.notes, note),
        item_visible=None if visible is None else visible[:, :max_series])


def read_raw(path: pathlib.Path, contract: record.Contract) -> Study:
  """Reads <path>/<series>/img.nii.gz, or one NIfTI file.

  Series come in the order of their names.

  Raises:
    UserError: there is nothing.
    UserError: no series can be used, or the contract is not one of this
      reader.
  """
  path = pathlib.Path(path)
  intensity = _intensity(contract)
  stored, files, notes = {}, [], []
  for name, file in _series_files(path).items():
    try:
      if fault := series_name.fault(name):
        raise nifti.SeriesError(fault)
      source, _ = nifti.read_series(file)
      stored[name] = volume.conform(source, resize_to=contract.resize,
                                    shape=contract.shape, intensity=intensity)
      files.append(file)
    except (nifti.SeriesError, ValueError) as error:
      notes.append(f"Series {name} is left out: {error}.")
  if not stored:
    raise UserError(f"{path} has no series that can be used. "
                    f"{' '.join(notes)}")
  return Study(
      name=path.resolve().name, series_names=tuple(stored), files=tuple(files),
      volume=np.stack([s.voxels for s in stored.values()]),
      affine=np.stack([s.affine for s in stored.values()]), notes=tuple(notes))


def read_record(root: pathlib.Path, record_name: str,
                contract: record.Contract, *, checkpoint: str) -> Study:
  """Reads the record "<split>/<study>" of the set that `prepare` built.

  Args:
    root: of the set.
    record_name: e.g. "test/test-00003".
    contract: of the model.
    checkpoint: names the model in errors.

  Raises:
    UserError: there is no set.
    UserError: no such record, or it was prepared differently.
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
  has_truth = bool(stored["lesion_mask"].size)
  files = [_raw_file(root, split.contract, s) for s in stored["source"]]
  missing = [n for n, f in zip(stored["series_names"], files) if f is None]
  notes = (f"The original files of {', '.join(missing)} are not at hand; the "
           "overlays have the grid on which the model saw them.",)
  return Study(
      name=study_id, series_names=tuple(stored["series_names"]),
      volume=stored["volume"], affine=stored["affine"].astype(float),
      files=tuple(files), notes=notes if missing else (),
      items=tuple(stored["items"]),
      lesion_mask=stored["lesion_mask"] if has_truth else None,
      item_visible=stored["item_visible"] if has_truth else None)


def _intensity(contract: record.Contract) -> str:
  """The key of `volume.INTENSITY` that the contract describes."""
  names = {text: name for name, text in volume.INTENSITY.items()}
  wanted = {"modality": "MRI", "dtype": "uint8", "spacing_mm": None,
            "orientation": nifti.ORIENTATION}
  for field, value in wanted.items():
    if getattr(contract, field) != value:
      raise UserError(
          f"The model wants volumes of {field} {getattr(contract, field)!r}, "
          f"but raw NIfTI files are prepared with {field} {value!r} only; use "
          "--record with a set that was built for it.")
  if contract.intensity not in names:
    raise UserError(
        f"The model wants the intensities {contract.intensity!r}, which this "
        f"software cannot make of raw files; it knows {', '.join(names)}. Use "
        "the version that built the training set.")
  return names[contract.intensity]


def _series_files(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """Series name -> file, in the order of the names."""
  if path.is_file():
    named = path.parent if path.name == FILE else path
    return {named.name.removesuffix(".gz").removesuffix(".nii"): path}
  if (path / "contract.json").is_file():
    raise UserError(f"{path} is a built data set; name one of its studies "
                    "with --record=SPLIT/STUDY.")
  files = {file.parent.name: file for file in sorted(path.glob(f"*/{FILE}"))}
  if not files:
    raise UserError(
        f"There is no study at {path}: want a folder with "
        f"<series>/{FILE} for every series, or one NIfTI file.")
  return files


def _raw_file(root: pathlib.Path, contract: record.Contract,
              source: str) -> pathlib.Path | None:
  """Where a series came from, if the raw archive is still there."""
  archives = [root / "raw"]
  if contract.recipe.get("source"):
    archives.insert(0, pathlib.Path(contract.recipe["source"]))
  files = [archive / source for archive in archives]
  return next((f for f in files if f.is_file()), None)
