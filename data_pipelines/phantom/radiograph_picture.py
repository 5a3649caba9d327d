"""A chest in Hounsfield units -> the radiograph that a detector behind it sees.

Parallel rays run from back to front (Beer and Lambert):

    L = mu sum_y max(0, 1 + HU / 1000) dy        what a ray has lost
    I = exp(-L) + s blur(exp(-L))                with what scatters

then I is counted in quanta, and its negative logarithm shown in the window
that holds the body. Bone is white; the patient's right is on the left.
"""

import numpy as np
from scipy import ndimage

from data_pipelines.phantom.anatomy import Grid

FIELD_MM = 280.0               # of the square picture
DEPTH = Grid((1, 56, 1), (1.0, 4.4, 1.0), np.zeros(3))   # along the rays
WATER = 0.018                  # mu, 1 / mm, at 70 keV or so
# Radiographs are taken with softer rays than CT: they see more of the calcium.
CALCIUM_HU, CALCIUM = 230.0, 3.0
SCATTER, SCATTER_MM = 0.25, 28.0
QUANTA = 30_000                # of a pixel without a patient
BLUR_PIXELS = 0.45             # of the detector
SHOWN = (1.5, 99.0)            # per cent of the body in the window, and
MARGIN = 0.3                   # what is left below: lungs keep their shades
LEAST_LOSS = 0.9               # of a ray through the body
VISIBLE = 0.2                  # of the greatest depth: where a lesion is seen


def grid(side: int) -> Grid:
  """Voxels whose shadows are the pixels of a picture of `side` x `side`."""
  pixel = FIELD_MM / side
  return Grid((side, DEPTH.shape[1], side), (pixel, DEPTH.spacing_mm[1], pixel),
              np.zeros(3))


def to_pixel(
    grid_: Grid,
    patient_mm: np.ndarray,    # [..., 3] RAS
) -> np.ndarray:               # [..., 2] row and column
  """Where the shadow of a point falls."""
  x, _, z = (line for line in grid_.lines())
  step = grid_.spacing_mm[0]
  return np.stack([(z[-1] - patient_mm[..., 2]) / step,
                   (x[-1] - patient_mm[..., 0]) / step], axis=-1)


def expose(
    rng: np.random.Generator,
    hu: np.ndarray,            # [x, y, z]
    grid_: Grid,
) -> np.ndarray:               # [side, side] uint8
  """The picture, with its grain."""
  hu = hu + CALCIUM * np.maximum(hu - CALCIUM_HU, 0)
  density = np.maximum(1 + hu / 1000, 0)
  loss = _frontal(WATER * grid_.spacing_mm[1] * density.sum(axis=1))
  direct = np.exp(-loss)
  reach = SCATTER_MM / grid_.spacing_mm[0]
  light = direct + SCATTER * ndimage.gaussian_filter(direct, reach)
  light = ndimage.gaussian_filter(light, BLUR_PIXELS)
  light += np.sqrt(light / QUANTA) * rng.standard_normal(light.shape)
  seen = -np.log(np.maximum(light, 1 / QUANTA))
  black, white = np.percentile(seen[loss > LEAST_LOSS], SHOWN)
  black -= MARGIN
  shown = np.clip((seen - black) / (white - black), 0, 1)
  return np.rint(255 * shown).astype(np.uint8)


def shadow(extent: np.ndarray) -> np.ndarray:  # [x, y, z] -> [side, side] bool
  """The pixels on which a lesion is seen: not its thin rim."""
  depth = _frontal(extent.sum(axis=1))
  return depth > VISIBLE * depth.max()


def _frontal(rays: np.ndarray) -> np.ndarray:
  """[x, z] -> [row, column]: head at the top, right side on the left."""
  return rays[::-1, ::-1].T
