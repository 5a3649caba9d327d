"""Draws three planes through the most attended place, and whom it belongs to.

Axial, coronal and sagittal planes of the patient, not of the file: oblique and
coronal series are resampled, all three at one scale in millimetres, in the
radiological convention (the patient's right and front on the left of the
picture). Lines cross in the centre of the top token. Beside them the share of
the attention that each series gets. `heat` says what the colours mean.
"""

from typing import NamedTuple

from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage

from itemclip_jax.tools.figures import heat
from itemclip_jax.tools.study_files import overlay
from itemclip_jax.tools.figures import slices
from itemclip_jax.tools.figures.style import INK, MUTED

WIDTH_INCHES = 9.35                # of the figure, that of four slices
BAR_INCHES, NAME_INCHES = 1.2, 1.3   # the chart on the right, its names
HEAD_INCHES, FOOT_INCHES = 0.3, 0.42
LEFT_INCHES, GAP_INCHES = 0.12, 0.06
MAX_BARS = 8
MAX_PIXELS = 512                   # along the longest side of a plane
GAP_MM = 14.0                      # of the cross lines around the centre

# name -> patient axes (R, A, S) of normal, rows and columns. Rows run to the
# back or the feet, columns to the left or the back: always down their axis.
PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}


class Plane(NamedTuple):
  """A grid of one slice: overlay.on_grid's `shape` and `grid_affine`."""
  shape: tuple[int, int, int]      # 1, rows, columns
  affine: np.ndarray               # [4, 4] -> RAS mm


def places_figure(
    volume: np.ndarray,              # [S, D, H, W] uint8 or int16
    series_names: list[str],         # S names
    attention: np.ndarray,           # [S, d, h, w]
    patch: tuple[int, int, int],     # voxels of one token
    affine: np.ndarray,              # [S, 4, 4] (d, h, w) -> RAS mm
    *,
    lesion_mask: np.ndarray | None = None,  # [S, D, H, W] bool
    limits: tuple[float, float] | None = None,  # black, white; None: by series
) -> Figure | None:
  """Returns the figure; None where the place in the patient is not known."""
  s, *token = np.unravel_index(np.argmax(attention), attention.shape)
  if not slices.is_placed(affine[s]):
    return None
  centre = (affine[s] @ [*overlay.token_centre(token, patch), 1])[:3]
  grids = [plane(volume.shape[1:], affine[s], centre, axes)
           for axes in PLANES.values()]
  figure, panels, chart = _layout(grids, num_series=len(series_names))
  limits = heat.grey_limits(volume[s]) if limits is None else limits
  peak = max(attention.max(), 1e-12)
  for axes, grid, (name, order) in zip(panels, grids, PLANES.items()):
    on_grid = dict(shape=grid.shape, grid_affine=grid.affine)
    lesion = None if lesion_mask is None else _sample(
        lesion_mask[s], affine[s], grid, fill=0, order=0) > 0
    heat.paint(
        axes, _sample(volume[s], affine[s], grid, fill=limits[0], order=1),
        overlay.on_grid(attention[s], patch, affine[s], **on_grid)[0] / peak,
        limits=limits, lesion=lesion)
    _mark(axes, grid, centre, name, order)
  if chart is not None:
    draw_shares(chart, series_names, attention.sum((1, 2, 3), dtype=float))
  heat.foot(figure, lesion=lesion_mask is not None,
            token=f"top token, in {heat.shorten(series_names[s], 22)}",
            marker="+")
  return figure


def plane(shape, affine, centre, axes) -> Plane:
  """The whole extent of a volume, cut through a point.

  Args:
    shape: [3] of the volume.
    affine: [4, 4] of the volume -> RAS mm.
    centre: [3] RAS mm, a point of the plane.
    axes: a value of PLANES.
  """
  corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], [1.0]), -1)
  corners = corners.reshape(-1, 4) @ np.asarray(affine, float)[:3].T
  low, high = corners.min(0), corners.max(0)
  # Of all planes alike, so that they have one scale.
  step = max(np.linalg.norm(affine[:3, :3], axis=0).min(),
             (high - low).max() / MAX_PIXELS)
  grid, size = np.eye(4), []
  grid[:3, :3] = 0
  for column, axis in enumerate(axes):
    grid[axis, column] = -step
    grid[axis, 3] = high[axis] - step / 2
    size.append(max(1, int(np.ceil((high[axis] - low[axis]) / step - 1e-6))))
  grid[axes[0], 3] = centre[axes[0]]
  return Plane((1, *size[1:]), grid)


def draw_shares(axes, series_names: list[str], sums: np.ndarray):
  """Bars of each series' part of all attention, largest on top."""
  share = sums / max(sums.sum(), 1e-12)
  order = np.argsort(-share, kind="stable")
  shown, rest = order[:MAX_BARS], order[MAX_BARS:]
  rows = [(heat.shorten(series_names[s], 18), share[s]) for s in shown]
  if len(rest):
    rows.append((f"{len(rest)} others", share[rest].sum()))
  names, values = zip(*rows)
  axes.barh(range(len(rows)), values, height=0.62, color=[
      "#ff3d00" if i == 0 else "#b8c1cc" for i in range(len(rows))])
  for i, value in enumerate(values):
    axes.text(value + 0.03, i, f"{value:.0%}", va="center", fontsize=8,
              color=INK)
  axes.set_yticks(range(len(rows)), names, fontsize=8, color=INK)
  # Bars of one width, however few there are.
  axes.set(xlim=(0, 1.28), ylim=(max(len(rows), 5) - 0.4, -0.6), xticks=[])
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  axes.set_title("Share of attention", fontsize=8.5, loc="left",
                 color=MUTED, pad=6)


def _layout(grids: list[Plane], *, num_series: int):
  """Figure, its three panels at one scale, and the axes of the bars or None."""
  rows, columns = np.array([g.shape[1:] for g in grids]).T
  bars = NAME_INCHES + BAR_INCHES if num_series > 1 else 0.0
  pixel = (WIDTH_INCHES - LEFT_INCHES - 3 * GAP_INCHES - bars) / sum(columns)
  height = max(rows) * pixel
  total = HEAD_INCHES + height + FOOT_INCHES
  figure = Figure(figsize=(WIDTH_INCHES, total), facecolor="white")
  box = lambda x, y, w, h: (
      x / WIDTH_INCHES, y / total, w / WIDTH_INCHES, h / total)
  panels, x = [], LEFT_INCHES
  for w, h in zip(columns * pixel, rows * pixel):
    panels.append(figure.add_axes(
        box(x, FOOT_INCHES + height - h, w, h), aspect=1.0))
    panels[-1].set_axis_off()
    x += w + GAP_INCHES
  if not bars:
    return figure, panels, None
  return figure, panels, figure.add_axes(
      box(x + NAME_INCHES, FOOT_INCHES, BAR_INCHES, height))


def _sample(volume, affine, grid: Plane, *, fill, order) -> np.ndarray:
  """[rows, columns] of a volume on a plane; `fill` where it has no voxel."""
  to_stored = np.linalg.inv(np.asarray(affine, float)) @ grid.affine
  rows, columns = np.indices(grid.shape[1:])
  at = (to_stored[:3, 1, None, None] * rows
        + to_stored[:3, 2, None, None] * columns + to_stored[:3, 3, None, None])
  values = ndimage.map_coordinates(
      volume.astype(np.float32), at, order=order, mode="nearest")
  size = np.array(volume.shape)[:, None, None]
  return np.where(((at >= -0.5) & (at < size - 0.5)).all(0), values, fill)


def _mark(axes, grid: Plane, centre, name: str, order):
  """Cross lines, patient letters, and where the plane lies."""
  _, row, column = np.linalg.solve(grid.affine, [*centre, 1])[:3]
  gap = GAP_MM / np.linalg.norm(grid.affine[:3, 1])
  style = dict(colors="white", linewidth=0.7, alpha=0.75)
  _, rows, columns = grid.shape
  axes.autoscale(False)
  axes.vlines([column] * 2, *_around(row, gap, rows), **style)
  axes.hlines([row] * 2, *_around(column, gap, columns), **style)
  heat.mark_edges(axes, *(slices.DIRECTIONS[axis][::-1] for axis in order[1:]))
  low, high = slices.DIRECTIONS[order[0]]
  mm = round(float(centre[order[0]]))
  axes.text(0.0, 1.02, f"{name}  {high if mm >= 0 else low} {abs(mm)} mm",
            transform=axes.transAxes, fontsize=8.5, color=MUTED)


def _around(at: float, gap: float, size: int):
  """Starts and ends of the two lines on either side of a gap."""
  return (-0.5, min(at + gap, size - 0.5)), (max(at - gap, -0.5), size - 0.5)
