"""Classes of a segmentation -> the organs that texts speak of.

`grouping.json` holds two tables: "classes", what the values 1, 2, ... of a
label map stand for, by the release that made it; and "groupings", organs and
the classes that make up each, of all releases. A grouped map holds r + 1 on
organ r.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548, Table 6.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Collection

import numpy as np

from data_pipelines.errors import PrepareError

_FILE = pathlib.Path(__file__).with_name("grouping.json")
_MOST = 255                    # organs, in a map of bytes


@dataclasses.dataclass(frozen=True)
class Grouping:
  """Organs in order, and the classes of each, of all releases together."""
  name: str
  organs: dict[str, tuple[str, ...]]

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(self.organs)

  def members(self, have: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The classes of `have` that make up each organ.

    Raises:
      PrepareError: an organ lacks a class, in whichever release; a mask without
        it would be that of a part.
    """
    return {organ: self._whole(organ, frozenset(have)) for organ in self.organs}

  def _whole(self, organ: str, have: frozenset[str]) -> tuple[str, ...]:
    regions = self.organs[organ]
    wanted = [[r for r in regions if r in classes]
              for classes in _tables()["classes"].values()]
    wanted = [some for some in wanted if some]
    if not any(have.issuperset(some) for some in wanted):
      lacking = min(([r for r in some if r not in have] for some in wanted),
                    key=len)
      raise PrepareError(
          f"Organ {organ!r} of grouping {self.name!r} lacks the class "
          f"{', '.join(lacking)}; segment that too, or choose another grouping "
          f"of {', '.join(groupings())}.")
    return tuple(r for r in regions if r in have)


def groupings() -> tuple[str, ...]:
  return tuple(_tables()["groupings"])


def releases() -> tuple[str, ...]:
  return tuple(_tables()["classes"])


def grouping(name: str) -> Grouping:
  """Raises PrepareError where there is no such grouping."""
  if name not in groupings():
    raise PrepareError(f"There is no grouping {name!r} of organs; choose one "
                       f"of {', '.join(groupings())}.")
  organs = _tables()["groupings"][name]["organs"]
  if len(organs) > _MOST:
    raise PrepareError(f"Grouping {name!r} has {len(organs)} organs, a mask "
                       f"holds {_MOST}; split it.")
  return Grouping(name, {k: tuple(v) for k, v in organs.items()})


def classes(release: str) -> dict[int, str]:
  """Value -> class of a label map; PrepareError: no such release."""
  if release not in releases():
    raise PrepareError(f"There is no release {release!r} of classes; choose "
                       f"one of {', '.join(releases())}.")
  return dict(enumerate(_tables()["classes"][release], 1))


def known_organs() -> frozenset[str]:
  """Of all groupings."""
  return frozenset(o for g in groupings() for o in grouping(g).names)


def known_classes() -> frozenset[str]:
  """Of all releases."""
  return frozenset(c for r in releases() for c in classes(r).values())


def grouped(
    labels: np.ndarray,            # [...] uint8
    of: Grouping,
    values: dict[int, str],        # value -> class; 0 is no class
) -> np.ndarray:                   # [...] uint8, r + 1 on organ r
  """Merges the classes of a label map; those of no organ become 0.

  Raises:
    PrepareError: an organ lacks a class.
    ValueError: the map holds a value that stands for no class.
  """
  number = {name: value for value, name in values.items()}
  table = np.zeros(256, np.uint8)
  members = of.members(number)
  for r, regions in enumerate(members.values()):
    table[[number[region] for region in regions]] = r + 1
  strange = np.ones(256, bool)
  strange[[0, *values]] = False
  if (bad := labels[strange[labels]]).size:
    raise ValueError(f"the mask holds the value {bad.min()}, which stands for "
                     f"none of the {len(values)} classes")
  return table[labels]


@functools.cache
def _tables() -> dict:
  return json.loads(_FILE.read_text(encoding="utf-8"))
