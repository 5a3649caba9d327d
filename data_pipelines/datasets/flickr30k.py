"""Flickr30k in Karpathy's splits: lists of pictures with five captions.

    <source>/flickr30k*_{train,val,test}.json
        [{"image": "flickr30k-images/x.jpg", "caption": ["...", ...]}, ...]
    <source>/flickr30k-images/x.jpg

Each caption is an item. In the train file of some copies a row has one caption
only; rows of one picture are put together.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

from data_pipelines import pictures
from data_pipelines.errors import PrepareError

_SPLITS = {"train": "train", "val": "valid", "test": "test"}  # name -> split
_HOLDS = "flickr30k*_{train,val,test}.json and flickr30k-images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""                 # the archive's root

  def bytes_needed(self) -> int:
    return pictures.total_bytes([self.fetch(None, None)])

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return pictures.root(self, _HOLDS)

  def contract(self):
    return pictures.contract(self)

  def findings(self, raw: pathlib.Path) -> dict:
    del raw  # captions only
    return {}

  def builder(self, raw, out, workers, log) -> pictures.Pictures:
    splits = {split: list(_jobs(raw, split, path))
              for split, path in _files(raw).items()}
    return pictures.builder(splits, out, workers, log)


def _files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """split -> its JSON file; none at all, or two, is an error."""
  found = {}
  for name, split in _SPLITS.items():
    paths = sorted(root.glob(f"flickr30k*_{name}.json"))
    if len(paths) > 1:
      raise PrepareError(f"{root} holds {' and '.join(p.name for p in paths)}, "
                         f"both of split {split}; keep one.")
    if paths:
      found[split] = paths[0]
  if not found:
    raise PrepareError(f"{root} holds no flickr30k*_<split>.json; want "
                       f"{_HOLDS}.")
  return found


def _jobs(root: pathlib.Path, split: str, path) -> Iterator[pictures.Job]:
  captions = {}
  for row in pictures.read_json(path, list, "download it again"):
    said = row.get("caption", [])
    captions.setdefault(str(row.get("image")), []).extend(
        said if isinstance(said, list) else [said])
  for name, items in captions.items():
    yield pictures.Job(split, name, name,
                       functools.partial(_load, root / name, tuple(items)))


def _load(path: pathlib.Path, items: tuple[str, ...]) -> pictures.Picture:
  return pictures.Picture(encoded=pictures.read_file(path), items=items)
