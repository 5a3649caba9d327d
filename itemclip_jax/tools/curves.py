"""Plots of a run: its training curves and the AUC of every finding.

    python -m itemclip_jax.tools.curves --workdir=runs/demo

reads `metrics.jsonl` and `results.json` of the run directory and writes
`figures/curves.png` and `figures/auc.png` there. `tools.report` puts the same
figures on one page.
"""

import json
import math
import pathlib
import re
import textwrap

from absl import app
from absl import flags
from matplotlib.figure import Figure
import numpy as np

from itemclip_jax.errors import UserError

# Panel title -> which names of metrics.jsonl it shows; empty panels are left
# out, a name goes to the first that fits.
PANELS = (
    ("Total loss", r"(valid/)?loss/total"),
    ("Loss terms", r"loss/.+"),
    ("Validation loss terms", r"valid/loss/.+"),
    ("Logits", r"logit/.+"),
    ("Logit scale and bias", r"logit_(scale|bias)"),
    ("Norms", r"norm/(grads|updates|params)"),
    ("Gradient norms of the parts", r"norm/grads/.+"),
    ("Unknown word pieces", r"text/unknown_rate"),
)
NOISY = ("Total loss", "Loss terms", "Norms", "Gradient norms of the parts")
COLOURS = ("#1f5fa8", "#c2571a", "#2e7d57", "#8a4fa3", "#a8871f", "#5b6770")
INK, MUTED, RULE = "#1f2933", "#52606d", "#d9dee4"
CHANCE = 0.5
# A finding is placed when its name says where: "microhaemorrhage in the pons".
PLACED = re.compile(r"\b(in|of|at|on|along) ")


def read_metrics(
    path: pathlib.Path,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads `metrics.jsonl`: name -> (steps, values), null as NaN."""
  points = {}
  for number, line in enumerate(path.read_text().splitlines(), 1):
    try:
      row = json.loads(line)
      step = row.pop("step")
    except (ValueError, KeyError) as error:
      raise UserError(f"{path}, line {number}: want a JSON object with a "
                      f"\"step\", got {line[:60]!r}.") from error
    for name, value in row.items():
      if value is None or isinstance(value, (int, float)):
        points.setdefault(name, []).append(
            (step, math.nan if value is None else value))
  return {name: tuple(np.array(rows, float).T) for name, rows in points.items()}


def training_curves(
    series: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
  """One panel per group of `PANELS`; faint raw values, bold running mean."""
  groups, left = [], dict(series)
  for title, pattern in PANELS:
    names = [n for n in left if re.fullmatch(pattern, n)]
    if names:
      groups.append((title, {n: left.pop(n) for n in names}))
  rows = max(1, math.ceil(len(groups) / 4))
  columns = max(1, math.ceil(len(groups) / rows))
  figure = Figure(figsize=(3.7 * columns, 2.75 * rows), layout="constrained")
  for index, (title, lines) in enumerate(groups):
    axes = figure.add_subplot(rows, columns, index + 1)
    for colour, (name, (steps, values)) in zip(_cycle(), lines.items()):
      _draw_line(axes, steps, values, _short(name, title), colour,
                 smooth=title in NOISY and len(values) > 40)
    _dress(axes, title)
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    if title in NOISY and _spans_decades(lines):
      axes.set_yscale("log")
    if len(lines) > 1:
      axes.legend(fontsize=7, frameon=False, labelcolor=INK, handlelength=1.3)
  return figure


def auc_figure(
    findings: dict[str, dict],     # name -> {"value", "ci95", "n"}
    untrained: dict[str, dict],    # the same before training; may be empty
    *,
    max_bars: int = 40,
) -> Figure:
  """Bars from chance to the AUC, with 95 % intervals and the untrained model.

  Undefined findings are left out; of more than `max_bars`, those with most
  positives are drawn. Coloured by `finding_level`.
  """
  defined = [f for f in findings if is_number(findings[f]["value"])]
  shown = sorted(defined, key=lambda f: -(findings[f]["n"] or 0))[:max_bars]
  shown.sort(key=lambda f: findings[f]["value"])
  level = {f: finding_level(f) for f in shown}
  kinds = sorted(set(level.values()), key=list(level.values()).count)[::-1]
  colour = dict(zip(kinds, _cycle()))

  figure = Figure(figsize=(8.6, 1.25 + 0.235 * max(1, len(shown))),
                  layout="constrained")
  axes = figure.add_subplot()
  for y, name in enumerate(shown):
    _draw_bar(axes, y, findings[name], untrained.get(name),
              colour[level[name]])
  axes.axvline(CHANCE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
  _dress(axes, f"AUC of {_of(len(shown), len(defined))} findings")
  _label_bars(axes, shown, findings)
  lows = [x for f in shown for x in (*(findings[f]["ci95"] or ()),
                                     untrained.get(f, {}).get("value"))]
  axes.set_xlim(min([0.4, *filter(is_number, lows)]) - 0.02, 1.005)
  _bar_legend(axes, colour, any(f in untrained for f in shown))
  return figure


def finding_level(name: str) -> str:
  """How specific a finding is: its prefix "level/", else from its wording."""
  if "/" in name:
    return name.split("/", 1)[0]
  if name.endswith(" side"):
    return "finding on a side"
  placed = ", " in name or PLACED.search(name)
  return "finding at a place" if placed else "finding"


def is_number(value) -> bool:
  """False for what is undefined: None or NaN."""
  return isinstance(value, (int, float)) and math.isfinite(value)


def findings_of(results: dict, group: str) -> dict[str, dict]:
  """Entries `zeroshot_auc/<group>/<finding>` of results.json, by finding."""
  prefix = f"zeroshot_auc/{group}/"
  return {k.removeprefix(prefix): v for k, v in results.items()
          if k.startswith(prefix)}


def _draw_line(axes, steps, values, label, colour, *, smooth):
  axes.plot(steps, values, color=colour, linewidth=0.8 if smooth else 1.6,
            alpha=0.3 if smooth else 1.0, label=None if smooth else label,
            marker="o" if len(values) < 15 else None, markersize=3)
  if smooth:
    axes.plot(steps, running_mean(values, len(values) // 40), color=colour,
              linewidth=1.7, label=label)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
  """Centred mean over `width` values either side, of those that are finite."""
  finite = np.isfinite(values)
  window = np.ones(2 * width + 1)
  total = np.convolve(np.where(finite, values, 0.0), window, "full")
  count = np.convolve(finite, window, "full")
  inner = slice(width, width + len(values))
  with np.errstate(invalid="ignore"):
    return total[inner] / count[inner]


def _draw_bar(axes, y, entry, before, colour):
  value, interval = entry["value"], entry["ci95"]
  axes.barh(y, value - CHANCE, left=CHANCE, height=0.68, color=colour,
            alpha=0.82)
  if interval and all(map(is_number, interval)):
    axes.plot(interval, [y, y], color=INK, linewidth=1.3,
              solid_capstyle="butt")
    axes.plot(interval, [y, y], "|", color=INK, markersize=4.5)
  if before and is_number(before["value"]):
    axes.plot(before["value"], y, "o", markersize=4.6, markerfacecolor="white",
              markeredgecolor=INK, markeredgewidth=1.0, zorder=4)


def _label_bars(axes, shown, findings):
  """Names on the left; value and number of positives on the right."""
  names = [textwrap.shorten(f, 56, placeholder=" …") for f in shown]
  axes.set_yticks(range(len(shown)), names, fontsize=8, color=INK)
  axes.set_ylim(-0.7, max(1, len(shown)) - 0.3)
  axes.set_xlabel("AUC (1 = perfect, 0.5 = chance)", fontsize=8, color=MUTED)
  right = axes.secondary_yaxis("right")
  right.set_yticks(range(len(shown)), [
      f"{findings[f]['value']:.2f}   n={findings[f]['n']}" for f in shown],
      fontsize=7.5, color=MUTED)
  right.tick_params(length=0)
  right.spines["right"].set_visible(False)
  axes.grid(axis="y", visible=False)


def _bar_legend(axes, colour, has_untrained):
  marks = [axes.barh(0, 0, color=c, alpha=0.82, label=k)
           for k, c in colour.items()]
  marks += axes.plot([], [], color=INK, linewidth=1.3, label="95 % interval")
  if has_untrained:
    marks += axes.plot([], [], "o", markersize=4.6, markerfacecolor="white",
                       markeredgecolor=INK, label="before training")
  axes.figure.legend(handles=marks, loc="outside lower center", frameon=False,
                     ncols=len(marks), fontsize=8, labelcolor=INK)


def _dress(axes, title):
  axes.set_title(title, fontsize=9.5, loc="left", weight="bold", color=INK)
  axes.grid(color=RULE, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(labelsize=7.5, colors=MUTED, length=0)
  for side, spine in axes.spines.items():
    spine.set_visible(side == "bottom")
    spine.set_color(RULE)


def _cycle():
  """Endless colours; line or level number 7 takes the first again."""
  while True:
    yield from COLOURS


def _short(name: str, title: str) -> str:
  """Drops what the panel's title already says."""
  if title == "Total loss":
    return "validation" if name.startswith("valid/") else "training"
  return name.split("/", 1)[-1] if title == "Norms" else name.split("/")[-1]


def _spans_decades(lines) -> bool:
  """True when a log scale reads better (and can be drawn)."""
  values = np.concatenate([v[np.isfinite(v)] for _, v in lines.values()])
  return bool(values.size and values.min() > 0
              and values.max() > 30 * values.min())


def _of(shown: int, defined: int) -> str:
  return (f"{shown}" if shown == defined
          else f"the {shown} most frequent of {defined}")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  workdir = pathlib.Path(flags.FLAGS.workdir)
  made = {}
  if (path := workdir / "metrics.jsonl").exists():
    made["curves.png"] = training_curves(read_metrics(path))
  if (path := workdir / "results.json").exists():
    results = json.loads(path.read_text())
    made["auc.png"] = auc_figure(findings_of(results, "tcsim"),
                                 findings_of(results, "untrained"))
  if not made:
    raise app.UsageError(f"{workdir} has neither metrics.jsonl nor "
                         "results.json; give the directory of a run.")
  (workdir / "figures").mkdir(exist_ok=True)
  for name, figure in made.items():
    figure.savefig(workdir / "figures" / name, dpi=150)
    print(workdir / "figures" / name)


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "The run directory to plot.",
                      required=True)
  app.run(main)
