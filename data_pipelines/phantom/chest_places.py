"""Places of the chest that reports name, in standard mm (chest_anatomy.py)."""

import dataclasses

import numpy as np

# The fissures, in standard mm: the lower lobe lies below z = a + b y; of what
# is above it, the right middle lobe lies below z = c.
OBLIQUE, HORIZONTAL_MM = (-10.0, -0.9), -2.0

# Centre lines of the coronary arteries, in heart radii from its centre.
CORONARIES = {
    "left anterior descending artery": (
        (-0.25, 0.85, 0.62), (-0.55, 0.9, 0.2), (-0.75, 0.75, -0.25)),
    "circumflex artery": (
        (-0.5, 0.1, 0.85), (-0.95, -0.15, 0.4), (-0.95, -0.4, 0.0)),
    "right coronary artery": (
        (0.5, 0.7, 0.55), (0.85, 0.55, 0.1), (0.85, 0.35, -0.45)),
}
AORTA_PARTS = {"ascending aorta": (1, 3), "aortic arch": (2, 5),
               "descending aorta": (5, 7)}  # rows of anatomy.AORTA
DESCENDING_MM = (10.0, -75.0)    # Z of the calcified stretch


@dataclasses.dataclass(frozen=True)
class Place:
  """A named place.

  Attributes:
    region: without its side.
    side: "left", "right", or None where the name says no side.
    centre_mm: of lesions, standard mm.
    holds: what one finding takes, so that another cannot lie there.
  """
  region: str
  side: str | None = None
  centre_mm: tuple[float, float, float] = (0, 0, 0)
  holds: tuple[str, ...] = ()

  @property
  def name(self) -> str:
    return f"{self.side} {self.region}" if self.side else self.region


def _lobe(side: str, region: str, x: float, y: float, z: float) -> Place:
  return Place(region, side, (x, y, z), (f"{side} {region}",))


LOBES = (
    _lobe("left", "upper lobe", -64, 18, 42),
    _lobe("left", "lower lobe", -70, -46, -30),
    _lobe("right", "upper lobe", 64, 12, 46),
    _lobe("right", "middle lobe", 66, 46, -22),
    _lobe("right", "lower lobe", 72, -46, -26),
)
PLEURA = tuple(Place("pleural space", side, holds=(f"{side} lower lobe",))
               for side in ("left", "right"))
HEART = (Place("heart", holds=("heart",)),)
HIATUS = (Place("hiatus", None, (-2, -36, -78), ("hiatus",)),)
AORTA = tuple(Place(name, holds=("aorta",)) for name in AORTA_PARTS)
ARTERIES = tuple(Place(name, holds=("coronaries",)) for name in CORONARIES)


def in_lobe(
    place: Place,
    Y: np.ndarray,     # [1, y, z] standard mm
    Z: np.ndarray,     # [z]
) -> np.ndarray:       # [1, y, z] bool
  """Where the fissures put a lobe; the lungs end elsewhere."""
  lower = Z < OBLIQUE[0] + OBLIQUE[1] * Y
  if place.region == "lower lobe":
    return lower
  if place.side == "left":
    return ~lower
  return ~lower & ((Z < HORIZONTAL_MM) == (place.region == "middle lobe"))
