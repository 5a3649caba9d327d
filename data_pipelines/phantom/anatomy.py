"""Real anatomy, varied: every subject is the MNI template in another shape.

Tissue maps of the ICBM152 2009a template (Fonov et al. 2011; they ship inside
nilearn) are read through a subject's own map from patient to template space,

    m = c + M (x - c - t) + u(x)

with c the centre of the template's brain, M a rotation and scaling, t a shift
and u a smooth field of a few cosine modes; all lengths in RAS mm. A series is
a weighted sum of the tissues, times a bias field, plus noise.
"""

import dataclasses
import functools
import importlib.resources

import nibabel as nib
import numpy as np
from scipy import ndimage

CENTRE_MM = np.array([0.0, -17.0, 4.0])  # middle of the template's brain
BLOCK = 3             # template voxels of 1 mm that are averaged to one
NUM_MODES = 4         # cosine modes per axis of the smooth fields
FIELD_MM = 220.0      # length of the box on which the modes are defined

MAX_SHIFT_MM, MAX_TURN_DEG, MAX_SCALE = 3.0, 4.0, 0.05
WARP_MM = 0.8         # standard deviation of one mode's displacement
BIAS = 0.02           # the same of the logarithm of the intensity
NOISE = 0.03          # in units of the brightest normal tissue

# Brightness of (grey matter, white matter, cerebrospinal fluid) by series.
CONTRAST = {
    "AX_T1": (0.50, 0.75, 0.20),
    "AX_T2": (0.52, 0.36, 0.80),
    "AX_FLAIR": (0.56, 0.42, 0.18),
    "AX_SWI": (0.60, 0.50, 0.72),
    "COR_T1_POST": (0.52, 0.72, 0.22),
}


@dataclasses.dataclass(frozen=True)
class Grid:
  """Voxels [X, Y, Z] along the patient's right, front and head.

  Attributes:
    shape: X, Y, Z.
    spacing_mm: of each axis.
    centre_mm: RAS position of the middle of the grid.
  """
  shape: tuple[int, int, int]
  spacing_mm: tuple[float, float, float]
  centre_mm: np.ndarray

  def lines(self) -> list[np.ndarray]:
    """RAS coordinates of the voxels along each axis, three 1-D arrays."""
    return [c + s * (np.arange(n) - (n - 1) / 2) for n, s, c in zip(
        self.shape, self.spacing_mm, self.centre_mm)]

  @property
  def affine(self) -> np.ndarray:  # [4, 4]
    affine = np.diag([*self.spacing_mm, 1.0])
    affine[:3, 3] = [line[0] for line in self.lines()]
    return affine


@functools.cache
def template() -> tuple[np.ndarray, np.ndarray]:
  """Maps of grey and white matter [2, X, Y, Z], and where the brain is."""
  folder = importlib.resources.files("nilearn") / "datasets" / "data"
  maps = []
  for name in ("gm", "wm", "t1"):
    with importlib.resources.as_file(
        folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    ) as path:
      maps.append(_averaged(np.asarray(nib.load(path).dataobj)))
  # The template is stripped of its skull, so brain is what is not black.
  brain = ndimage.binary_closing(maps[2] > 12, iterations=2)
  brain = ndimage.binary_fill_holes(brain)
  return np.stack(maps[:2]) / np.float32(255), brain


def _averaged(x: np.ndarray) -> np.ndarray:
  """Mean over blocks: the template at the resolution of the phantom."""
  shape = [n // BLOCK for n in x.shape]
  x = x[tuple(slice(n * BLOCK) for n in shape)].astype(np.float32)
  x = x.reshape(shape[0], BLOCK, shape[1], BLOCK, shape[2], BLOCK)
  return x.mean(axis=(1, 3, 5))


# RAS mm of the middle of the first block; the template starts at this corner.
ORIGIN_MM = np.array([-98.0, -134.0, -72.0]) + (BLOCK - 1) / 2


@dataclasses.dataclass(frozen=True)
class Subject:
  """One brain. matrix: M [3, 3]; shift_mm: t [3]; warp: [3, modes^3]."""
  matrix: np.ndarray
  shift_mm: np.ndarray
  warp: np.ndarray
  bias: np.ndarray        # [1, modes^3]

  @property
  def centre_mm(self) -> np.ndarray:
    return CENTRE_MM + self.shift_mm

  def to_template(self, lines: list[np.ndarray]) -> np.ndarray:
    """Patient mm on the lines of a grid -> template mm [3, X, Y, Z]."""
    out = smooth_field(self.warp, lines)
    for axis in range(3):
      x, y, z = (
          (m * (line - c)).astype(np.float32) for m, line, c in zip(
              self.matrix[axis], lines, self.centre_mm))
      x += np.float32(CENTRE_MM[axis])
      out[axis] += x[:, None, None] + y[:, None]
      out[axis] += z
    return out

  def to_patient(self, template_mm: np.ndarray) -> np.ndarray:
    """The inverse of `to_template` for one point [3], by iteration."""
    inverse = np.linalg.inv(self.matrix)
    x = np.array(template_mm)
    for _ in range(4):  # the warp is a few mm and smooth: error < 0.01 mm
      u = smooth_field(self.warp, [x[:1], x[1:2], x[2:]])
      x = self.centre_mm + inverse @ (template_mm - CENTRE_MM - u.ravel())
    return x

  def brain(self, lines: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels are brain [X, Y, Z]; their template index [3, n]."""
    _, brain = template()
    at = self.to_template(lines)
    at -= ORIGIN_MM.astype(np.float32)[:, None, None, None]
    at *= np.float32(1 / BLOCK)
    nearest = [np.clip(a + np.float32(0.5), 0, n - 1).astype(np.int32)
               for a, n in zip(at, brain.shape)]
    inside = brain[tuple(nearest)]
    return inside, at[:, inside]

  def tissue(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels are brain; their (grey, white, fluid) fractions [3, n]."""
    inside, at = self.brain(grid.lines())
    grey, white = (
        ndimage.map_coordinates(m, at, order=1, mode="nearest")
        for m in template()[0])
    return inside, np.stack([grey, white, np.maximum(1 - grey - white, 0)])


def draw_subject(rng: np.random.Generator) -> Subject:
  """A random head: a few mm, a few degrees, a few per cent, a smooth warp."""
  turn = np.radians(rng.uniform(-MAX_TURN_DEG, MAX_TURN_DEG, 3))
  matrix = np.diag(1 / rng.uniform(1 - MAX_SCALE, 1 + MAX_SCALE, 3))
  for axis, angle in enumerate(turn):
    rotation = np.eye(3)
    a, b = (i for i in range(3) if i != axis)
    rotation[a, a] = rotation[b, b] = np.cos(angle)
    rotation[a, b], rotation[b, a] = -np.sin(angle), np.sin(angle)
    matrix = matrix @ rotation
  modes = (NUM_MODES,) * 3
  return Subject(
      matrix=matrix,
      shift_mm=rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3),
      warp=WARP_MM * rng.standard_normal((3, *modes)),
      bias=BIAS * rng.standard_normal((1, *modes)))


def smooth_field(
    modes: np.ndarray,        # [C, modes, modes, modes]
    lines: list[np.ndarray],  # RAS mm along each axis, three 1-D arrays
) -> np.ndarray:              # [C, X, Y, Z] float32
  """Sum of cosine products; separable, so it costs little on a grid."""
  frequency = np.pi * np.arange(NUM_MODES) / FIELD_MM
  x, y, z = (np.cos(np.outer(line + FIELD_MM / 2, frequency)).astype(
      np.float32) for line in lines)
  field = modes.astype(np.float32) @ z.T           # [C, i, j, Z]
  field = np.einsum("cijz,yj->ciyz", field, y)
  return np.einsum("ciyz,xi->cxyz", field, x)


def contrast(
    name: str, tissue: np.ndarray) -> np.ndarray:  # [3, n] -> [n]
  """Brightness of every brain voxel in one series, free of noise and bias."""
  return np.einsum("t,tn->n", np.float32(CONTRAST[name]), tissue)
