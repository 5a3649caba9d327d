"""Everything the audit wants to know of one record, and what is wrong with it.

A fault is a (kind, sentence) pair; kinds group the sentences in the report.
Only the sums of a record leave this module, never its voxels, so that an audit
needs the memory of a few studies whatever the size of the set.
"""

import dataclasses
import functools
import hashlib
import io
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.audit import pictures
from itemclip_jax.data import record

# Lower edges of the histograms' bins: every grey level, and steps of 16
# Hounsfield units; voxels beyond the ends count in the outermost bins.
GREY_EDGES = np.arange(256)
HU_EDGES = np.arange(-2048, 4096, 16)

# A series with fewer voxels above the floor than this shows nothing.
BLACK_SHARE = 1e-3
# Hounsfield units: air and soft tissue are in every scan; far below air is
# padding that nobody replaced, or a rescale that was applied twice.
HU_LOWEST, HU_AIR, SOFT_TISSUE_HU = -1500, -500, (-200, 200)
SOFT_TISSUE_SHARE = 0.01
# Cosine between an axis and the direction that its letter names: oblique
# slices keep it, exchanged or mirrored axes do not.
MIN_COSINE = 0.25
# Sizes are rounded down when a spacing is set, so it may be a little wider.
SPACING_TOLERANCE = 0.1

_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0),
         "S": (0, 0, 1), "I": (0, 0, -1)}

_UNFIT_TO_DRAW = {"broken picture", "series"}

Fault = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Job:
  """One record to look at; `draw` asks for its thumbnail."""
  root: pathlib.Path
  split: str
  number: int
  draw: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """What is kept of a record.

  Attributes:
    sha256: of its content, whatever the shards look like.
    voxels: a digest of every series that is not constant.
    histogram: channel -> counts by GREY_EDGES or HU_EDGES.
    wrong: faults, without the name of the study.
  """
  number: int
  study_id: str
  patient_id: str
  num_series: int
  items: list[str]
  normal: bool
  labels: list[int]
  sha256: bytes
  voxels: list[bytes]
  histogram: dict[str, np.ndarray]
  wrong: list[Fault]
  thumbnail: pictures.Thumbnail | None


@dataclasses.dataclass(frozen=True)
class Unreadable:
  number: int
  reason: str


def examine(job: Job) -> Facts | Unreadable:
  """Reads and examines one record; never raises for what is in it."""
  split = open_cached(job.root, job.split)
  try:
    study = split.source[job.number]
  except ValueError as error:
    return Unreadable(job.number, str(error))
  wrong = _promises(study, split)
  if "image" in study:
    channels, faults = _picture(study)
  else:
    channels, faults = _volumes(study, split.contract)
  draw = job.draw and not _UNFIT_TO_DRAW & {kind for kind, _ in faults}
  return Facts(
      number=job.number, study_id=study["study_id"],
      patient_id=study["patient_id"], num_series=len(study["series_names"]),
      items=study["items"], normal=bool(study["normal"]),
      labels=study["labels"].tolist(), sha256=digest(study),
      voxels=_voxel_digests(study), wrong=wrong + faults,
      # One series or row at a time: counting widens every voxel to 8 bytes.
      histogram={c: sum(map(histogram, v)) for c, v in channels.items()},
      thumbnail=pictures.thumbnail(study, split.contract, job.split)
      if draw else None)


def digest(study: dict[str, Any]) -> bytes:
  """sha256 of the features of a record: names, types, shapes, values."""
  sha = hashlib.sha256()
  for name in sorted(study):
    value = study[name]
    if isinstance(value, (str, list)):
      value = np.frombuffer(json.dumps(value).encode(), np.uint8)
    value = np.ascontiguousarray(value)
    sha.update(f"{name} {value.dtype} {value.shape}\n".encode())
    sha.update(value.tobytes())
  return sha.digest()


def histogram(voxels: np.ndarray) -> np.ndarray:
  """Counts by GREY_EDGES (uint8) or HU_EDGES (int16), int64."""
  if voxels.dtype == np.uint8:
    return np.bincount(voxels.ravel(), minlength=len(GREY_EDGES))
  # A shift right is a division by the 16 units of a bin.
  bins = (voxels.astype(np.int32).ravel() - HU_EDGES[0]) >> 4
  return np.bincount(bins.clip(0, len(HU_EDGES) - 1), minlength=len(HU_EDGES))


def affine_fault(affine: np.ndarray, code: str) -> str | None:
  """What is wrong with an affine, or None.

  Args:
    affine: [4, 4] (d, h, w) -> RAS mm.
    code: directions of +d, +h, +w, e.g. "IPR".
  """
  if not np.isfinite(affine).all():
    return "an affine that is not finite"
  steps = affine[:3, :3].astype(float)
  if abs(np.linalg.det(steps)) < 1e-6:
    return "a singular affine"
  if sorted(code.translate(str.maketrans("LPI", "RAS"))) != list("ARS"):
    return f"the orientation {code!r}, want one letter each of RL, AP and SI"
  stated = np.array([_AXES[letter] for letter in code], float).T
  cosines = (steps * stated).sum(0) / np.linalg.norm(steps, axis=0)
  hands = [_hand(m) for m in (steps, stated)]
  if cosines.min() < MIN_COSINE or hands[0] != hands[1]:
    return (f"a {hands[0]} affine whose axes run to {_letters(steps)}, but the "
            f"{hands[1]} orientation {code}")
  return None


# Two splits may be under way at a time, in each process.
@functools.lru_cache(maxsize=2)
def open_cached(root: pathlib.Path, split: str) -> record.Split:
  """`record.open_split`, once in every process."""
  return record.open_split(root, split)


def _promises(study: dict[str, Any], split: record.Split) -> list[Fault]:
  """Breaches of the contract, and texts and labels that make no sense."""
  wrong = []
  try:
    split.contract.require_study(study)
  except ValueError as error:
    text = str(error).removeprefix(f"Study {study['study_id']!r} ")
    wrong.append(("breach of the contract", text.removesuffix(".")))
  if any(not item.strip() for item in study["items"]):
    wrong.append(("blank item", "holds an item without a text"))
  labels, columns = study["labels"], len(split.findings)
  if len(labels) != columns:
    wrong.append(("labels", f"has {len(labels)} labels, but findings.json "
                  f"names {columns}"))
  if not np.isin(labels, (-1, 0, 1)).all():
    wrong.append(("labels", "has labels other than 1, 0 and -1 (unknown)"))
  return wrong


def _picture(
    study: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[Fault]]:
  """Decodes a picture: channel -> [H, W] uint8, and its faults."""
  try:
    picture = Image.open(io.BytesIO(study["image"].tobytes())).convert("RGB")
  except Exception as error:  # decoders raise nothing narrower
    return {}, [("broken picture", f"cannot be decoded ({error})")]
  pixels = np.asarray(picture)
  if pixels.min() == pixels.max():
    wrong = [("constant series", f"is a picture of {pixels.min()} only")]
  else:
    wrong = []
  return dict(zip(("red", "green", "blue"), np.moveaxis(pixels, -1, 0))), wrong


def _volumes(study: dict[str, Any], contract: record.Contract):
  """All voxels as one channel, and the faults of every series."""
  S, wrong = len(study["volume"]), []
  per_series = ("series_names", "affine", "orientation", "source_spacing_mm")
  if not S or any(len(study[name]) != S for name in per_series):
    return {"voxels": study["volume"]}, [(
        "series", f"has {S} volumes, but " + ", ".join(
            f"{len(study[name])} {name}" for name in per_series))]
  for s, name in enumerate(study["series_names"]):
    voxels = study["volume"][s]
    say = lambda kind, what, name=name: wrong.append(
        (kind, f"holds, in series {name!r}, {what}"))
    if what := _voxel_fault(voxels, contract):
      say(*what)
    if what := affine_fault(study["affine"][s], study["orientation"][s]):
      say("affine", what)
    elif what := _spacing_fault(study["affine"][s], contract.spacing_mm):
      say("spacing", what)
    source = study["source_spacing_mm"][s]
    if not (np.isfinite(source).all() and (source > 0).all()):
      say("spacing", f"the source spacing {source.tolist()} mm")
  return {"voxels": study["volume"]}, wrong


def _voxel_fault(
    voxels: np.ndarray, contract: record.Contract) -> Fault | None:
  """The first of: empty, constant, black, Hounsfield units off."""
  if not voxels.size:
    return "constant series", "no voxel"
  low, high = int(voxels.min()), int(voxels.max())
  is_hu = voxels.dtype == np.int16
  floor = 0
  if is_hu:
    floor = contract.window[0] - contract.window[1] / 2 if (
        contract.window) else HU_AIR
  if low == high:
    return ("black series" if low <= floor else "constant series",
            f"no voxel other than {low}")
  lit = np.count_nonzero(voxels > floor) / voxels.size
  if lit < BLACK_SHARE:
    return "black series", f"only {lit:.2%} of voxels above {floor:g}"
  return _hounsfield_fault(voxels, low) if is_hu else None


def _hounsfield_fault(voxels: np.ndarray, low: int) -> Fault | None:
  if low < HU_LOWEST:
    what = f"{low} HU, far below air: padding or a wrong rescale"
  elif low > HU_AIR:
    what = f"no air, the lowest voxel is {low} HU: check the intercept"
  else:
    soft = np.mean((voxels > SOFT_TISSUE_HU[0]) & (voxels < SOFT_TISSUE_HU[1]))
    if soft >= SOFT_TISSUE_SHARE:
      return None
    what = f"{soft:.2%} of soft tissue, want 1% or more: check the slope"
  return "Hounsfield units", what


def _spacing_fault(affine, spacing_mm) -> str | None:
  if spacing_mm is None:
    return None
  have = np.linalg.norm(affine[:3, :3], axis=0)
  if np.allclose(have, spacing_mm, rtol=SPACING_TOLERANCE):
    return None
  return (f"voxels of {' x '.join(f'{x:.3g}' for x in have)} mm, want "
          f"{' x '.join(f'{x:.3g}' for x in spacing_mm)} mm")


def _voxel_digests(study: dict[str, Any]) -> list[bytes]:
  """Of what two studies should not share; a constant series says nothing."""
  parts = [study["image"]] if "image" in study else [
      v for v in study["volume"] if v.size and v.min() != v.max()]
  return [hashlib.blake2b(np.ascontiguousarray(p), digest_size=16).digest()
          for p in parts]


def _hand(steps: np.ndarray) -> str:
  return "right-handed" if np.linalg.det(steps) > 0 else "left-handed"


def _letters(steps: np.ndarray) -> str:
  """The nearest direction of each column."""
  return "".join(max(_AXES, key=lambda a, s=step: np.dot(_AXES[a], s))
                 for step in steps.T)
