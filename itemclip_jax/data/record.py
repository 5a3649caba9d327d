"""A stored study: its features, the contract of its voxels, how to open a set.

A built data set is a folder with

    contract.json   what was done to every volume (`Contract`)
    findings.json   label columns in order, and the prompts of each
    index.npz       "<split>/<name>" arrays, one entry a record (`INDEX`)
    organs.json     names of the organs, where the set has masks of them
    <records>/      ArrayRecord shards; `records` stands in contract.json
    ingest.jsonl    what was left out while building, and why

so that sampling needs no read of a record. TensorFlow is not involved.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import pathlib
from typing import Any
import zipfile

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from itemclip_jax.data import serialized, shard
from itemclip_jax.data.contract import Contract
from itemclip_jax.errors import UserError, read_json

# Arrays of index.npz, all [number of records of the split].
INDEX = ("study_id", "patient_id", "num_series", "num_items", "normal")

# Further ones that some sets have: False where a set has none.
OPTIONAL_INDEX = ("expert",)  # an expert looked at it: it has a heatmap

# Features that only evaluation reads.
GROUND_TRUTH = ("lesion_mask", "item_visible", "item_finding")

# Features as large as the study.
_VOXELS = ("volume", "lesion_mask", "organ_mask")

_REBUILD = "Delete the set and build it again with data_pipelines.prepare."
_TEXTS = {"study_id", "patient_id", "series_names", "orientation", "source",
          "items", "organ_texts", "severity", "location", "category"}


def _extras(names: Sequence[str]) -> dict[str, Any]:
  """Features that only some sets have.

  Args:
    names: of "organs" (R of them, in the order of organs.json), "triplets" (n
      of them, "" where a field is not known, severity "no" for what is
      negated), "heatmap" (where an expert looked; empty = nobody did).
  """
  tensor, text = tfds.features.Tensor, tfds.features.Text
  encoded = lambda: tensor(shape=(None,), dtype=np.uint8, encoding="bytes")
  texts = lambda: tfds.features.Sequence(text())
  known = {
      "organs": lambda: {
          "organ_mask": encoded(),          # [D, H, W], r + 1 on organ r
          "organ_texts": texts(),           # [R]
          "organ_normal": tensor(shape=(None,), dtype=np.uint8)},  # [R] 0, 1
      "triplets": lambda: {
          "severity": texts(), "location": texts(), "category": texts()},
      "heatmap": lambda: {"heatmap": encoded()},    # PNG, one byte a pixel
  }
  return {k: v for name in names for k, v in known[name]().items()}


def features(dtype=np.uint8, extras: Sequence[str] = ()
             ) -> tfds.features.FeaturesDict:
  """One study. S series, F findings, n items; axes may differ by record.

  Voxels are stored as bytes: the default encoding reads ten times slower.
  `extras`: see `_extras`.
  """
  tensor, text = tfds.features.Tensor, tfds.features.Text
  texts = lambda: tfds.features.Sequence(text())
  # Flat, because TFDS cannot read back an array of several unknown sizes that
  # has fewer bytes than axes; `Source` restores the shape.
  flat = lambda: tensor(shape=(None,), dtype=np.uint8, encoding="bytes")
  return tfds.features.FeaturesDict({
      "study_id": text(),
      "patient_id": text(),
      "volume": tensor(                   # [S, D, H, W]
          shape=(None,) * 4, dtype=dtype, encoding="bytes"),
      "series_names": texts(),            # [S]
      "affine": tensor(shape=(None, 4, 4), dtype=np.float32),  # (d,h,w)->RAS mm
      "orientation": texts(),             # [S] directions of +d, +h, +w
      "source_spacing_mm": tensor(shape=(None, 3), dtype=np.float32),
      "source": texts(),                  # [S] path below the raw archive
      "items": texts(),                   # [n]
      "normal": np.bool_,
      "labels": tensor(shape=(None,), dtype=np.int8),  # [F], -1 = unknown
      # Ground truth of phantoms; empty arrays elsewhere.
      "lesion_mask": flat(),     # [S, D, H, W], k + 1 on the voxels of items[k]
      "item_visible": flat(),    # [n, S], 1 = this series shows the item
      "item_finding": tensor(shape=(None,), dtype=np.int32),  # [n], -1 = none
  } | _extras(extras))


def picture_features(extras: Sequence[str] = ()
                     ) -> tfds.features.FeaturesDict:
  """One picture: a study of one series, kept as encoded as it came.

  The names that it shares with `features` mean the same.
  """
  tensor, text = tfds.features.Tensor, tfds.features.Text
  texts = lambda: tfds.features.Sequence(text())
  encoded = lambda: tensor(shape=(None,), dtype=np.uint8, encoding="bytes")
  return tfds.features.FeaturesDict({
      "study_id": text(),
      "patient_id": text(),
      "image": encoded(),                 # JPEG or PNG
      "series_names": texts(),            # [1] "", pictures have none
      "source": texts(),                  # [1] where in the raw archive
      "items": texts(),                   # [n]
      "normal": np.bool_,
      "labels": tensor(shape=(None,), dtype=np.int8),  # [F], -1 = unknown
      "lesion_mask": encoded(),  # PNG, k + 1 on the pixels of items[k]
      "item_finding": tensor(shape=(None,), dtype=np.int32),  # [n], -1 = none
  } | _extras(extras))


class Source:
  """Random access to the studies of one split; safe to read from threads."""

  def __init__(self, folder: pathlib.Path, split: str, *,
               ground_truth: bool = True, only: tuple[str, ...] = ()):
    self._folder = pathlib.Path(folder)
    builder = tfds.builder_from_directory(folder)
    # TFDS's own partial decoding needs TensorFlow; a smaller dict does not.
    self._parser = serialized.Parser(tfds.features.FeaturesDict({
        name: feature for name, feature in builder.info.features.items()
        if (not only or name in only)
        and (ground_truth or name not in GROUND_TRUTH)}), large=_VOXELS)
    self._source = shard.Records(
        builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES),
        [(f.filename, f.skip, f.take)
         for f in builder.info.splits[split].file_instructions],
        self._parser.layout)
    self._where = f"split {split!r} of {folder}"
    with self._readable("The shards"):
      self._size = len(self._source)

  def __len__(self) -> int:
    return self._size

  def files(self) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of every file; tells builds apart."""
    stats = [(p.name, p.stat()) for p in sorted(self._folder.iterdir())]
    return [(name, s.st_size, s.st_mtime_ns) for name, s in stats]

  @contextlib.contextmanager
  def _readable(self, what: str):
    """Names the file where ArrayRecord, in C++, only tells the byte."""
    try:
      yield
    except RuntimeError as error:
      raise UserError(f"{what} of {self._where} cannot be read ({error}). "
                      f"{_REBUILD}") from error

  def __getitem__(self, index: int) -> dict[str, Any]:
    study = self.unread(index)
    if "volume" in study:
      study["volume"] = np.asarray(study["volume"])
    return study

  def unread(self, index: int) -> dict[str, Any]:
    """The same; where a large record is visited again, its volume `Unread`."""
    if not 0 <= index < len(self):
      raise IndexError(f"Record {index} of {len(self)}.")
    with self._readable(f"Record {index}"):
      study = self._parser(*self._source[index])
    for name in study.keys() & set(_VOXELS) - {"volume"}:
      study[name] = np.asarray(study[name])
    for name in study.keys() & _TEXTS:
      study[name] = _decoded(study[name])
    if {"lesion_mask", "volume"} <= study.keys():
      S, *voxels = study["volume"].shape  # no ground truth: [0, ...]
      study["lesion_mask"] = study["lesion_mask"].reshape(-1, *voxels)
      study["item_visible"] = study["item_visible"].reshape(-1, S)
    if "organ_mask" in study:
      study["organ_mask"] = study["organ_mask"].reshape(
          study["volume"].shape[1:])
    return study


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a built set, opened.

  Attributes:
    source: len() and [i] -> features of one study, texts as str.
    index: the arrays named in `INDEX` and `OPTIONAL_INDEX`, in record order.
    contract: what was done to the voxels.
    findings: name -> {"prompts": [...], "label": column}, in column order.
    organs: names of the organs, in the order of masks and texts; () = none.
  """
  source: Source
  index: dict[str, np.ndarray]
  contract: Contract
  findings: dict[str, dict[str, Any]]
  organs: tuple[str, ...] = ()

  def study(self, number: int) -> dict[str, Any]:
    """One record that was checked against the contract; `Source.unread`."""
    study = self.source.unread(number)
    self.contract.require_study(study)
    return study

  @property
  def sha256(self) -> str:
    """Of the index: which studies, in which order, of how many series."""
    sha = hashlib.sha256()
    for name in INDEX:
      sha.update("\n".join(map(str, self.index[name].tolist())).encode())
    return sha.hexdigest()


def open_split(root, split: str, *, ground_truth: bool = True) -> Split:
  """Opens one split of the set that `data_pipelines.prepare` made in `root`.

  Args:
    root: the folder given to prepare as --out.
    split: e.g. "train".
    ground_truth: False skips decoding what only evaluation needs.

  Raises:
    UserError: the folder is missing, unfinished or damaged, has another schema
      version, or the split does not exist or is empty.
  """
  root = pathlib.Path(root)
  contract = read_contract(root)
  index = _read_index(root, split)
  if not len(index["study_id"]):
    raise UserError(f"Split {split!r} of {root} holds no study; build it "
                    "again with more.")
  source = Source(root / contract.records, split, ground_truth=ground_truth)
  if len(source) != len(index["study_id"]):
    raise UserError(
        f"Split {split!r} of {root} has {len(source)} records but its index "
        f"{len(index['study_id'])}; delete the folder and build it again.")
  return Split(source=source, index=index, contract=contract,
               findings=read_findings(root), organs=read_organs(root))


def read_items(root, split: str, feature: str = "items") -> list[str]:
  """Returns every item of a split; nothing else of a record is decoded.

  feature: "items", or "organ_texts" in a set that has them.
  """
  root = pathlib.Path(root)
  source = Source(root / read_contract(root).records, split, only=(feature,))
  return [item for study in tqdm.tqdm(source, desc="reports", unit="study")
          for item in study.get(feature, ())]


def read_contract(root) -> Contract:
  """Reads contract.json; see `open_split` for the errors."""
  path = _required(pathlib.Path(root), "contract.json")
  return Contract.from_dict(read_json(path, _REBUILD), str(path))


def read_findings(root) -> dict[str, dict[str, Any]]:
  """Reads findings.json: the label columns, in order."""
  return read_json(_required(pathlib.Path(root), "findings.json"), _REBUILD)


def read_organs(root) -> tuple[str, ...]:
  """Reads organs.json; () where the set has none."""
  path = pathlib.Path(root) / "organs.json"
  return tuple(read_json(path, _REBUILD)) if path.exists() else ()


def _read_index(root: pathlib.Path, split: str) -> dict[str, np.ndarray]:
  path = _required(root, "index.npz")
  try:
    with np.load(path) as stored:
      arrays = dict(stored)
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise UserError(f"{path} is damaged ({error}). {_REBUILD}") from error
  splits = sorted({name.split("/")[0] for name in arrays})
  if split not in splits:
    raise UserError(f"The data set at {root} has no split {split!r}; it has "
                    f"{', '.join(splits)}.")
  index = {name: arrays[f"{split}/{name}"] for name in INDEX}
  none = np.zeros(len(index["study_id"]), bool)
  return index | {name: arrays.get(f"{split}/{name}", none)
                  for name in OPTIONAL_INDEX}


def _required(root: pathlib.Path, name: str) -> pathlib.Path:
  command = f"python -m data_pipelines.prepare --dataset=NAME --out={root}"
  if not root.is_dir():
    raise UserError(
        f"There is no data set at {root}; build one with `{command}`.")
  if not (root / name).is_file():
    raise UserError(f"The data set at {root} is unfinished, it lacks "
                           f"{name}; run `{command}` again.")
  return root / name


def _decoded(value):
  if isinstance(value, bytes):
    return value.decode()
  return [v.decode() for v in value]
