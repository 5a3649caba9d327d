"""Draws where one text looks in one study.

One row per series, the most attended first; a few slices each. `heat` says
what grey, colour, lines and box mean. With an affine the edges carry patient
directions, and axial and coronal planes are shown in the radiological
convention: the patient's right on the left of the picture. A picture (see
`slices.is_picture`) is shown once as it is and once under its attention.

    python -m itemclip_jax.tools.visualize --workdir=runs/demo

draws every `figures/attention_*.npz` that evaluation left in a run directory.
"""

import json
import pathlib
import textwrap

from absl import app
from absl import flags
from matplotlib.figure import Figure
import numpy as np
import tqdm

from itemclip_jax.errors import UserError
from itemclip_jax.tools.figures import heat
from itemclip_jax.tools.figures import slices
from itemclip_jax.tools.figures.style import INK, MUTED

PANEL_INCHES, PICTURE_INCHES = 1.9, 3.7  # width of a slice, of a picture
LABEL_INCHES = 1.75                # column of series names, left of the panels
HEAD_INCHES, FOOT_INCHES = 0.6, 0.5  # above it, the lines of the title
TITLE_INCHES = 0.18                # one line of it


def attention_figure(
    volume: np.ndarray,              # [S, D, H, W] uint8 or int16
    series_names: list[str],         # S names; "" = padding
    attention: np.ndarray,           # [S, d, h, w] head mean, no zero slot
    patch: tuple[int, int, int],     # voxels of one token
    *,
    text: str,
    score: float | None = None,
    lesion_mask: np.ndarray | None = None,  # [S, D, H, W] bool
    visible: np.ndarray | None = None,      # [S] bool, series that show it
    affine: np.ndarray | None = None,       # [S, 4, 4] (d, h, w) -> RAS mm
    limits: tuple[float, float] | None = None,  # black, white; None: by series
    num_slices: int = 4,
    max_series: int = 5,
) -> Figure:
  """Returns the figure; save it with `figure.savefig(path, dpi=150)`."""
  _check_shapes(volume, series_names, attention, patch, lesion_mask)
  if slices.is_picture(volume, series_names):
    return _picture_figure(
        volume[0], attention[0], patch, text=text, score=score,
        lesion=None if lesion_mask is None else lesion_mask[0, 0])
  if affine is not None:
    volume, attention, lesion_mask, affine = slices.radiological(
        volume, attention, lesion_mask, affine)
  real = [s for s, name in enumerate(series_names) if name]
  share = attention.sum((1, 2, 3)) / max(attention[real].sum(), 1e-12)
  order = sorted(real, key=lambda s: -share[s])[:max_series]
  affines = {s: None if affine is None else affine[s] for s in order}
  figure, panels = _slice_layout(text, volume.shape, list(affines.values()),
                                 num_slices)
  top = np.unravel_index(np.argmax(attention), attention.shape)
  for row, s in enumerate(order):
    _draw_series(panels[row], volume[s], attention[s], patch,
                 lesion=None if lesion_mask is None else lesion_mask[s],
                 affine=affines[s], peak=attention.max(), limits=limits,
                 top=top[1:] if s == top[0] else None)
    _label_row(panels[row][0], f"{row + 1} {series_names[s]}", share[s],
               None if visible is None else bool(visible[s]))
  _label_facts(figure, score, attention, len(real) - len(order))
  heat.foot(figure, lesion=lesion_mask is not None)
  return figure


def draw_examples(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Draws what evaluation kept; returns the PNGs, captions.json beside them.

  A file may lack `group` and `caption`, which become the words under it, and
  `score`, `lesion_mask`, `visible`, `affine` and `limits` of the figure.
  """
  folder = workdir / "figures"
  drawn, captions = [], {}
  for path in tqdm.tqdm(sorted(folder.glob("attention_*.npz")),
                        desc="pictures", unit="study"):
    with np.load(path) as x:
      given = {name: x[name] for name in (
          "lesion_mask", "visible", "affine", "limits")
               if name in x and x[name].size}
      figure = attention_figure(
          x["volume"], [str(name) for name in x["series_names"]],
          x["attention"], tuple(int(n) for n in x["patch"]),
          text=str(x["text"]),
          score=float(x["score"]) if "score" in x else None, **given)
      captions[path.stem + ".png"] = {
          name: str(x[name]) if name in x else ""
          for name in ("group", "caption")}
    drawn.append(path.with_suffix(".png"))
    figure.savefig(drawn[-1], dpi=120)
  (folder / "captions.json").write_text(json.dumps(captions, indent=2))
  return drawn


def _picture_figure(picture, attention, patch, *, text, score, lesion):
  """The picture [3, H, W], and its attention [1, h, w] over it."""
  height = PICTURE_INCHES * picture.shape[1] / picture.shape[2]
  figure, ((plain, shown),) = _layout(
      text, [height], columns=2, panel_inches=PICTURE_INCHES, left_inches=0.12)
  peak = max(attention.max(), 1e-12)
  colours = np.moveaxis(picture, 0, -1)
  (plane,) = slices.upsample(attention, patch, [0]) / peak
  heat.paint(plain, colours, None)
  heat.paint(shown, colours, plane, lesion=lesion)
  token = np.unravel_index(np.argmax(attention[0]), attention[0].shape)
  heat.mark_token(shown, token, patch[1:])
  _label_facts(figure, score, attention, 0)
  heat.foot(figure, lesion=lesion is not None,
            token="top token of the picture")
  return figure


def _has_tissue(series, limits):
  """[D] bool: at least a fiftieth of the slice is brighter than noise."""
  low, high = limits
  return (series > low + 0.15 * (high - low)).mean((1, 2)) > 0.02


def _slice_layout(text, shape, affines, num_slices):
  """Rows as high as their pixels want, behind the column of names."""
  aspects = [slices.pixel_aspect(affine) for affine in affines]
  figure, panels = _layout(
      text, [PANEL_INCHES * shape[2] * a / shape[3] for a in aspects],
      columns=num_slices, panel_inches=PANEL_INCHES, left_inches=LABEL_INCHES)
  for row, aspect in zip(panels, aspects):
    for axes in row:
      axes.set_aspect(aspect)
  return figure, panels


def _layout(text, heights, *, columns, panel_inches, left_inches):
  """Figure with its title, and one list of empty panels for each row."""
  width = left_inches + columns * panel_inches
  lines = textwrap.wrap(f"“{text}”", int(width * 9.2), max_lines=3,
                        placeholder=" …")
  head = HEAD_INCHES + TITLE_INCHES * len(lines)
  height = head + sum(heights) + FOOT_INCHES
  figure = Figure(figsize=(width, height), facecolor="white")
  figure.text(0.12 / width, 1 - 0.14 / height, "\n".join(lines), va="top",
              fontsize=11, weight="bold", color=INK, linespacing=1.15)
  grid = figure.add_gridspec(
      len(heights), columns, height_ratios=heights, wspace=0.03,
      hspace=0.05, left=left_inches / width, right=1 - 0.08 / width,
      top=1 - head / height, bottom=FOOT_INCHES / height)
  panels = [[figure.add_subplot(grid[row, column]) for column in range(columns)]
            for row in range(len(heights))]
  for axes in figure.axes:
    axes.set_axis_off()
    axes.set_aspect(1.0)
  return figure, panels


def _draw_series(panels, volume, attention, patch, *, lesion, affine, peak,
                 limits, top):
  """Fills one row; `top` is the study's top token (d, h, w) if it is here."""
  limits = heat.grey_limits(volume) if limits is None else tuple(limits)
  shown = slices.pick_slices(attention, patch, lesion, len(panels),
                             tissue=_has_tissue(volume, limits))
  planes = slices.upsample(attention, patch, shown) / max(peak, 1e-12)
  for axes, z, plane in zip(panels, shown, planes):
    heat.paint(axes, volume[z], plane, limits=limits,
               lesion=None if lesion is None else lesion[z])
    why = []
    if z == slices.top_slice(attention, patch):
      why.append("peak of this series" if top is None else "top token")
    if lesion is not None and lesion.any() and (
        z == slices.largest_slice(lesion)):
      why.append("lesion")
    axes.text(0.03, 0.03, " · ".join([f"slice {z}", *why]), color="white",
              transform=axes.transAxes, fontsize=6.8,
              path_effects=heat.OUTLINED)
    if top is not None and z // patch[0] == top[0]:
      heat.mark_token(axes, top[1:], patch[1:])
  if affine is not None and slices.is_placed(affine):
    heat.mark_edges(panels[0], slices.edge_letters(affine, 1),
                    slices.edge_letters(affine, 2),
                    bottom=0.1)  # above the slice number


def _label_row(axes, name, share, visible):
  """Series name, its share of attention, and whether it shows the lesion."""
  figure, box = axes.figure, axes.get_position(original=True)
  width, height = figure.get_size_inches()
  left, middle, line = 0.12 / width, (box.y0 + box.y1) / 2, 0.19 / height
  name = heat.shorten(name, 22)
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
              fontsize=8.5, color=MUTED)


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
  if not any(series_names) and not slices.is_picture(volume, series_names):
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
