"""Ellipsoids and tubes on a grid, each in the box that holds it."""

from collections.abc import Iterator

import numpy as np

from data_pipelines.phantom.anatomy import Grid


def ellipsoid(
    grid: Grid, centre_mm: np.ndarray, axes: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
  """The box that holds it, and the radius there, 1 on its surface.

  Args:
    grid: where.
    centre_mm: [3] RAS.
    axes: [3, 3] rows: unit axis / radius along it.
  """
  reach = np.linalg.norm(np.linalg.inv(axes), axis=1)
  box, offset = _offsets(grid, centre_mm - reach, centre_mm + reach, centre_mm)
  u = [sum(np.float32(a) * o for a, o in zip(row, offset)) for row in axes]
  return box, np.sqrt(u[0]**2 + u[1]**2 + u[2]**2)


def tube(
    grid: Grid, points: np.ndarray, radius_mm: float, end_mm: float = 0.0
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
  """Box and distance / radius of every straight part of a tube.

  Args:
    grid: where.
    points: [n, 3] RAS mm of its centre line.
    radius_mm: at its beginning.
    end_mm: at its end; 0 is the same.
  """
  radii = np.linspace(radius_mm, end_mm or radius_mm, len(points))
  for a, b, r, s in zip(points, points[1:], radii, radii[1:]):
    reach = max(r, s)
    box, offset = _offsets(grid, np.minimum(a, b) - reach,
                           np.maximum(a, b) + reach, a)
    way = (b - a).astype(np.float32)
    at = sum(w * o for w, o in zip(way, offset)) / (way @ way)
    at = np.clip(at, 0, 1)
    squared = sum((o - w * at)**2 for w, o in zip(way, offset))
    yield box, np.sqrt(squared) / (r + np.float32(s - r) * at)


def _offsets(grid: Grid, low, high, origin):
  """Slices between two corners; open mesh of mm from the origin."""
  box, offset = [], []
  for line, l, h, o in zip(grid.lines(), low, high, origin):
    start, stop = np.searchsorted(line, [l, h])
    box.append(slice(start, stop))
    offset.append((line[start:stop] - o).astype(np.float32))
  return tuple(box), np.ix_(*offset)
