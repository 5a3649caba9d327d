"""Charts about tasks: bars, radar, reliability of scores, confusion.

Each takes plain numbers and returns a Figure. What is undefined is left out,
never drawn as zero; the tables of a report name it.
"""

import math
import re
import textwrap

from matplotlib.figure import Figure
import numpy as np

from itemclip_jax.tools.figures.style import (
    COLOURS, INK, MUTED, RULE, cycle, dress, is_number)

CHANCE = 0.5                      # the AUC of guessing
NUM_BINS = 10
COLOURED_FROM = 25                # bars; fewer are told apart by their names
MAX_CLASSES_WITH_NUMBERS = 12
# A finding is placed when its name says where: "microhaemorrhage in the pons".
PLACED = re.compile(r"\b(in|of|at|on|along) ")
MARKERS = ("o", "D", "s", "^", "v", "P")


def bars(
    entries: dict[str, dict],     # name -> {"value", "ci95", "n"}
    marks: dict[str, dict[str, float]],  # other model -> name -> its value
    *,
    start: float,                 # where bars begin; a dashed line
    title: str,
    xlabel: str,
    max_bars: int = 40,
) -> Figure:
  """Bars from `start` to the value, with 95 % intervals and other models.

  Undefined ones are left out; of more than `max_bars`, those with the largest
  n are drawn, and `title` says so. Many bars are coloured by `finding_level`.
  """
  defined = [f for f in entries if is_number(entries[f]["value"])]
  shown = sorted(defined, key=lambda f: -(entries[f]["n"] or 0))[:max_bars]
  shown.sort(key=lambda f: entries[f]["value"])
  if len(shown) < len(defined):
    title += f": the {len(shown)} most frequent of {len(defined)}"
  level = {f: finding_level(f) if len(shown) >= COLOURED_FROM else ""
           for f in shown}
  kinds = sorted(set(level.values()), key=list(level.values()).count)[::-1]
  colour = dict(zip(kinds, cycle()))
  figure = Figure(figsize=(8.6, 1.3 + 0.235 * max(1, len(shown))),
                  layout="constrained")
  axes = figure.add_subplot()
  for y, name in enumerate(shown):
    _draw_bar(axes, y, entries[name], start, colour[level[name]])
  for (model, values), marker, edge in zip(marks.items(), MARKERS, _edges()):
    points = [(values[f], y) for y, f in enumerate(shown)
              if is_number(values.get(f))]
    axes.plot(*zip(*points), marker, color=edge, label=model, markersize=4.6,
              markerfacecolor="white", markeredgewidth=1.1, zorder=4) if (
                  points) else None
  axes.axvline(start, color=INK, linewidth=1, linestyle=(0, (4, 3)))
  dress(axes, title)
  _label_bars(axes, shown, entries, xlabel)
  _limit_bars(axes, start)
  _bar_legend(axes, {k: c for k, c in colour.items() if k})
  return figure


def finding_level(name: str) -> str:
  """How specific a finding is: its prefix "level/", else from its wording."""
  if "/" in name:
    return name.split("/", 1)[0]
  if name.endswith(" side"):
    return "finding on a side"
  placed = ", " in name or PLACED.search(name)
  return "finding at a place" if placed else "finding"


def radar(
    models: dict[str, dict[str, float]],  # model -> task -> value; ours first
    *,
    title: str,
    start: float,                         # value at the centre, if none is less
) -> Figure:
  """One spoke per task of the first model, one closed line per model.

  A model that lacks a task, or has it undefined, leaves a gap there.
  """
  tasks = list(next(iter(models.values())))
  angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
  figure = Figure(figsize=(5.2, 5.2), layout="constrained")
  axes = figure.add_subplot(projection="polar")
  axes.set_theta_zero_location("N")
  axes.set_theta_direction(-1)
  lowest = start
  for rank, (model, colour) in enumerate(zip(models, cycle())):
    values = [models[model].get(t) for t in tasks]
    values = np.array([v if is_number(v) else np.nan for v in values], float)
    lowest = min([lowest, *values[np.isfinite(values)]])
    axes.plot(np.append(angles, angles[0]), np.append(values, values[0]),
              color=colour, label=model, linewidth=2.2 if rank == 0 else 1.3,
              linestyle="-" if rank == 0 else (0, (4, 2)),
              zorder=3 if rank == 0 else 2)
    if rank == 0 and np.isfinite(values).all():
      axes.fill(angles, values, color=colour, alpha=0.13)
  axes.set_ylim(math.floor(lowest * 10) / 10, 1)
  _dress_radar(axes, tasks, angles)
  figure.suptitle(title, fontsize=9.5, weight="bold", color=INK, x=0.02,
                  ha="left")
  figure.legend(loc="outside lower center", frameon=False, ncols=3,
                fontsize=8, labelcolor=INK)
  return figure


def reliability_bins(
    probability: np.ndarray,  # [M] in [0, 1]
    label: np.ndarray,        # [M] in {0, 1}
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Ten bins of equal width from 0 to the power of ten above every score.

  Returns:
    edges [11], mean probability [10], observed share [10] (both NaN where a bin
    is empty), number of scores [10].
  """
  top = 10.0 ** math.ceil(math.log10(max(probability.max(), 1e-12)))
  edges = np.linspace(0, top, NUM_BINS + 1)
  owner = np.clip(np.searchsorted(edges, probability, "right") - 1, 0,
                  NUM_BINS - 1)
  total = lambda x: np.bincount(owner, x, minlength=NUM_BINS)
  count = np.bincount(owner, minlength=NUM_BINS)
  with np.errstate(invalid="ignore"):                # 0 / 0: an empty bin
    return edges, total(probability) / count, total(label) / count, count


def reliability(
    probability: np.ndarray,  # [M] in [0, 1]
    label: np.ndarray,        # [M] in {0, 1}
) -> Figure:
  """Observed share against the model's probability, its histogram below."""
  edges, mean, observed, count = reliability_bins(probability, label)
  figure = Figure(figsize=(4.6, 5.2), layout="constrained")
  upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
  upper.plot([0, edges[-1]], [0, edges[-1]], color=INK, linewidth=1,
             linestyle=(0, (4, 3)), label="if it were calibrated")
  upper.axhline(label.mean(), color=COLOURS[1], linewidth=1.2,
                linestyle=(0, (1, 1.5)),
                label=f"present in all: {label.mean():.1%}")
  full = count > 0
  upper.plot(mean[full], observed[full], "o-", color=COLOURS[0], markersize=5,
             label="observed")
  upper.set_xlim(0, edges[-1])
  upper.set_ylim(0, max(1.05 * np.nanmax(observed), edges[-1]))
  dress(upper, "How often it was there, by score")
  upper.set_ylabel("share with the finding", fontsize=8, color=MUTED)
  upper.legend(fontsize=7.5, frameon=False, labelcolor=INK)
  lower.bar(edges[:-1], count, width=np.diff(edges) * 0.92, align="edge",
            color=COLOURS[0], alpha=0.82)
  lower.set_yscale("log")
  lower.set_ylim(bottom=0.7)      # so that a bin of one is seen
  lower.minorticks_off()
  dress(lower, "")
  lower.set_ylabel("pairs", fontsize=8, color=MUTED)
  lower.set_xlabel("probability that the model gives to the pair", fontsize=8,
                   color=MUTED)
  return figure


def confusion(
    counts: np.ndarray,  # [C, C] rows: truth, columns: called
    classes: list[str],
    *,
    title: str,
) -> Figure:
  """Shares of every true class; numbers where they are few enough to read."""
  total = counts.sum(1, keepdims=True)
  share = counts / np.maximum(total, 1)
  num = len(classes)
  small = num > MAX_CLASSES_WITH_NUMBERS
  side = 0.21 * num + 2.2 if small else 0.55 * num + 1.6
  figure = Figure(figsize=(side + 0.5, side), layout="constrained")
  axes = figure.add_subplot()
  axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
  if not small:
    for (row, column), n in np.ndenumerate(counts):
      axes.text(column, row, f"{share[row, column]:.0%}\n{n}", ha="center",
                va="center", fontsize=7.5, linespacing=1.1,
                color="white" if share[row, column] > 0.55 else INK)
  names = [textwrap.shorten(c, 26, placeholder=" …") for c in classes]
  dress(axes, title)
  axes.grid(visible=False)
  axes.set_xticks(range(num), names, rotation=45, ha="right",
                  rotation_mode="anchor", color=INK)
  axes.set_yticks(range(num), [
      n if small else f"{n}\nn={t}" for n, t in zip(names, total[:, 0])],
      color=INK)
  axes.set_xlabel("what the model called it", fontsize=8, color=MUTED)
  axes.set_ylabel("what it was", fontsize=8, color=MUTED)
  return figure


def against_share(
    points: dict[float, dict],  # per cent of the labels -> entry
    *,
    title: str,
    ylabel: str,
) -> Figure:
  """A line over the share of the labels, on a scale of ratios."""
  figure = Figure(figsize=(4.9, 3.4), layout="constrained")
  axes = figure.add_subplot()
  shares = sorted(points)
  axes.plot(shares, [points[s]["value"] for s in shares], "o-",
            color=COLOURS[0], markersize=5)
  for share in shares:
    if ends := points[share].get("ci95"):
      axes.plot([share, share], ends, color=INK, linewidth=1.3, zorder=1)
  axes.axhline(CHANCE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
  axes.set_xscale("log")
  dress(axes, title)
  axes.set_xticks(shares, [f"{s:g} %" for s in shares])
  axes.minorticks_off()
  axes.set_xlabel("share of the labelled patients", fontsize=8, color=MUTED)
  axes.set_ylabel(ylabel, fontsize=8, color=MUTED)
  return figure


def _draw_bar(axes, y, entry, start, colour):
  value, interval = entry["value"], entry.get("ci95")
  axes.barh(y, value - start, left=start, height=0.68, color=colour,
            alpha=0.82)
  if interval and all(map(is_number, interval)):
    axes.plot(interval, [y, y], color=INK, linewidth=1.3,
              solid_capstyle="butt")
    axes.plot(interval, [y, y], "|", color=INK, markersize=4.5)


def _edges():
  """Colours of other models; the first is that of `untrained`."""
  yield INK
  yield from COLOURS[1:]


def _label_bars(axes, shown, entries, xlabel):
  """Names on the left; value and n on the right."""
  names = [textwrap.shorten(f, 56, placeholder=" …") for f in shown]
  axes.set_yticks(range(len(shown)), names, fontsize=8, color=INK)
  axes.set_ylim(-0.7, max(1, len(shown)) - 0.3)
  axes.set_xlabel(xlabel, fontsize=8, color=MUTED)
  right = axes.secondary_yaxis("right")
  right.set_yticks(range(len(shown)), [
      f"{entries[f]['value']:.2f}" + (
          "" if entries[f]["n"] is None else f"   n={entries[f]['n']}")
      for f in shown], fontsize=7.5, color=MUTED)
  right.tick_params(length=0)
  right.spines["right"].set_visible(False)
  axes.grid(axis="y", visible=False)


def _limit_bars(axes, start):
  """From a little below everything drawn to 1."""
  low, _ = axes.get_xlim()
  axes.set_xlim(max(0.0, min(low, start - 0.08)), 1.005)


def _bar_legend(axes, colour):
  marks = [axes.barh(0, 0, color=c, alpha=0.82, label=k)
           for k, c in colour.items()]
  marks += axes.plot([], [], color=INK, linewidth=1.3, label="95 % interval")
  models = [line for line in axes.lines if line.get_marker() in MARKERS]
  axes.figure.legend(handles=marks + models, loc="outside lower center",
                     frameon=False, ncols=min(5, len(marks + models)),
                     fontsize=8, labelcolor=INK)


def _dress_radar(axes, tasks, angles):
  axes.grid(color=RULE, linewidth=0.7)
  axes.spines["polar"].set_color(RULE)
  axes.tick_params(axis="y", labelsize=7, colors=MUTED)
  axes.set_rlabel_position(180 / len(tasks))
  axes.set_xticks(angles, [
      "\n".join(textwrap.wrap(t, 16, max_lines=3, placeholder=" …"))
      for t in tasks], fontsize=7.5, color=INK)
  for text, angle in zip(axes.get_xticklabels(), angles):
    side = np.sin(angle)
    text.set_horizontalalignment(
        "center" if abs(side) < 0.1 else "left" if side > 0 else "right")
