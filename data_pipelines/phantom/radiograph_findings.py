"""Findings of a frontal radiograph: which there are, where, in which grade.

The patient stands: fluid sinks to the base and gas rises. Each finding has one
of three grades, which is its size, or its density where it is diffuse. Sizes
are chosen so that neighbouring grades differ on a picture of 96 pixels; some
findings are a little denser than in nature, or they would drown in grain.

Blobs (opacity, consolidation, nodule) are those of `chest_findings`, which
paints on a patient who lies. A pericardial effusion looks like a large heart
here, so there is none.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines.phantom import chest_anatomy as anatomy
from data_pipelines.phantom import chest_findings as chest_lib
from data_pipelines.phantom import shapes
from data_pipelines.phantom.anatomy import Grid
from data_pipelines.phantom.chest_places import Place

AIR_HU, HOLES_HU = -1000, -990
OPACITY_HU, CONSOLIDATION_HU, NODULE_HU = 110, 200, 480   # above the CT's
VERTEBRA_HU = 120                 # spongy: no white bar hides the middle
PLEURA_MM, PLEURA_HU = 4.0, 250   # thickness of its line; HU above the lung's
COLLAPSE_HU = 2.5                 # rise of a lung that shrinks, per mm of gap
MENISCUS_MM, EDEMA_MM = 34.0, 48.0
WALL_MM = 6.0                     # of the herniated stomach
CLAVICLE_MM, CLAVICLE_HU = 6.0, 330
CLAVICLE = np.array([[14, 62, 92], [70, 40, 104], [150, -10, 122]], float)

_SIZES = ("small", "moderate", "large")
_DEGREES = ("mild", "moderate", "severe")


def _lobe(side: str, region: str, x: float, y: float, z: float) -> Place:
  return Place(region, side, (x, y, z), (f"{side} {region}",))


# Apart on a frontal picture, unlike the lobes' middles in `chest_places`.
LOBES = (
    _lobe("right", "upper lobe", 62, 10, 58),
    _lobe("right", "middle lobe", 46, 40, 2),
    _lobe("right", "lower lobe", 84, -40, -36),
    _lobe("left", "upper lobe", -62, 12, 52),
    _lobe("left", "lower lobe", -84, -40, -34),
)
_LOWER = tuple(p for p in LOBES if p.region == "lower lobe")
_SIDES = ("right", "left")
# Fluid hides what lies low, and a lung that shrank has its lobes elsewhere.
_FLUID = tuple(Place("pleural space", side, holds=(
    f"{side} pleura", f"{side} middle lobe", f"{side} lower lobe"))
               for side in _SIDES)
_GAS = tuple(Place("pleural space", side, holds=(
    f"{side} pleura", f"{side} lung", f"{side} upper lobe",
    f"{side} middle lobe", f"{side} lower lobe")) for side in _SIDES)
_LUNGS = tuple(Place("lung", side, holds=(f"{side} lung",)) for side in _SIDES)
_HEART = (Place("", holds=("heart",)),)   # nobody says where the heart is
_BEHIND = (Place("retrocardiac", None, (-24, -40, -54), ("hiatus",)),)
_HILA = (Place("perihilar", holds=("right lung", "left lung")),)


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of finding.

  Attributes:
    name: its category, one of MedFILIP's 61 (Liang et al. 2025).
    places: where it occurs.
    grades: what reports call the three.
    size: smallest and largest of each grade; the unit is that of `paint`.
    paint: (chest, finding) -> extent, [x, y, z] bool.
  """
  name: str
  places: tuple[Place, ...]
  grades: tuple[str, str, str]
  size: tuple[tuple[float, float], ...]
  paint: Callable[[chest_lib.Chest, "Finding"], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Finding:
  """One finding. grade: 0..2; size_mm: see `Kind.size`; seed: of details."""
  kind: Kind
  place: Place
  grade: int
  size_mm: float
  seed: int


def _cardiomegaly(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  del finding  # `subject_of` made the heart large before it was painted
  return chest.labels == anatomy.LABEL["heart"]


def _effusion(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """Fluid up to Z = size, and higher at the side: the meniscus."""
  X, _, Z = chest.subject.to_standard(chest.grid.lines())
  level = finding.size_mm + MENISCUS_MM * (np.abs(X) / anatomy.HALF_MM[0])**4
  extent = chest.lung(finding.place) & (Z < level)
  chest.hu[extent] = chest_lib.FLUID_HU
  return extent


def _pneumothorax(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """Air around a lung that shrank by `size` mm at its apex.

  The edge of the lung follows the silhouette of the cavity
  (`chest_anatomy._cage`) and is upright, so that the pleura draws a line.
  """
  X, _, Z = chest.subject.to_standard(chest.grid.lines())
  gap, top = finding.size_mm, anatomy.APEX_MM + 10
  height = np.clip((Z + 10) / (top - gap), 0, None)**2.5
  width = anatomy.HALF_MM[0] - 0.7 * gap
  radius = (X / width)**2 + height
  edge = ((np.abs(X) - PLEURA_MM) / (width - PLEURA_MM))**2 + height
  side = anatomy.SIDES[finding.place.side] * X > 0
  lung = chest.lung(finding.place)
  vessels = (chest.labels == anatomy.LABEL["vessels"]) & side
  extent = (lung | vessels) & (radius > 1)
  inside = lung & (radius <= 1)
  chest.hu[inside] += COLLAPSE_HU * gap
  chest.hu[inside & (edge > 1 - 2 * PLEURA_MM / width)] += PLEURA_HU
  chest.hu[extent] = AIR_HU
  chest.labels[extent] = anatomy.LABEL["gas"]
  return extent


def _emphysema(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """A share `size` of the tissue is gone, most of it above."""
  _, _, Z = chest.subject.to_standard(chest.grid.lines())
  extent = chest.lung(finding.place)
  share = finding.size_mm * np.clip(0.8 + Z / 300, 0.5, 1)
  chest.hu += extent * np.float32(share) * (HOLES_HU - chest.hu)
  return extent


def _edema(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """Haze of `size` HU around both hila: the wings of a bat."""
  X, _, Z = chest.subject.to_standard(chest.grid.lines())
  hilum = anatomy.HILUM
  distance = ((np.abs(X) - hilum[0] - 12)**2 + (Z - hilum[2] + 8)**2)
  weight = np.exp(-distance / EDEMA_MM**2).astype(np.float32)
  lung = anatomy.is_lung(chest.labels)
  chest.hu += lung * weight * np.float32(finding.size_mm)
  return lung & (weight > 0.5)


def _atelectasis(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """Plates without air, `size` mm thick, one more for each grade."""
  rng = np.random.default_rng(finding.seed)
  X, Y, Z = chest.subject.to_standard(chest.grid.lines())
  x, y, z = finding.place.centre_mm
  slope = np.sign(x) * rng.uniform(-0.45, -0.1)
  disc = ((X - x * 0.9) / 34)**2 + ((Y - y) / 50)**2 < 1
  extent = np.zeros(chest.labels.shape, bool)
  for k in range(finding.grade + 1):
    middle = z + 14 - 19 * k + rng.uniform(-3, 3) + slope * (X - x)
    extent |= disc & (np.abs(Z - middle) < finding.size_mm / 2)
  extent &= chest.lung(finding.place)
  chest.hu[extent] = chest_lib.SOFT_HU
  return extent


def _hernia(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  """Stomach behind the heart: a wall, fluid, and gas above a level."""
  centre = chest.subject.to_patient(np.array(finding.place.centre_mm))
  radii = finding.size_mm / 2 * np.array([1.1, 0.8, 0.9])
  box, radius = shapes.ellipsoid(chest.grid, centre, np.diag(1 / radii))
  behind = np.isin(chest.labels[box], [anatomy.LABEL[name] for name in (
      "left lung", "right lung", "fat", "oesophagus", "vessels", "heart",
      "aorta")])
  extent = np.zeros(chest.labels.shape, bool)
  extent[box] = (radius < 1) & behind
  chest.hu[extent] = chest_lib.SOFT_HU
  lumen = extent[box] & (radius < 1 - 2 * WALL_MM / finding.size_mm)
  above = chest.grid.lines()[2][box[2]] > centre[2]
  chest.hu[box][lumen & above] = AIR_HU
  return extent


def _opacity(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  return _blob("lung opacity", chest, finding, OPACITY_HU)


def _consolidation(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  return _blob("consolidation", chest, finding, CONSOLIDATION_HU)


def _nodule(chest: chest_lib.Chest, finding: Finding) -> np.ndarray:
  return _blob("lung nodule", chest, finding, NODULE_HU)


def _blob(name: str, chest: chest_lib.Chest, finding: Finding,
          denser_hu: float) -> np.ndarray:
  """Paints as `chest_findings` does, which reads place, size and seed."""
  kind = next(k for k in chest_lib.KINDS if k.name == name)
  extent = kind.paint(chest, finding)
  chest.hu[extent] += denser_hu
  return extent


# Small ones last: where extents overlap the later one counts.
KINDS = (
    Kind("cardiomegaly", _HEART, _DEGREES,       # linear size of the heart
         ((1.16, 1.19), (1.26, 1.30), (1.38, 1.44)), _cardiomegaly),
    Kind("edema", _HILA, _DEGREES,
         ((130, 160), (230, 270), (370, 430)), _edema),
    Kind("emphysema", _LUNGS, _DEGREES,
         ((0.42, 0.5), (0.68, 0.76), (0.95, 1.0)), _emphysema),
    Kind("effusion", _FLUID, _SIZES,
         ((-76, -68), (-46, -36), (-4, 12)), _effusion),
    Kind("pneumothorax", _GAS, _SIZES,
         ((18, 24), (36, 44), (64, 76)), _pneumothorax),
    Kind("opacity", LOBES, _SIZES,
         ((36, 42), (52, 58), (70, 78)), _opacity),
    Kind("consolidation", LOBES, _SIZES,
         ((32, 37), (46, 52), (64, 72)), _consolidation),
    Kind("hiatal hernia", _BEHIND, _SIZES,
         ((42, 47), (58, 64), (76, 84)), _hernia),
    Kind("atelectasis", _LOWER, _DEGREES,
         ((5.5, 6.5), (7, 8), (8.5, 9.5)), _atelectasis),
    Kind("nodule", LOBES, _SIZES,
         ((16, 18), (22, 25), (29, 32)), _nodule),
)


def draw_findings(rng: np.random.Generator, number: int) -> list[Finding]:
  """Up to `number` findings of distinct kinds, none in another's place."""
  found, taken = [], set()
  for i in rng.permutation(len(KINDS)):
    kind = KINDS[i]
    free = [p for p in kind.places if not taken & set(p.holds)]
    if not free or len(found) == number:
      continue
    place, grade = free[rng.integers(len(free))], int(rng.integers(3))
    taken |= set(place.holds)
    found.append(Finding(kind, place, grade, rng.uniform(*kind.size[grade]),
                         int(rng.integers(2**31))))
  return sorted(found, key=lambda f: KINDS.index(f.kind))


def subject_of(
    rng: np.random.Generator, found: list[Finding]) -> anatomy.Subject:
  """A chest that can show them."""
  subject = anatomy.draw_subject(rng)
  for finding in found:
    if finding.kind.name == "cardiomegaly":
      subject = dataclasses.replace(subject, heart=finding.size_mm)
  return subject


def paint(
    subject: anatomy.Subject, found: list[Finding], grid: Grid
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Hounsfield units [x, y, z], and the extent [x, y, z] of every finding."""
  labels = anatomy.organs(subject, grid)
  chest = chest_lib.Chest(
      subject, grid, labels, anatomy.hounsfield(subject, grid, labels))
  chest.hu[labels == anatomy.LABEL["vertebrae"]] = VERTEBRA_HU
  for sign in anatomy.SIDES.values():
    points = subject.to_patient(CLAVICLE * [sign, 1, 1])
    for box, ratio in shapes.tube(grid, points, CLAVICLE_MM):
      chest.hu[box][ratio < 1] = CLAVICLE_HU
  return chest.hu, [f.kind.paint(chest, f) for f in found]
