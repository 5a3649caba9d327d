"""Itemized-cc0.3M: pictures in tar shards, items in one JSON file.

    <source>/*.tar                        WebDataset: <key>.jpg, <key>.json
    <source>/first_300000_rewrites.json   or --items=FILE
        { "<number>": ["item", ...] }

Keys count in blocks of 10 000, of which 5 000 are used, so the number of a key
is key % 10000 + (key // 10000) * 5000. A picture without items of its own has
the short InstructBLIP caption of its <key>.json. All is for training.

Shards are read in order and only their headers here; workers read the pictures.
Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (pictures: CC3M).
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from data_pipelines import pictures
from data_pipelines.errors import PrepareError

FALL_BACK = "shortIB_captions"         # key of <key>.json, text or list
_BLOCK, _USED = 10_000, 5_000
_PICTURES = ("jpg", "jpeg", "png")
_HOLDS = "tar shards and first_300000_rewrites.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Options of the build."""
  source: str = ""                 # the folder of the shards
  items: str = ""                  # "" = <source>/first_300000_rewrites.json

  def bytes_needed(self) -> int:
    return pictures.total_bytes(_shards(self.fetch(None, None)))

  def fetch(self, out, workers) -> pathlib.Path:
    del out, workers  # the archive is the user's own
    return pictures.root(self, _HOLDS)

  def contract(self):
    return pictures.contract(self)

  def findings(self, raw: pathlib.Path) -> dict:
    del raw  # captions only
    return {}

  def builder(self, raw, out, workers, log) -> pictures.Pictures:
    path = pathlib.Path(self.items or raw / "first_300000_rewrites.json")
    items = pictures.read_json(path, dict, "give another --items")
    shards = _shards(raw)
    count = sum(1 for s in shards for _ in _samples(s))
    jobs = pictures.Jobs(count, functools.partial(_jobs, shards, items))
    return pictures.builder({"train": jobs}, out, workers, log)


class Member(NamedTuple):
  """Where the bytes of a file are in its tar."""
  shard: pathlib.Path
  offset: int
  size: int

  def read(self) -> bytes:
    with open(self.shard, "rb") as file:
      file.seek(self.offset)
      found = file.read(self.size)
    if len(found) < self.size:
      raise pictures.PictureError(f"{self.shard.name} ends within it")
    return found


class Sample(NamedTuple):
  """The files of one key by ending, or why a shard cannot be read on."""
  key: str
  files: dict[str, Member]
  fault: str = ""


def number_of(key: str) -> str | None:
  """The name of a key's items in the JSON file; None for other keys."""
  if not key.isdecimal():
    return None
  return str(int(key) % _BLOCK + int(key) // _BLOCK * _USED)


def _shards(root: pathlib.Path) -> list[pathlib.Path]:
  shards = sorted(root.glob("*.tar"))
  if not shards:
    raise PrepareError(f"{root} holds no *.tar; want {_HOLDS}.")
  return shards


def _samples(shard: pathlib.Path) -> Iterator[Sample]:
  """Files of one key follow one another; the headers alone are read."""
  key, found, fault = "", {}, ""
  try:
    with tarfile.open(shard, "r:") as tar:
      for member in _files(tar):
        name, _, ending = pathlib.PurePosixPath(member.name).name.partition(".")
        if found and name != key:
          yield Sample(key, found)
          found = {}
        key = name
        found[ending.lower()] = Member(shard, member.offset_data, member.size)
  except (tarfile.TarError, OSError) as error:
    fault = f"the shard cannot be read on ({error})"
  if found:
    yield Sample(key, found)
  if fault:
    yield Sample(shard.name, {}, fault)


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
  for member in tar:
    tar.members = []  # it would keep them all
    if member.isfile():
      yield member


def _jobs(shards, items) -> Iterator[pictures.Job]:
  for sample in itertools.chain.from_iterable(map(_samples, shards)):
    found = [sample.files[e] for e in _PICTURES if e in sample.files]
    if not found:
      yield pictures.refused(
          "train", sample.key, sample.fault or "the shard has no picture of it")
      continue
    yield pictures.Job(
        "train", sample.key, f"{found[0].shard.name}:{sample.key}",
        functools.partial(_load, found[0], sample.files.get("json"),
                          items.get(number_of(sample.key)) or None))


def _load(picture, sidecar, items) -> pictures.Picture:
  """`items`: None where the JSON file has none for this picture."""
  if items is None and sidecar is None:
    raise pictures.PictureError("it has neither items nor a JSON file")
  return pictures.Picture(
      encoded=picture.read(),
      items=_fall_back(sidecar.read()) if items is None else items)


def _fall_back(encoded: bytes) -> list[str]:
  try:
    said = json.loads(encoded).get(FALL_BACK, [])
  except (ValueError, AttributeError) as error:
    raise pictures.PictureError("its JSON file is broken") from error
  return said if isinstance(said, list) else [said]
