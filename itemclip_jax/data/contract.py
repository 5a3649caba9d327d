"""What was done to every volume of a data set, and whether a study keeps to it.

Plain Python, so that training, serving and building all ask the same question.
"""

import dataclasses
from typing import Any, Literal

from itemclip_jax.data import series_name
from itemclip_jax.errors import UserError

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
  """What was done to every volume of a set; training and serving compare it.

  The fields that describe the set rather than its voxels do not take part in
  the comparison, so a model may be tested on another set of the same contract.
  """
  schema_version: int = SCHEMA_VERSION
  modality: Literal["MRI", "CT", "RGB"]
  dtype: Literal["uint8", "int16"]
  intensity: str                      # what a stored number means
  window: tuple[float, float] | None = None     # centre, width; CT only
  orientation: dict[str, str]         # plane -> directions of +d, +h, +w
  resize: tuple[int, int, int] | None  # D, H, W before the centre crop
  shape: tuple[int, int, int] | None  # D, H, W as stored; None: they vary
  spacing_mm: tuple[float, float, float] | None = None  # None: as it comes
  dataset: str = dataclasses.field(compare=False)
  records: str = dataclasses.field(compare=False)  # folder of the shards
  recipe: dict[str, Any] = dataclasses.field(compare=False)  # build options

  @property
  def air(self) -> float:
    """What a loader pads a volume with: the lower end of the window."""
    if self.window is None:
      return 0.0
    centre, width = self.window
    return centre - width / 2

  def require_same(self, other: "Contract", *, here: str, there: str):
    """Raises unless both describe the same voxels, naming both sides."""
    ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
    differ = [
        f"{f.name} is {ours[f.name]!r} in {here} but {theirs[f.name]!r} in "
        f"{there}" for f in dataclasses.fields(self)
        if f.compare and ours[f.name] != theirs[f.name]]
    if differ:
      raise UserError(f"The preprocessing differs: {'; '.join(differ)}. "
                      "Rebuild one of the two with the other's options.")

  def require_study(self, study: dict[str, Any]):
    """Raises unless a record holds what this contract promises.

    Raises:
      UserError: voxels of another shape, type or orientation, a series name
        that says nothing or too much, or no items.
    """
    if self.modality == "RGB":
      wrong = _picture_faults(study)
    else:
      wrong = self._volume_faults(study)
    if not study["items"]:
      wrong.append("no items, want at least one")
    if wrong:
      raise UserError(
          f"Study {study['study_id']!r} is not what contract.json promises: "
          f"{'; '.join(wrong)}. Build the data set again with "
          "data_pipelines.prepare, which leaves such studies out.")

  def _volume_faults(self, study: dict[str, Any]) -> list[str]:
    volume, known = study["volume"], sorted(set(self.orientation.values()))
    wrong = []
    if self.shape is not None and volume.shape[1:] != self.shape:
      wrong.append(f"{volume.shape[1:]} voxels a series, want {self.shape}")
    if volume.dtype != self.dtype:
      wrong.append(f"voxels of {volume.dtype}, want {self.dtype} "
                   f"({self.intensity})")
    if other := sorted(set(study["orientation"]) - set(known)):
      wrong.append(f"orientation {', '.join(other)}, want {' or '.join(known)}")
    return wrong + list(
        filter(None, map(series_name.fault, study["series_names"])))

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, raw: dict[str, Any], where: str) -> "Contract":
    """Reads what `to_dict` wrote; `where` names the source in errors."""
    if raw.get("schema_version") != SCHEMA_VERSION:
      raise UserError(
          f"{where} has record schema {raw.get('schema_version')}, this code "
          f"reads {SCHEMA_VERSION}; rebuild it with data_pipelines.prepare.")
    fields = {f.name for f in dataclasses.fields(cls)}
    if raw.keys() != fields:
      raise UserError(
          f"{where} has the settings {sorted(raw)}, want {sorted(fields)}; "
          "rebuild it with data_pipelines.prepare.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v
                  for k, v in raw.items()})


def _picture_faults(study: dict[str, Any]) -> list[str]:
  if not len(study.get("image", ())):
    return ["no encoded picture, want a JPEG or PNG"]
  return []
