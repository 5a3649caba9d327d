"""Lesions: which kinds there are, where they lie, what they look like.

Every kind shows in some series and not in others, as in practice. Brightness is
in the units of `anatomy.CONTRAST` and lies clearly outside of normal tissue.
"""

import dataclasses

import numpy as np

from data_pipelines.phantom import anatomy

JITTER_MM = 6.0             # of a lesion's centre, per axis, uniform
DIAMETER_MM = (34.0, 48.0)
BRAINSTEM_MM = (28.0, 32.0)
GAP = 1.05                  # centres keep at least this multiple of the radii
DOT_MM = 5.0                # radius of one microhaemorrhage
NUM_DOTS = 160               # of them in a cluster


@dataclasses.dataclass(frozen=True)
class Kind:
  """A finding. shows: series -> brightness; edge_mm: width of its border."""
  name: str
  shows: dict[str, float]
  edge_mm: float = 2.0
  dots: bool = False        # a cluster of small dots instead of one blob


KINDS = (
    Kind("acute infarct", {"AX_T2": 1.6, "AX_FLAIR": 1.6}),
    Kind("vasogenic oedema", {"AX_FLAIR": 1.6}, edge_mm=4.0),
    Kind("microhaemorrhages", {"AX_SWI": 0.0}, dots=True),
    Kind("haematoma", {"AX_SWI": 0.0, "AX_T1": 1.8}),
    Kind("enhancing mass", {"COR_T1_POST": 1.8}),
    Kind("cystic lesion", {"AX_T2": 1.6, "AX_T1": 0.0, "AX_FLAIR": 0.0}),
    Kind("lipoma", {"AX_T1": 1.8, "COR_T1_POST": 1.8}),
)


@dataclasses.dataclass(frozen=True)
class Place:
  """A named place; side is None in the midline. Centre in template mm."""
  region: str
  side: str | None
  centre_mm: tuple[float, float, float]

  @property
  def name(self) -> str:
    return f"{self.side} {self.region}" if self.side else self.region


def _both_sides(region: str, x: float, y: float, z: float) -> list[Place]:
  return [Place(region, "left", (-x, y, z)), Place(region, "right", (x, y, z))]


PLACES = (
    *_both_sides("frontal lobe", 28, 38, 22),
    *_both_sides("temporal lobe", 48, -20, -18),
    *_both_sides("parietal lobe", 32, -48, 46),
    *_both_sides("occipital lobe", 22, -84, 8),
    *_both_sides("cerebellum", 26, -62, -40),
    *_both_sides("basal ganglia", 21, 2, 4),
    Place("brainstem", None, (0, -28, -34)),
)


@dataclasses.dataclass(frozen=True)
class Lesion:
  """One lesion of a subject; lengths in patient RAS mm."""
  kind: Kind
  place: Place
  centre_mm: np.ndarray        # [3]
  diameter_mm: float
  axes: np.ndarray             # [3, 3] rows: unit axis / radius along it
  ripple: np.ndarray           # [3, 4] wave vector and phase of the surface
  dots_mm: np.ndarray          # [n, 3] centres of the dots, empty for a blob

  def weights(
      self, grid: anatomy.Grid
  ) -> tuple[tuple[slice, slice, slice], np.ndarray, np.ndarray]:
    """Box of the grid that holds the lesion; in it, weight and extent.

    The weight is soft (0..1, how much of a voxel shows the lesion); the
    extent is a bool.
    """
    reach_mm = 0.75 * self.diameter_mm
    near = [np.flatnonzero(np.abs(line - c) <= reach_mm)
            for line, c in zip(grid.lines(), self.centre_mm)]
    box = tuple(slice(n[0], n[-1] + 1) for n in near)
    offset = np.ix_(*(line[b] - c for line, b, c in zip(
        grid.lines(), box, self.centre_mm)))
    u = [sum(a * o for a, o in zip(row, offset)) for row in self.axes]
    radius = np.sqrt(u[0]**2 + u[1]**2 + u[2]**2)
    for wave in self.ripple:  # an uneven surface, by a few per cent
      radius = radius * (1 + 0.05 * np.sin(
          wave[0] * u[0] + wave[1] * u[1] + wave[2] * u[2] + wave[3]))
    if self.kind.dots:
      return box, self._dots(offset), radius < 1
    depth_mm = (1 - radius) * self.diameter_mm / 2
    weight = np.clip(0.5 + depth_mm / self.kind.edge_mm, 0, 1)
    return box, weight, radius < 1

  def _dots(self, offset: tuple[np.ndarray, ...]) -> np.ndarray:
    weight = 0.0
    for dot in self.dots_mm:
      squared = sum((o - d)**2 for o, d in zip(offset, dot))
      weight = np.maximum(weight, np.exp(-(squared / DOT_MM**2)**2))
    return weight


def draw_lesions(
    rng: np.random.Generator, subject: anatomy.Subject,
    series: tuple[str, ...], number: int) -> list[Lesion]:
  """Up to `number` lesions of distinct kinds that do not overlap.

  A kind is drawn only where one of `series` shows it.
  """
  kinds = [k for k in KINDS if set(k.shows) & set(series)]
  kinds = [kinds[i] for i in rng.permutation(len(kinds))[:number]]
  places = [PLACES[i] for i in rng.permutation(len(PLACES))]
  found = []
  for kind in kinds:
    while places:
      lesion = _draw(rng, subject, kind, places.pop())
      if all(_apart(lesion, other) for other in found):
        found.append(lesion)
        break
  return found


def _draw(rng, subject, kind: Kind, place: Place) -> Lesion:
  low, high = BRAINSTEM_MM if place.side is None else DIAMETER_MM
  diameter = rng.uniform(low, high)
  shape = np.exp(rng.uniform(-0.15, 0.15, 3))
  radii = diameter / 2 * shape / np.cbrt(shape.prod())  # keeps the volume
  turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
  jitter = rng.uniform(-JITTER_MM, JITTER_MM, 3)
  inside = rng.standard_normal((NUM_DOTS, 3))
  inside /= np.linalg.norm(inside, axis=1, keepdims=True)
  inside *= 0.95 * np.cbrt(rng.uniform(0, 1, (NUM_DOTS, 1)))
  return Lesion(
      kind=kind, place=place, diameter_mm=diameter,
      centre_mm=subject.to_patient(np.array(place.centre_mm) + jitter),
      axes=(turn / radii).T,
      ripple=np.concatenate([rng.uniform(-4, 4, (3, 3)),
                             rng.uniform(0, 2 * np.pi, (3, 1))], axis=1),
      dots_mm=(inside * radii) @ turn.T if kind.dots else np.zeros((0, 3)))


def _apart(a: Lesion, b: Lesion) -> bool:
  gap = np.linalg.norm(a.centre_mm - b.centre_mm)
  return gap > GAP * (a.diameter_mm + b.diameter_mm) / 2

