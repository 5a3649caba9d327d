"""Draws where one text looks in one study.

One row per series, the most attended first; a few slices each. Grey is the
anatomy, colour the attention relative to the most attended token of the WHOLE
study (so a series that is ignored stays grey), the white box that token, the
cyan line the annotated lesion. With an affine the edges carry patient
directions, and axial and coronal planes are shown in the radiological
convention: the patient's right on the left of the picture.

    python -m itemclip_jax.tools.visualize --workdir=runs/demo

draws every `figures/attention_*.npz` that evaluation left in a run directory.
"""

import json
import pathlib
import textwrap

from absl import app
from absl import flags
from matplotlib import colors
from matplotlib import patches
from matplotlib import patheffects
from matplotlib.figure import Figure
import numpy as np
import tqdm

from itemclip_jax.errors import UserError
from itemclip_jax.tools import slices

PANEL_INCHES = 1.9
LABEL_INCHES = 1.75                # column of series names, left of the panels
HEAD_INCHES, FOOT_INCHES = 0.6, 0.5  # above it, the lines of the title
TITLE_INCHES = 0.18                # one line of it
MAX_ALPHA = 0.68                   # anatomy stays readable under the hottest
ALPHA_POWER = 0.6                  # so that a tenth of the peak is still seen
LESION, TOKEN, INK = "#00e5ff", "#ffffff", "#1f2933"
HEAT = colors.LinearSegmentedColormap.from_list(
    "heat", ["#6a00a8", "#c2185b", "#ff3d00", "#ff9800"])
OUTLINED = [patheffects.withStroke(linewidth=2.6, foreground="black")]


def attention_figure(
    volume: np.ndarray,              # [S, D, H, W] uint8
    series_names: list[str],         # S names; "" = padding
    attention: np.ndarray,           # [S, d, h, w] head mean, no zero slot
    patch: tuple[int, int, int],     # voxels of one token
    *,
    text: str,
    score: float | None = None,
    lesion_mask: np.ndarray | None = None,  # [S, D, H, W] bool
    visible: np.ndarray | None = None,      # [S] bool, series that show it
    affine: np.ndarray | None = None,       # [S, 4, 4] (d, h, w) -> RAS mm
    num_slices: int = 4,
    max_series: int = 5,
) -> Figure:
  """Returns the figure; save it with `figure.savefig(path, dpi=150)`."""
  _check_shapes(volume, series_names, attention, patch, lesion_mask)
  if affine is not None:
    volume, attention, lesion_mask, affine = slices.radiological(
        volume, attention, lesion_mask, affine)
  real = [s for s, name in enumerate(series_names) if name]
  share = attention.sum((1, 2, 3)) / max(attention[real].sum(), 1e-12)
  order = sorted(real, key=lambda s: -share[s])[:max_series]
  affines = {s: None if affine is None else affine[s] for s in order}
  figure, panels = _layout(text, volume.shape, list(affines.values()),
                           num_slices)
  top = np.unravel_index(np.argmax(attention), attention.shape)
  for row, s in enumerate(order):
    _draw_series(panels[row], volume[s], attention[s], patch,
                 lesion=None if lesion_mask is None else lesion_mask[s],
                 affine=affines[s], peak=attention.max(),
                 top=top[1:] if s == top[0] else None)
    _label_row(panels[row][0], f"{row + 1}  {series_names[s]}", share[s],
               None if visible is None else bool(visible[s]))
  _label_facts(figure, score, attention, len(real) - len(order))
  _label_foot(figure, lesion_mask is not None)
  return figure


def draw_examples(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Draws what evaluation kept; returns the PNGs, captions.json beside them.

  Every picture is the first lesion of its kind in the test split, hit or miss.
  """
  folder = workdir / "figures"
  drawn, captions = [], {}
  for path in tqdm.tqdm(sorted(folder.glob("attention_*.npz")),
                        desc="pictures", unit="study"):
    with np.load(path) as x:
      figure = attention_figure(
          x["volume"], [str(name) for name in x["series_names"]],
          x["attention"], tuple(int(n) for n in x["patch"]),
          text=str(x["text"]), score=float(x["score"]),
          lesion_mask=x["lesion_mask"], visible=x["visible"],
          affine=x["affine"])
      captions[path.stem + ".png"] = (
          f"{x['finding']}: the most attended token "
          f"{'lies on' if x['hit'] else 'misses'} the lesion "
          f"(study {x['study_id']}).")
    drawn.append(path.with_suffix(".png"))
    figure.savefig(drawn[-1], dpi=120)
  (folder / "captions.json").write_text(json.dumps(captions, indent=2))
  return drawn


def _grey_limit(series) -> float:
  """White point: a few bright voxels must not darken the anatomy."""
  tissue = series[series > 0]
  return float(np.percentile(tissue, 99.5)) if tissue.size else 1.0


def _has_tissue(series, white):
  """[D] bool: at least a fiftieth of the slice is brighter than noise."""
  return (series > 0.15 * white).mean((1, 2)) > 0.02


def _layout(text, shape, affines, num_slices):
  """Figure with its title, and one list of empty panels for each series."""
  aspects = [slices.pixel_aspect(affine) for affine in affines]
  heights = [PANEL_INCHES * shape[2] * a / shape[3] for a in aspects]
  width = LABEL_INCHES + num_slices * PANEL_INCHES
  lines = textwrap.wrap(f"“{text}”", int(width * 9.2), max_lines=3,
                        placeholder=" …”")
  head = HEAD_INCHES + TITLE_INCHES * len(lines)
  height = head + sum(heights) + FOOT_INCHES
  figure = Figure(figsize=(width, height), facecolor="white")
  figure.text(0.12 / width, 1 - 0.14 / height, "\n".join(lines), va="top",
              fontsize=11, weight="bold", color=INK, linespacing=1.15)
  grid = figure.add_gridspec(
      len(affines), num_slices, height_ratios=heights, wspace=0.03,
      hspace=0.05, left=LABEL_INCHES / width, right=1 - 0.08 / width,
      top=1 - head / height, bottom=FOOT_INCHES / height)
  panels = [[figure.add_subplot(grid[row, column], aspect=aspect)
             for column in range(num_slices)]
            for row, aspect in enumerate(aspects)]
  for axes in figure.axes:
    axes.set_axis_off()
  return figure, panels


def _draw_series(panels, volume, attention, patch, *, lesion, affine, peak,
                 top):
  """Fills one row; `top` is the study's top token (d, h, w) if it is here."""
  white = _grey_limit(volume)
  shown = slices.pick_slices(attention, patch, lesion, len(panels),
                             tissue=_has_tissue(volume, white))
  heat = slices.upsample(attention, patch, shown) / max(peak, 1e-12)
  for axes, z, plane in zip(panels, shown, heat):
    _draw_slice(axes, volume[z], plane, white,
                None if lesion is None else lesion[z])
    why = []
    if z == slices.top_slice(attention, patch):
      why.append("peak of this series" if top is None else "top token")
    if lesion is not None and lesion.any() and (
        z == slices.largest_slice(lesion)):
      why.append("lesion")
    axes.text(0.03, 0.03, " · ".join([f"slice {z}", *why]), color="white",
              transform=axes.transAxes, fontsize=6.8, path_effects=OUTLINED)
    if top is not None and z // patch[0] == top[0]:
      _draw_token(axes, top[1:], patch[1:])
  if affine is not None:
    _label_edges(panels[0], affine)


def _draw_slice(axes, plane, heat, white, lesion):
  aspect = axes.get_aspect()
  axes.imshow(plane, cmap="gray", vmin=0, vmax=white, aspect=aspect,
              interpolation="bilinear")
  axes.imshow(heat, cmap=HEAT, vmin=0, vmax=1, aspect=aspect,
              alpha=_alpha(heat))
  if lesion is not None and lesion.any():
    axes.contour(lesion, levels=[0.5], colors=LESION, linewidths=1.1)


def _alpha(heat):
  return MAX_ALPHA * np.clip(heat, 0, 1) ** ALPHA_POWER


def _draw_token(axes, token, patch):
  (row, column), (height, width) = token, patch
  axes.add_patch(patches.Rectangle(
      (column * width - 0.5, row * height - 0.5), width, height, fill=False,
      edgecolor=TOKEN, linewidth=1.3, path_effects=OUTLINED))


def _label_edges(axes, affine):
  top, bottom = slices.edge_letters(affine, 1)
  left, right = slices.edge_letters(affine, 2)
  for x, y, letter, ha, va in (
      (0.02, 0.5, left, "left", "center"),
      (0.98, 0.5, right, "right", "center"),
      (0.5, 0.985, top, "center", "top"),
      (0.5, 0.1, bottom, "center", "bottom")):  # above the slice number
    axes.text(x, y, letter, color="white", fontsize=9, weight="bold",
              ha=ha, va=va, transform=axes.transAxes, path_effects=OUTLINED)


def _label_row(axes, name, share, visible):
  """Series name, its share of attention, and whether it shows the lesion."""
  figure, box = axes.figure, axes.get_position(original=True)
  width, height = figure.get_size_inches()
  left, middle, line = 0.12 / width, (box.y0 + box.y1) / 2, 0.19 / height
  name = textwrap.shorten(name, 22, placeholder="…")
  figure.text(left, middle + line, name, weight="bold", fontsize=9, color=INK,
              va="center")
  figure.text(left, middle, f"{share:.0%} of attention", fontsize=8.5,
              color=INK, va="center")
  if visible is not None:
    figure.text(left, middle - line, "shows the lesion" if visible
                else "lesion not visible", fontsize=7.5, va="center",
                color="#00707d" if visible else "#6b7280")


def _label_facts(figure, score, attention, num_left_out):
  """The line between title and slices."""
  width, height = figure.get_size_inches()
  facts = [] if score is None else [
      f"score {score:.3f}" if np.isfinite(score) else "score undefined"]
  facts.append(f"top token holds {attention.max():.1%} of the attention")
  facts.append(f"{max(0.0, 1 - attention.sum()):.0%} attends to nothing")
  if num_left_out > 0:
    facts.append(f"{num_left_out} further series not shown")
  top = max(axes.get_position(original=True).y1 for axes in figure.axes)
  figure.text(0.12 / width, top + 0.26 / height, "  ·  ".join(facts),
              fontsize=8.5, color="#52606d")


def _label_foot(figure, has_lesion):
  """Colour bar and marks along the foot of the figure."""
  width, height = figure.get_size_inches()
  y = 0.17 / height
  bar = figure.add_axes((0.12 / width, y, 1.3 / width, 0.11 / height))
  ramp = np.linspace(0, 1, 128)[None]
  place = dict(aspect="auto", extent=(0, 1, 0, 1))
  bar.imshow(np.zeros_like(ramp), cmap="gray", vmin=0, vmax=1, **place)
  bar.imshow(ramp, cmap=HEAT, alpha=_alpha(ramp), **place)
  bar.set_axis_off()
  figure.text(1.5 / width, y + 0.055 / height, va="center", fontsize=7.5,
              s="attention, 0 to that of the top token", color=INK)
  marks = [patches.Patch(fill=False, edgecolor="#6b7280", linewidth=1.3,
                         label="top token of the study")]
  if has_lesion:
    marks.append(patches.Patch(fill=False, edgecolor="#00b8cc", linewidth=1.3,
                               label="annotated lesion"))
  figure.legend(handles=marks, loc="center right", ncols=2, frameon=False,
                fontsize=7.5, labelcolor=INK, handlelength=1.2,
                borderaxespad=0, bbox_to_anchor=(1.0, y + 0.055 / height))


def _check_shapes(volume, series_names, attention, patch, lesion_mask):
  tiled = tuple(n * p for n, p in zip(attention.shape[1:], patch))
  if (volume.ndim != 4 or attention.ndim != 4 or volume.shape[1:] != tiled
      or not len(volume) == len(attention) == len(series_names)):
    raise UserError(
        f"Got a volume {volume.shape}, attention {attention.shape}, patch "
        f"{tuple(patch)} and {len(series_names)} series names; want [S,D,H,W], "
        "[S,d,h,w] with (D,H,W) = patch * (d,h,w), and S names.")
  if lesion_mask is not None and lesion_mask.shape != volume.shape:
    raise UserError(f"lesion_mask is {lesion_mask.shape}; want the volume's "
                    f"{volume.shape}.")
  if not any(series_names):
    raise UserError("Every series name is empty, so all is padding.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  for path in draw_examples(pathlib.Path(flags.FLAGS.workdir)):
    print(path)


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "Run directory that was evaluated.")
  flags.mark_flag_as_required("workdir")
  app.run(main)
