"""An analytic thorax: every organ is a formula, every subject other numbers.

An average chest is described in standard millimetres (X, Y, Z) along the
patient's right, front and head; a subject's own positions are

    x = centre + scale * X + bend * (Z / 100)^2

with one scale per axis and a bend of x and y, on top of which the organs vary
in size. Organs are painted one over the other into a label map, then get
Hounsfield units. The patient lies supine; no contrast agent was given.
"""

import dataclasses
import functools

import numpy as np

from data_pipelines.phantom import shapes
from data_pipelines.phantom.anatomy import Grid

# Label -> Hounsfield units; the lungs' stand in `Subject`. The order is that of
# the values in the maps of organs.
ORGANS = {
    "outside": -1000.0, "fat": -95.0, "muscle": 50.0, "right lung": -820.0,
    "left lung": -820.0, "heart": 42.0, "aorta": 44.0, "trachea": -990.0,
    "oesophagus": 32.0, "vertebrae": 220.0, "ribs": 450.0, "liver": 60.0,
    "spleen": 50.0, "stomach": 25.0, "gas": -950.0, "vessels": 44.0,
    "disc": 85.0, "spinal canal": 25.0,
}
LABEL = {name: value for value, name in enumerate(ORGANS)}
SIDES = {"right": 1, "left": -1}         # sign of X

MAX_SHIFT_MM, MAX_SCALE, MAX_BEND_MM, MAX_TWIG_MM = 3.0, 0.05, 4.0, 6.0
HEART = (0.92, 1.05)                     # linear size in health
NOISE_HU = 10.0
GRADIENT = -0.3                          # HU per mm: lungs are denser behind

HALF_MM = np.array([118.0, 82.0])        # of the cavity, to the side and front
BODY_MM, BODY_Y = np.array([140.0, 112.0]), -8.0
POWER = 2.4                              # of the superellipses in the plane
APEX_MM = 122.0
# Top of the diaphragm's dome: X, Y and Z; its radii to the side and front; drop
# at one radius from the top. The liver holds the right one up.
DOMES = {"right": (64.0, 8.0, -48.0), "left": (-64.0, 8.0, -58.0)}
DOME_RADII, DOME_DROP = (62.0, 88.0), 66.0

HEART_MM = np.array([-20.0, 17.0, -46.0])
HEART_RADII = np.array([52.0, 41.0, 45.0])
HEART_FAT_MM = 5.0                       # thickness around it
RIB_STEP_MM, RIB_MM, RIB_SLOPE = 26.0, 10.0, 0.55

AORTA_RADIUS = 14.0
AORTA = np.array([                       # from the heart to the abdomen
    [2, 12, -20], [12, 18, 15], [11, 14, 45], [-4, 4, 62], [-27, -28, 58],
    [-27, -43, 35], [-25, -45, -40], [-18, -44, -150]], float)
# Points and radius of further tubes, and what they are painted as.
TUBES = (
    ("oesophagus", 8.0, ((-2, -36, 145), (-2, -34, 20), (-6, -30, -110))),
    ("vessels", 9.0, ((27, 6, 100), (28, 8, 40), (26, 10, -15))),  # cava
    ("vessels", 13.0, ((-14, 28, -10), (-18, 16, 26))),    # pulmonary trunk
    ("vessels", 9.0, ((-18, 16, 26), (-40, -10, 14))),     # and its branches
    ("vessels", 9.0, ((-16, 12, 24), (14, -6, 18), (42, -10, 8))),
    ("trachea", 9.0, ((4, -20, 150), (6, -24, 38))),
    ("trachea", 6.5, ((6, -24, 38), (-36, -22, 12))),
    ("trachea", 6.5, ((6, -24, 38), (34, -22, 10))),
)
HILUM = np.array([40.0, -10.0, 12.0])    # X of the right one
NUM_TRUNKS, NUM_TWIGS = 8, 3             # vessels of one lung, and of a vessel


@dataclasses.dataclass(frozen=True)
class Subject:
  """One chest: position and size, fatness, density, and its vessels.

  Attributes:
    centre_mm, scale: [3].
    bend_mm: [2], of x and y at 100 mm above and below the middle.
    fat: share of the body's half width that is fat under the skin.
    lung_hu: of the lungs at mid height.
    heart: linear size, 1 is average.
    twigs: [2, trunks, twigs + 1, 3] standard mm; where a trunk forks, and the
      ends of its twigs, right lung first.
  """
  centre_mm: np.ndarray
  scale: np.ndarray
  bend_mm: np.ndarray
  fat: float
  lung_hu: float
  heart: float
  twigs: np.ndarray

  def to_patient(self, standard_mm: np.ndarray) -> np.ndarray:
    """Standard mm [..., 3] -> patient RAS mm."""
    x = self.centre_mm + self.scale * standard_mm
    x[..., :2] += self.bend_mm * (standard_mm[..., 2:] / 100)**2
    return x

  def to_standard(self, lines: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """RAS mm of a grid's lines -> X [x, 1, z], Y [1, y, z], Z [z]."""
    x, y, z = (line.astype(np.float32) for line in lines)
    c, s = self.centre_mm.astype(np.float32), self.scale.astype(np.float32)
    Z = (z - c[2]) / s[2]
    bend = np.outer(self.bend_mm, (Z / 100)**2).astype(np.float32)
    X = (x[:, None, None] - c[0] - bend[0]) / s[0]
    Y = (y[:, None] - c[1] - bend[1])[None] / s[1]
    return X, Y, Z

  def heart_axes(self, margin_mm: float = 0.0) -> np.ndarray:
    """[3, 3] rows: unit axis / radius of the heart, patient mm."""
    return np.diag(1 / (HEART_RADII * self.heart * self.scale + margin_mm))

  @property
  def heart_mm(self) -> np.ndarray:
    """Its centre; a large heart grows to the left and front."""
    grown = (self.heart - 1) * HEART_RADII * [-0.4, 0.2, 0.0]
    return self.to_patient(HEART_MM + grown)


def draw_subject(rng: np.random.Generator) -> Subject:
  """A random healthy chest."""
  return Subject(
      centre_mm=rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3),
      scale=rng.uniform(1 - MAX_SCALE, 1 + MAX_SCALE, 3),
      bend_mm=rng.uniform(-MAX_BEND_MM, MAX_BEND_MM, 2),
      fat=rng.uniform(0.06, 0.14), lung_hu=rng.uniform(-840, -800),
      heart=rng.uniform(*HEART), twigs=_tree() + rng.uniform(
          -MAX_TWIG_MM, MAX_TWIG_MM, (2, NUM_TRUNKS, NUM_TWIGS + 1, 3)))


@functools.cache
def _tree() -> np.ndarray:
  """Average vessels, see `Subject.twigs`: all people branch nearly alike."""
  rng = np.random.default_rng(0)
  # Ends lie evenly in each lung; what falls outside is not painted.
  low, high = np.array([35.0, -70.0, -80.0]), np.array([105.0, 70.0, 105.0])
  trunks = rng.uniform(low, high, (2, NUM_TRUNKS, 1, 3))
  ends = trunks + rng.uniform(-38, 38, (2, NUM_TRUNKS, NUM_TWIGS, 3))
  twigs = np.concatenate([HILUM + 0.5 * (trunks - HILUM), ends], axis=2)
  twigs[1, ..., 0] *= -1
  return twigs


def organs(subject: Subject, grid: Grid) -> np.ndarray:
  """The label map [x, y, z] uint8 of a healthy chest; see `LABEL`."""
  X, Y, Z = subject.to_standard(grid.lines())
  labels = _body(subject, X, Y, Z)
  _cavity(labels, X, Y, Z)
  _abdomen(labels, subject, grid, Y)
  box, radius = shapes.ellipsoid(
      grid, subject.heart_mm, subject.heart_axes(HEART_FAT_MM))
  _paint(labels, box, radius < 1, "fat", ("left lung", "right lung"))
  box, radius = shapes.ellipsoid(grid, subject.heart_mm, subject.heart_axes())
  _paint(labels, box, radius < 1, "heart", (
      "left lung", "right lung", "fat", "liver", "stomach", "gas"))
  for name, radius_mm, points in (("aorta", AORTA_RADIUS, AORTA), *TUBES):
    for box, ratio in shapes.tube(grid, subject.to_patient(
        np.array(points, float)), radius_mm):
      _paint(labels, box, ratio < 1, name)
  _vessels(labels, subject, grid)
  _spine(labels, X, Y, Z)
  return labels


def hounsfield(
    subject: Subject, grid: Grid, labels: np.ndarray) -> np.ndarray:
  """Noiseless Hounsfield units, float32, of a label map."""
  table = np.array(list(ORGANS.values()), np.float32)
  table[[LABEL["right lung"], LABEL["left lung"]]] = subject.lung_hu
  hu = table[labels]
  _, Y, _ = subject.to_standard(grid.lines())
  hu += is_lung(labels) * (np.float32(GRADIENT) * Y)
  return hu


def is_lung(labels: np.ndarray) -> np.ndarray:
  return (labels == LABEL["right lung"]) | (labels == LABEL["left lung"])


def _paint(labels, box, where, name: str, over: tuple[str, ...] = ()):
  """Sets labels in a box; with `over`, only those which have these names."""
  part = labels[box]
  if over:
    where = where & np.isin(part, [LABEL[o] for o in over])
  part[where] = LABEL[name]


def _body(subject: Subject, X, Y, Z) -> np.ndarray:
  """Outside, fat, muscle and the ribs' cage, cavity not yet cut out."""
  shoulders = 1 + 0.06 * np.clip((Z - 60) / 60, 0, 1)
  x = np.abs(X / (BODY_MM[0] * shoulders))**POWER
  y = np.abs((Y - BODY_Y) / BODY_MM[1])**POWER
  radius = x + y
  labels = np.zeros(radius.shape, np.uint8)
  labels[radius < 1] = LABEL["fat"]
  labels[radius < (1 - subject.fat)**POWER] = LABEL["muscle"]
  radius = _cage(X, Y, Z)
  stripe = np.mod(Z + RIB_SLOPE * Y, RIB_STEP_MM) < RIB_MM
  bone = (radius > 1.02**POWER) & (radius < 1.10**POWER)
  sternum = (np.abs(X) < 17) & (Y > 60) & (Z < 85) & (Z > -70)
  labels[bone & ((stripe & (Y < 72)) | sternum)] = LABEL["ribs"]
  return labels


def _cage(X, Y, Z) -> np.ndarray:
  """Radius to the power, [x, y, z], in the cavity that the ribs enclose."""
  height = np.clip((Z + 10) / (APEX_MM + 10), 0, 1)
  width = np.sqrt(1 - height**2.5) + np.float32(1e-3)
  x = np.abs(X / (HALF_MM[0] * width))**POWER
  y = np.abs((Y + 20 * (1 - width)) / (HALF_MM[1] * width))**POWER
  return (x + y).astype(np.float32)


def _cavity(labels, X, Y, Z):
  """Lungs above the diaphragm, liver and fat below, fat in the middle."""
  inside = _cage(X, Y, Z) < 1
  middle = 14 + 12 * np.exp(-((Y + 5) / 30)**2) + 6 * (Z > 60)
  labels[inside] = LABEL["fat"]
  for side, (x, y, z) in DOMES.items():
    sign = SIDES[side]
    above = (((X - x) / DOME_RADII[0])**2 * DOME_DROP + (Z - z)
             + ((Y - y) / DOME_RADII[1])**2 * DOME_DROP) > 0
    lung = inside & above & (sign * X > middle)
    labels[lung] = LABEL[f"{side} lung"]
    if side == "right":
      labels[inside & ~above & (X > -25)] = LABEL["liver"]


def _abdomen(labels, subject: Subject, grid: Grid, Y):
  for name, centre, radii in (
      ("spleen", (-78, -38, -112), (28, 34, 44)),
      ("stomach", (-58, 22, -112), (42, 40, 46))):
    box, radius = shapes.ellipsoid(
        grid, subject.to_patient(np.array(centre, float)),
        np.diag(1 / np.array(radii)))
    _paint(labels, box, radius < 1, name, ("fat",))
  stomach = labels == LABEL["stomach"]
  labels[stomach & (Y > 34)] = LABEL["gas"]  # rises to the front


def _vessels(labels, subject: Subject, grid: Grid):
  """Trunks from each hilum, which fork into thinner twigs."""
  for side, twigs in zip(SIDES, subject.twigs):
    hilum = subject.to_patient(HILUM * [SIDES[side], 1, 1])
    for fork, *ends in subject.to_patient(twigs):
      for start, end, radii in (
          (hilum, fork, (5.0, 3.5)), *((fork, e, (3.0, 1.5)) for e in ends)):
        for box, ratio in shapes.tube(grid, np.stack([start, end]), *radii):
          _paint(labels, box, ratio < 1, "vessels", (f"{side} lung",))


def _spine(labels, X, Y, Z):
  bodies = X**2 + (Y + 64)**2 < 20**2
  disc = np.mod(Z, RIB_STEP_MM) < 6
  canal = X**2 + (Y + 94)**2 < 9**2
  arch = (X**2 + (Y + 94)**2 < 17**2) | (
      (np.abs(X) < 5) & (Y < -94) & (Y > -112) & ~disc)
  labels[arch | (bodies & ~disc)] = LABEL["vertebrae"]
  labels[bodies & disc] = LABEL["disc"]
  labels[canal] = LABEL["spinal canal"]
