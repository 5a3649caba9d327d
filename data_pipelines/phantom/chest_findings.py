"""Findings of the chest: which there are, where they lie, how they look.

Each kind has a function that paints it on a chest and returns its extent. They
are large, so that they survive voxels of 9 x 5 x 5 mm, and in Hounsfield units
that a radiologist would measure.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines.phantom import chest_anatomy as anatomy
from data_pipelines.phantom import chest_places as places
from data_pipelines.phantom import shapes
from data_pipelines.phantom.anatomy import Grid

SOFT_HU, FLUID_HU, GLASS_HU, HOLES_HU = 40, 8, -390, -965
CALCIUM_HU = 1300
HEART_GROWTH = (1.24, 1.34)      # linear size, above anatomy.HEART
EDGE_MM = 4.0                    # width of the border of a blob
WALL_MM = 5.0                    # thickness of a calcified wall


@dataclasses.dataclass
class Chest:
  """A chest being painted; labels and hu [x, y, z] change in place."""
  subject: anatomy.Subject
  grid: Grid
  labels: np.ndarray
  hu: np.ndarray

  def lung(self, place: places.Place) -> np.ndarray:
    """[x, y, z] bool: lung of the place's side, and lobe if it is one."""
    lung = self.labels == anatomy.LABEL[f"{place.side} lung"]
    if place not in places.LOBES:
      return lung
    _, Y, Z = self.subject.to_standard(self.grid.lines())
    return lung & places.in_lobe(place, Y, Z)


@dataclasses.dataclass(frozen=True)
class Finding:
  """One finding of a subject. size_mm: see the kind; seed: of its details."""
  kind: "Kind"
  place: places.Place
  size_mm: float
  seed: int


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of finding.

  Attributes:
    name: as CT-RATE calls it.
    places: where it occurs.
    size_mm: smallest and largest diameter or thickness.
    paint: (chest, finding) -> extent, [x, y, z] bool.
    measured: whether reports tell the size in mm.
  """
  name: str
  places: tuple[places.Place, ...]
  size_mm: tuple[float, float]
  paint: Callable[[Chest, Finding], np.ndarray]
  measured: bool = False


def _cardiomegaly(chest: Chest, finding: Finding) -> np.ndarray:
  del finding  # `subject_of` made the heart large before it was painted
  return chest.labels == anatomy.LABEL["heart"]


def _pericardial_effusion(chest: Chest, finding: Finding) -> np.ndarray:
  """Fluid around the fat that covers the heart."""
  subject = chest.subject
  extent = np.zeros(chest.labels.shape, bool)
  for margin_mm, fluid in ((anatomy.HEART_FAT_MM + finding.size_mm, True),
                           (anatomy.HEART_FAT_MM, False)):
    box, radius = shapes.ellipsoid(
        chest.grid, subject.heart_mm, subject.heart_axes(margin_mm))
    extent[box][radius < 1] = fluid
  extent &= anatomy.is_lung(chest.labels) | (
      chest.labels == anatomy.LABEL["fat"])
  chest.hu[extent] = FLUID_HU
  chest.labels[extent] = anatomy.LABEL["fat"]
  return extent


def _hiatal_hernia(chest: Chest, finding: Finding) -> np.ndarray:
  """Stomach behind the heart, with gas at its front."""
  centre = chest.subject.to_patient(np.array(finding.place.centre_mm))
  radii = finding.size_mm / 2 * np.array([1.2, 0.7, 1.0])
  box, radius = shapes.ellipsoid(chest.grid, centre, np.diag(1 / radii))
  behind = np.isin(chest.labels[box], [anatomy.LABEL[name] for name in (
      "left lung", "right lung", "fat", "oesophagus", "vessels", "liver")])
  extent = np.zeros(chest.labels.shape, bool)
  extent[box] = (radius < 1) & behind
  chest.hu[extent] = SOFT_HU / 2
  chest.labels[extent] = anatomy.LABEL["stomach"]
  gas = extent & (chest.grid.lines()[1] > centre[1] + 6)[:, None]
  chest.hu[gas] = anatomy.ORGANS["gas"]
  chest.labels[gas] = anatomy.LABEL["gas"]
  return extent


def _pleural_effusion(chest: Chest, finding: Finding) -> np.ndarray:
  """Fluid sinks to the back, thickest at the base."""
  _, Y, Z = chest.subject.to_standard(chest.grid.lines())
  share = np.clip(1 - ((Z + 75) / 125)**2, 0, 1)
  extent = chest.lung(finding.place) & (
      Y < -anatomy.HALF_MM[1] + finding.size_mm * share)
  chest.hu[extent] = FLUID_HU
  return extent


def _emphysema(chest: Chest, finding: Finding) -> np.ndarray:
  """Holes all over a lobe; what is left between them is thin."""
  rng = np.random.default_rng(finding.seed)
  extent = chest.lung(finding.place)
  x, y, z = (np.float32(line) for line in chest.grid.lines())
  wall = 0.0
  for wave in rng.normal(0, 0.35, (3, 3)).astype(np.float32):
    phase = (wave[0] * x[:, None, None] + wave[1] * y[:, None] + wave[2] * z)
    wall = wall + np.sin(phase[extent])
  chest.hu[extent] = np.where(wall < 1.2, HOLES_HU, chest.hu[extent])
  return extent


def _opacity(chest: Chest, finding: Finding) -> np.ndarray:
  """Ground glass: vessels still show in it."""
  box, weight, extent = _blob(chest, finding)
  part = chest.hu[box]
  np.maximum(part, part + weight * (GLASS_HU - part), out=part)
  return extent


def _consolidation(chest: Chest, finding: Finding) -> np.ndarray:
  """Lung without air, but for some bronchi."""
  box, weight, extent = _blob(chest, finding)
  bronchi = np.zeros(extent.shape, bool)
  rng = np.random.default_rng(finding.seed + 1)
  centre = chest.subject.to_patient(np.array(finding.place.centre_mm, float))
  for end in rng.normal(0, finding.size_mm / 4, (4, 3)):
    for inside, ratio in shapes.tube(
        chest.grid, np.stack([centre, centre + end]), 2.5):
      bronchi[inside] |= ratio < 1
  weight = weight * ~bronchi[box]
  chest.hu[box] += weight * (SOFT_HU - chest.hu[box])
  return extent


def _nodule(chest: Chest, finding: Finding) -> np.ndarray:
  box, weight, extent = _blob(chest, finding)
  chest.hu[box] += weight * (SOFT_HU - chest.hu[box])
  return extent


def _aortic_calcification(chest: Chest, finding: Finding) -> np.ndarray:
  """A plate in the wall of a part of the aorta."""
  rng = np.random.default_rng(finding.seed)
  rows = slice(*places.AORTA_PARTS[finding.place.region])
  line = anatomy.AORTA[rows].copy()
  if finding.place.region == "descending aorta":
    line[:, 2] = places.DESCENDING_MM
  outer = anatomy.AORTA_RADIUS + 1
  parts = list(shapes.tube(
      chest.grid, chest.subject.to_patient(line), outer))
  extent = np.zeros(chest.labels.shape, bool)
  for box, ratio in parts:
    extent[box] |= ratio < 1
  for box, ratio in parts:  # what lies in one part is no wall of the next
    extent[box] &= ratio > 1 - WALL_MM / outer
  angle = rng.uniform(0, 2 * np.pi)
  X, Y, _ = chest.subject.to_standard(chest.grid.lines())
  middle = line.mean(axis=0)
  extent &= (np.cos(angle) * (X - middle[0])
             + np.sin(angle) * (Y - middle[1])) > -0.2 * outer
  extent &= np.isin(chest.labels, [anatomy.LABEL[name] for name in (
      "aorta", "fat", "left lung", "right lung")])  # not what touches it
  chest.hu[extent] = CALCIUM_HU
  return extent


def _coronary_calcification(chest: Chest, finding: Finding) -> np.ndarray:
  """Plaques along one artery, on the surface of the heart."""
  rng = np.random.default_rng(finding.seed)
  subject = chest.subject
  line = np.array(places.CORONARIES[finding.place.region])
  line /= np.linalg.norm(line, axis=1, keepdims=True)
  points = subject.heart_mm + line / np.diag(subject.heart_axes(2))
  extent = np.zeros(chest.labels.shape, bool)
  for at in rng.permutation(np.linspace(0.1, 1.9, 6))[:5]:
    k, share = int(at), at % 1
    centre = points[k] * (1 - share) + points[k + 1] * share
    radii = rng.uniform(0.8, 1.2, 3) * finding.size_mm / 2
    box, radius = shapes.ellipsoid(chest.grid, centre, np.diag(1 / radii))
    extent[box] |= radius < 1
  chest.hu[extent] = CALCIUM_HU
  return extent


# Small ones last: where extents overlap the later one counts.
KINDS = (
    Kind("cardiomegaly", places.HEART, (0, 0), _cardiomegaly),
    Kind("pericardial effusion", places.HEART, (12, 18), _pericardial_effusion,
         measured=True),
    Kind("hiatal hernia", places.HIATUS, (50, 64), _hiatal_hernia,
         measured=True),
    Kind("pleural effusion", places.PLEURA, (34, 70), _pleural_effusion,
         measured=True),
    Kind("emphysema", places.LOBES, (0, 0), _emphysema),
    Kind("lung opacity", places.LOBES, (56, 74), _opacity, measured=True),
    Kind("consolidation", places.LOBES, (48, 66), _consolidation,
         measured=True),
    Kind("lung nodule", places.LOBES, (26, 34), _nodule, measured=True),
    Kind("arterial wall calcification", places.AORTA, (0, 0),
         _aortic_calcification),
    Kind("coronary artery wall calcification", places.ARTERIES, (13, 17),
         _coronary_calcification),
)


def draw_findings(rng: np.random.Generator, number: int) -> list[Finding]:
  """Up to `number` findings of distinct kinds, none in another's place."""
  found, taken = [], set()
  for i in rng.permutation(len(KINDS)):
    kind = KINDS[i]
    free = [p for p in kind.places if not taken & set(p.holds)]
    if not free or len(found) == number:
      continue
    place = free[rng.integers(len(free))]
    taken |= set(place.holds)
    found.append(Finding(kind, place, rng.uniform(*kind.size_mm),
                         int(rng.integers(2**31))))
  return sorted(found, key=lambda f: KINDS.index(f.kind))


def subject_of(
    rng: np.random.Generator, found: list[Finding]) -> anatomy.Subject:
  """A chest that can show them."""
  subject = anatomy.draw_subject(rng)
  if any(f.kind.name == "cardiomegaly" for f in found):
    subject = dataclasses.replace(subject, heart=rng.uniform(*HEART_GROWTH))
  return subject


def paint(
    subject: anatomy.Subject, found: list[Finding], grid: Grid
) -> tuple[Chest, list[np.ndarray]]:
  """The chest without noise, and the extent [x, y, z] of every finding."""
  labels = anatomy.organs(subject, grid)
  chest = Chest(subject, grid, labels,
                anatomy.hounsfield(subject, grid, labels))
  return chest, [f.kind.paint(chest, f) for f in found]


def _blob(chest: Chest, finding: Finding):
  """Box, weight 0..1 and extent of an uneven ball in the lobe.

  The weight, in the box, is how much of a voxel shows the lesion.
  """
  rng = np.random.default_rng(finding.seed)
  shape = np.exp(rng.uniform(-0.12, 0.12, 3))
  radii = finding.size_mm / 2 * shape / np.cbrt(shape.prod())
  turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
  centre = finding.place.centre_mm + rng.uniform(-7, 7, 3)
  box, radius = shapes.ellipsoid(
      chest.grid, chest.subject.to_patient(centre), (turn / radii).T)
  weight = np.clip(0.5 + (1 - radius) * finding.size_mm / 2 / EDGE_MM, 0, 1)
  # Vessels are part of the lobe that they run through.
  part = chest.labels[box]
  air = chest.lung(finding.place)[box] | (part == anatomy.LABEL["vessels"])
  extent = np.zeros(chest.labels.shape, bool)
  extent[box] = air & (radius < 1)
  return box, (weight * air).astype(np.float32), extent
