"""Paints attention over anatomy: one look for all pictures.

Grey or colours are the image, heat the attention relative to the most attended
token of the WHOLE study (so what is ignored stays plain), the yellow line half
of that peak, the white box the token itself, the cyan line the annotated
lesion.
"""

from matplotlib import colors
from matplotlib import lines
from matplotlib import patches
from matplotlib import patheffects
import numpy as np

from itemclip_jax.tools.figures.style import INK

HALF = 0.5                         # of the peak: where the contour runs
MAX_ALPHA = 0.68                   # anatomy stays readable under the hottest
ALPHA_POWER = 0.6                  # so that a tenth of the peak is still seen
LESION, TOKEN, CONTOUR = "#00e5ff", "#ffffff", "#ffee58"
MAP = colors.LinearSegmentedColormap.from_list(
    "heat", ["#6a00a8", "#c2185b", "#ff3d00", "#ff9800"])
OUTLINED = [patheffects.withStroke(linewidth=2.6, foreground="black")]
_EDGED = [patheffects.withStroke(linewidth=2.2, foreground="#00000099")]


def grey_limits(series: np.ndarray) -> tuple[float, float]:
  """Black and white point: few bright voxels must not darken the anatomy.

  Black is 0, or the least value where values may be negative (CT, where it is
  air at the lower end of the window).
  """
  low = 0.0 if series.dtype.kind == "u" else float(series.min())
  tissue = series[series > low]
  high = float(np.percentile(tissue, 99.5)) if tissue.size else low + 1.0
  return low, high


def shorten(name: str, length: int) -> str:
  """A name that fits; series names may be one long word."""
  return name if len(name) <= length else name[:length - 1] + "…"


def paint(
    axes,
    image: np.ndarray,               # [H, W], or [H, W, 3] 0..255
    heat: np.ndarray | None,         # [H, W], 1 = peak of the study
    *,
    limits: tuple[float, float] = (0.0, 255.0),
    lesion: np.ndarray | None = None,  # [H, W] bool
):
  """Draws one plane, the heat over it, and both outlines."""
  aspect = axes.get_aspect()
  axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect,
              interpolation="bilinear")
  if heat is not None:
    axes.imshow(heat, cmap=MAP, vmin=0, vmax=1, aspect=aspect,
                alpha=_alpha(heat))
    if heat.min() < HALF < heat.max():
      axes.contour(heat, levels=[HALF], colors=CONTOUR, linewidths=1.0
                   ).set_path_effects(_EDGED)
  if lesion is not None and lesion.any():
    axes.contour(lesion, levels=[0.5], colors=LESION, linewidths=1.1)


def mark_token(axes, token: tuple[int, int], patch: tuple[int, int]):
  """A box around token (row, column) of a stored plane."""
  (row, column), (height, width) = token, patch
  axes.add_patch(patches.Rectangle(
      (column * width - 0.5, row * height - 0.5), width, height, fill=False,
      edgecolor=TOKEN, linewidth=1.3, path_effects=OUTLINED))


def mark_edges(axes, rows: tuple[str, str], columns: tuple[str, str],
               bottom: float = 0.02):
  """Patient directions: (top, bottom) and (left, right) of a panel."""
  for x, y, letter, ha, va in (
      (0.02, 0.5, columns[0], "left", "center"),
      (0.98, 0.5, columns[1], "right", "center"),
      (0.5, 0.985, rows[0], "center", "top"),
      (0.5, bottom, rows[1], "center", "bottom")):
    axes.text(x, y, letter, color="white", fontsize=9, weight="bold",
              ha=ha, va=va, transform=axes.transAxes, path_effects=OUTLINED)


def foot(figure, *, lesion: bool, token: str = "top token of the study",
         marker: str = "s"):
  """Colour bar and marks along the foot of a figure; 0.4 inches high.

  Args:
    figure: of at least 6 inches' width.
    lesion: explain the cyan line.
    token: explains the white mark.
    marker: its shape, a name of Matplotlib.
  """
  width, height = figure.get_size_inches()
  y = 0.17 / height
  bar = figure.add_axes((0.12 / width, y, 1.1 / width, 0.11 / height))
  ramp = np.linspace(0, 1, 128)[None]
  place = dict(aspect="auto", extent=(0, 1, 0, 1))
  bar.imshow(np.zeros_like(ramp), cmap="gray", vmin=0, vmax=1, **place)
  bar.imshow(ramp, cmap=MAP, alpha=_alpha(ramp), **place)
  bar.axvline(HALF, color=CONTOUR, linewidth=1.2)
  bar.set_axis_off()
  figure.text(1.3 / width, y + 0.055 / height, va="center", fontsize=7.5,
              s="attention, 0 to its peak; line: half", color=INK)
  marks = [lines.Line2D([], [], linestyle="", marker=marker, markersize=7,
                        markerfacecolor="none", markeredgecolor="#6b7280",
                        markeredgewidth=1.3, label=token)]
  if lesion:
    marks.append(lines.Line2D([], [], color="#00b8cc", linewidth=1.6,
                              label="annotated lesion"))
  figure.legend(handles=marks, loc="center right", ncols=2, frameon=False,
                fontsize=7.5, labelcolor=INK, handlelength=1.2,
                borderaxespad=0, bbox_to_anchor=(1.0, y + 0.055 / height))


def _alpha(heat):
  return MAX_ALPHA * np.clip(heat, 0, 1) ** ALPHA_POWER
