"""The audit's pictures: a contact sheet and the histograms.

A thumbnail shows what is STORED: no brightness is adapted, so a study that is
too dark or too bright looks so. Axial and coronal slices are in the
radiological convention, the patient's right on the left of the picture.
"""

import dataclasses
import io
import math
import textwrap
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from itemclip_jax.data import record
from itemclip_jax.data import volume

INK, MUTED, RULE, LESION = "#1f2933", "#52606d", "#d9dee4", "#00e5ff"
COLOURS = ("#1f5fa8", "#c2571a", "#2e7d57", "#8a4fa3", "#a8871f", "#5b6770")
CHANNEL_COLOURS = {"red": "#c0392b", "green": "#2e7d57", "blue": "#1f5fa8"}
# What lies where in Hounsfield units, for the marks of the histogram.
HU_MARKS = {"air": -1000, "lung": -800, "fat": -100, "soft tissue": 40,
            "bone": 700}
COLUMNS = 6
_PANEL_INCHES, _TEXT_INCHES, _PICTURE_SIDE = 1.75, 0.78, 336


@dataclasses.dataclass(frozen=True)
class Thumbnail:
  """One study of the contact sheet.

  Attributes:
    pixels: [h, w] or [h, w, 3] uint8.
    lesion: [h, w] bool, or None where nobody outlined anything.
    aspect: height of a pixel over its width.
  """
  pixels: np.ndarray
  lesion: np.ndarray | None
  aspect: float
  study_id: str
  where: str        # split and slice
  text: str         # the item of the lesion, else the first one


def thumbnail(
    study: dict[str, Any], contract: record.Contract, split: str) -> Thumbnail:
  """The slice with the most lesion, else the middle of an axial series."""
  if "image" in study:
    return _picture(study, split)
  shown = _visible_lesions(study)              # [S, D, H, W], k + 1
  s, z = _middle(study)
  lesion = None
  if shown is not None:
    s, z = np.unravel_index(
        np.argmax(np.count_nonzero(shown, (2, 3))), shown.shape[:2])
    lesion = shown[s, z]
  pixels, affine = study["volume"][s, z], study["affine"][s]
  if pixels.dtype == np.int16:
    centre, width = contract.window or volume.CHEST_WINDOW
    low = centre - width / 2
    pixels = ((pixels - low) * (255 / width)).clip(0, 255).astype(np.uint8)
  flips = tuple(slice(None, None, -1 if _runs_up(affine[:3, a]) else 1)
                for a in (1, 2))
  return Thumbnail(
      pixels=pixels[flips],
      lesion=None if lesion is None else lesion[flips] > 0,
      aspect=_aspect(affine), study_id=study["study_id"],
      where=f"{split} · {study['series_names'][s]} · slice {z}",
      text=_item(study["items"], lesion))


def contact_sheet(thumbnails: list[Thumbnail]) -> Figure:
  """A grid of thumbnails with their names; lesions are outlined."""
  rows = max(1, math.ceil(len(thumbnails) / COLUMNS))
  width = COLUMNS * _PANEL_INCHES + 0.2
  height = rows * (_PANEL_INCHES + _TEXT_INCHES) + 0.1
  figure = Figure(figsize=(width, height), facecolor="white")
  for number, thumb in enumerate(thumbnails):
    row, column = divmod(number, COLUMNS)
    left = 0.1 + column * _PANEL_INCHES
    top = height - 0.05 - row * (_PANEL_INCHES + _TEXT_INCHES) - 0.31
    axes = figure.add_axes((
        (left + 0.03) / width, (top - _PANEL_INCHES + 0.06) / height,
        (_PANEL_INCHES - 0.06) / width, (_PANEL_INCHES - 0.06) / height))
    axes.set_axis_off()
    axes.imshow(thumb.pixels, cmap="gray", vmin=0, vmax=255,
                aspect=thumb.aspect, interpolation="bilinear")
    if thumb.lesion is not None and thumb.lesion.any():
      axes.contour(thumb.lesion, levels=[0.5], colors=LESION, linewidths=1)
    say = lambda y, text, left=left, **style: figure.text(
        (left + 0.04) / width, y / height, text.replace("$", r"\$"), va="top",
        **style)
    say(top + 0.29, _cut(thumb.study_id, 24), fontsize=8, weight="bold",
        color=INK)
    say(top + 0.15, _cut(thumb.where, 36), fontsize=6.2, color=MUTED)
    say(top - _PANEL_INCHES + 0.03, "\n".join(textwrap.wrap(
        thumb.text, 33, max_lines=3, placeholder=" …")),
        fontsize=6.2, color=INK)
  return figure


def histograms(
    splits: dict[str, dict[str, np.ndarray]],
    edges: np.ndarray,
    *,
    modality: str,
    per_study: dict[int, int],
    words: dict[int, int],
) -> Figure:
  """Intensities on the left, items a study and words an item on the right.

  Args:
    splits: split -> channel -> [len(edges)] counts of voxels.
    edges: lower edges of the bins, all of one width.
    modality: "MRI", "CT" or "RGB", for the title.
    per_study: number of items -> number of studies.
    words: number of words -> number of items.
  """
  figure = Figure(figsize=(12, 3.4), layout="constrained", facecolor="white")
  grid = figure.add_gridspec(1, 3, width_ratios=(2, 1, 1))
  axes = figure.add_subplot(grid[0])
  _draw_intensities(axes, splits, edges)
  is_hu = edges[0] < 0
  unit = "Hounsfield units" if is_hu else "stored grey level"
  _dress(axes, f"{modality}: {unit}", unit, "share of voxels (log)")
  if is_hu:
    _mark_tissues(axes)
  for place, counts, title, x, y in (
      (1, per_study, "Items per study", "items", "studies"),
      (2, words, "Words per item", "words", "items")):
    axes = figure.add_subplot(grid[place])
    axes.bar(list(counts), list(counts.values()), width=0.85,
             color=COLOURS[0], alpha=0.85)
    axes.set_xlim(min(counts, default=0) - 1, max(counts, default=0) + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    _dress(axes, title, x, y)
  return figure


def png(figure: Figure, dpi: int) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=dpi)
  return buffer.getvalue()


def _picture(study: dict[str, Any], split: str) -> Thumbnail:
  pixels = Image.open(io.BytesIO(study["image"].tobytes())).convert("RGB")
  full, lesion = pixels.size, None
  pixels.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
  if len(study.get("lesion_mask", ())):
    mask = Image.open(io.BytesIO(study["lesion_mask"].tobytes()))
    lesion = np.asarray(mask.resize(pixels.size, Image.Resampling.NEAREST))
  return Thumbnail(
      pixels=np.asarray(pixels), lesion=None if lesion is None else lesion > 0,
      aspect=1.0, study_id=study["study_id"],
      where=f"{split} · {full[0]} × {full[1]}",
      text=_item(study["items"], lesion))


def _item(items: list[str], lesion: np.ndarray | None) -> str:
  """What is said of most of the outlined voxels, else the first item."""
  k = 0
  if lesion is not None and lesion.any():
    k = int(np.bincount(lesion[lesion > 0]).argmax()) - 1
  return items[k] if k < len(items) else ""


def _visible_lesions(study: dict[str, Any]) -> np.ndarray | None:
  """The outlines in the series that show them; None where there is none."""
  mask = study.get("lesion_mask")
  if mask is None or not mask.any():
    return None
  visible = study["item_visible"]              # [n, S]
  if not visible.any() or mask.max() > len(visible):
    return mask
  table = np.concatenate([np.zeros_like(visible[:1]), visible])
  shown = np.stack([m * table[m, s] for s, m in enumerate(mask)])
  return shown if shown.any() else mask


def _middle(study: dict[str, Any]) -> tuple[int, int]:
  """The middle slice of the first axial series, else of the first series."""
  axial = [s for s, code in enumerate(study["orientation"])
           if code[:1] in ("I", "S")]
  return (axial or [0])[0], study["volume"].shape[1] // 2


def _runs_up(step: np.ndarray) -> bool:
  """True where an axis runs to the right, front or head, against the eye."""
  return bool(step[np.argmax(np.abs(step))] > 0)


def _aspect(affine: np.ndarray) -> float:
  rows, columns = np.linalg.norm(affine[:3, 1:3], axis=0)
  ratio = rows / columns if columns else 0.0
  return float(ratio) if np.isfinite(ratio) and ratio > 0 else 1.0


def _cut(name: str, length: int) -> str:
  return name if len(name) <= length else name[:length - 1] + "…"


def _draw_intensities(axes, splits, edges):
  """One line a split and channel; the outermost bins hold what is beyond."""
  styles = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))
  for number, (split, channels) in enumerate(splits.items()):
    for channel, counts in channels.items():
      share = counts / max(1, counts.sum())
      axes.step(edges, np.where(share > 0, share, np.nan), where="post",
                color=CHANNEL_COLOURS.get(
                    channel, COLOURS[number % len(COLOURS)]),
                linestyle=styles[number % len(styles)], linewidth=1.2,
                label=split if channel == "voxels" else f"{split}, {channel}")
  every = [c for channels in splits.values() for c in channels.values()]
  used = np.flatnonzero(np.sum(every, 0)) if edges[0] < 0 else np.array([0, -1])
  axes.set_yscale("log")
  axes.set_xlim(edges[used[0]], edges[used[-1]] + edges[1] - edges[0])
  if axes.lines:
    axes.legend(fontsize=7, frameon=False, labelcolor=INK, loc="upper right")


def _mark_tissues(axes):
  axes.set_ylim(top=30)  # room for the names above the curves
  for name, at in HU_MARKS.items():
    axes.axvline(at, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.text(at, 1, f"{name} ", fontsize=7, color=MUTED, rotation=90,
              ha="right", va="top", clip_on=True,
              transform=axes.get_xaxis_transform())


def _dress(axes, title: str, x: str, y: str):
  axes.set_title(title, fontsize=9.5, loc="left", weight="bold", color=INK)
  axes.set_xlabel(x, fontsize=8, color=MUTED)
  axes.set_ylabel(y, fontsize=8, color=MUTED)
  axes.grid(color=RULE, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(which="both", labelsize=7.5, colors=MUTED, length=0)
  for side, spine in axes.spines.items():
    spine.set_visible(side == "bottom")
    spine.set_color(RULE)
