"""Where a simulated reader looks: fixations, and the map of their density.

A reader goes through the chest on a systematic path, side against side, looks
at some spots for no reason, and rests on what is abnormal, the longer the less
obvious it is where it ends. The map is the time spent at each pixel, blurred by
the width of sharp sight; the longest rest is 255. It imitates what eye trackers
record of radiologists (Karargyris et al., Scientific Data 2021, EGD-CXR), whose
maps eCLIP learns from (Kumar and Marttinen, ECCV 2024).
"""

from typing import NamedTuple

import numpy as np

from data_pipelines.phantom import chest_anatomy as anatomy
from data_pipelines.phantom import radiograph_picture as picture
from data_pipelines.phantom.anatomy import Grid

SIGHT_MM = 11.0                    # sigma of a fixation in the map
MISS_MM = 7.0                      # sigma of where the eye lands
PATH_S, STRAY_S, LESION_S = 0.15, 0.2, 0.45    # mean durations
PATH_RATE = 0.8                    # of the path's points that are looked at
STRAY, ON_LESION = (0, 4), (4, 9)  # fewest and most, the latter excluded
# Standard mm (X, Z) of the right half, from the apices to the angles.
PATH = np.array([(46, 92), (74, 58), (42, 38), (44, 10), (86, 10), (70, -22),
                 (96, -58), (52, -46)], float)
MIDDLE = np.array([(0, 70), (0, 10), (-24, -40), (-62, -44)], float)


class Fixations(NamedTuple):
  """Row and column [n, 2], may lie off the picture; seconds [n]."""
  at: np.ndarray
  seconds: np.ndarray


def look(
    rng: np.random.Generator,
    subject: anatomy.Subject,
    grid: Grid,
    masks: list[np.ndarray],       # [side, side] bool, of each lesion
) -> Fixations:
  """Draws the fixations of one reading."""
  pixel = grid.spacing_mm[0]
  both = np.stack([PATH, PATH * [-1, 1]], axis=1).reshape(-1, 2)
  path = np.concatenate([both, MIDDLE])
  path = path[rng.random(len(path)) < PATH_RATE]
  points = np.insert(path, 1, 0.0, axis=1)     # Y does not matter
  at = [picture.to_pixel(grid, subject.to_patient(points))]
  strays = rng.integers(*STRAY)
  at.append(rng.uniform(0.1, 0.9, (strays, 2)) * grid.shape[0])
  mean = [PATH_S] * len(path) + [STRAY_S] * strays
  for mask in masks:
    pixels = np.argwhere(mask)
    number = rng.integers(*ON_LESION)
    at.append(pixels[rng.integers(len(pixels), size=number)])
    mean += [LESION_S] * number
  at = np.concatenate(at)
  at = at + rng.normal(0, MISS_MM / pixel, at.shape)
  return Fixations(at, rng.gamma(4.0, np.array(mean) / 4.0))


def density(
    fixations: Fixations, grid: Grid) -> np.ndarray:  # [side, side] uint8
  """Time spent at each pixel, 255 at its longest."""
  line = np.arange(grid.shape[0])
  sigma = SIGHT_MM / grid.spacing_mm[0]
  row, column = (np.exp(-0.5 * ((line - x[:, None]) / sigma)**2)
                 for x in fixations.at.T)
  time = np.einsum("n,nh,nw->hw", fixations.seconds, row, column)
  return np.rint(255 * time / time.max()).astype(np.uint8)
