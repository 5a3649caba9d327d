"""MS COCO captions: pictures in folders, captions in one JSON file a split.

    <source>/annotations/captions_<name>.json      or <source>/captions_...
        { "images": [{"id": 7, "file_name": "x.jpg", ...}, ...],
          "annotations": [{"image_id": 7, "caption": "...", ...}, ...] }
    <source>/<name>/x.jpg                          or <source>/images/<name>/

Each caption is an item, in the order of the file. <name> is a split, or a year
of COCO: train2017 becomes the split train, and val2017 test, for that is what
the retrieval benchmark is measured on.

Three optional keys bring ground truth: "findings" of an image, those that are
there; "mask" of an image, a PNG below <source> with k + 1 on the pixels of its
item k; "finding" of an annotation, what it speaks of. Then <source>/
findings.json names all findings as in `datasets/studies.py`.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

from data_pipelines import pictures
from data_pipelines.errors import PrepareError

_HOLDS = "annotations/captions_<name>.json and the pictures"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""                 # the archive's root

  def bytes_needed(self) -> int:
    root = self.fetch(None, None)
    return pictures.total_bytes(
        _folder(root, path) for path in _caption_files(root).values())

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return pictures.root(self, _HOLDS)

  def contract(self):
    return pictures.contract(self)

  def findings(self, raw: pathlib.Path) -> dict[str, dict[str, Any]]:
    path = raw / "findings.json"
    return pictures.read_json(path, dict, "mend it") if path.exists() else {}

  def builder(self, raw, out, workers, log) -> pictures.Pictures:
    columns = tuple(f["label"] for f in self.findings(raw).values())
    splits = {split: list(_jobs(raw, split, path, columns))
              for split, path in _caption_files(raw).items()}
    return pictures.builder(splits, out, workers, log)


def _caption_files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """split -> captions_<name>.json, train first.

  Raises:
    PrepareError: there is none, two are of one split, or one of none.
  """
  found = {}
  for path in sorted(root.glob("captions_*.json")) + sorted(
      root.glob("annotations/captions_*.json")):
    split = _split(_name(path))
    if split is None:
      raise PrepareError(f"{path} is of no known split; name it captions_"
                         "train.json, captions_val2017.json or the like.")
    if split in found:
      raise PrepareError(f"{found[split]} and {path} are both of split "
                         f"{split}; keep one below {root}.")
    found[split] = path
  if not found:
    raise PrepareError(f"{root} holds no captions_<name>.json; want {_HOLDS}.")
  return dict(sorted(found.items(), key=lambda pair: pair[0] != "train"))


def _name(path: pathlib.Path) -> str:
  return path.stem.removeprefix("captions_")


def _split(name: str) -> str | None:
  if name in ("train", "valid", "test"):
    return name
  return {"train": "train", "val": "test"}.get(name.rstrip("0123456789"))


def _folder(root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Where the pictures of one caption file are."""
  choices = [root / _name(path), root / "images" / _name(path), root / "images"]
  return next((c for c in choices if c.is_dir()), root)


def _jobs(root, split, path, columns) -> Iterator[pictures.Job]:
  raw = pictures.read_json(path, dict, "download it again")
  if missing := {"images", "annotations"} - raw.keys():
    raise PrepareError(f"{path} lacks {' and '.join(sorted(missing))}; want a "
                       "caption file of COCO, download it again.")
  said = collections.defaultdict(list)
  for annotation in raw["annotations"]:
    said[annotation.get("image_id")].append(annotation)
  folder = _folder(root, path)
  for entry in raw["images"]:
    file = folder / str(entry.get("file_name"))
    yield pictures.Job(
        split, str(entry.get("file_name")), file.relative_to(root).as_posix(),
        functools.partial(_load, root, file, entry, said[entry.get("id")],
                          columns), columns)


def _load(root, file, entry, said, columns) -> pictures.Picture:
  """`said`: the annotations of this picture."""
  there = entry.get("findings")
  return pictures.Picture(
      encoded=pictures.read_file(file),
      items=[annotation.get("caption", "") for annotation in said],
      labels={c: int(c in there) for c in columns} if there is not None else {},
      item_findings=[a.get("finding") for a in said] if "mask" in entry else (),
      mask=pictures.read_file(root / entry["mask"]) if "mask" in entry else b"")
