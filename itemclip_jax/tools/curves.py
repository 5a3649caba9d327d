"""The training curves of a run.

    python -m itemclip_jax.tools.curves --workdir=runs/demo

reads `metrics.jsonl` of the run directory and writes `figures/curves.png`
there. `tools.report` puts the same figure on its page.
"""

import json
import math
import pathlib
import re

from absl import app
from absl import flags
from matplotlib.figure import Figure
import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.tools.figures.style import INK, MUTED, cycle, dress

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
    for colour, (name, (steps, values)) in zip(cycle(), lines.items()):
      _draw_line(axes, steps, values, _short(name, title), colour,
                 smooth=title in NOISY and len(values) > 40)
    dress(axes, title)
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    if title in NOISY and _spans_decades(lines):
      axes.set_yscale("log")
    if len(lines) > 1:
      axes.legend(fontsize=7, frameon=False, labelcolor=INK, handlelength=1.3)
  return figure


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


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  workdir = pathlib.Path(flags.FLAGS.workdir)
  if not (metrics := workdir / "metrics.jsonl").exists():
    raise app.UsageError(f"{workdir} has no metrics.jsonl; give the directory "
                         "of a training run.")
  (workdir / "figures").mkdir(exist_ok=True)
  path = workdir / "figures" / "curves.png"
  training_curves(read_metrics(metrics)).savefig(path, dpi=150)
  print(path)


if __name__ == "__main__":
  flags.DEFINE_string("workdir", None, "The run directory to plot.",
                      required=True)
  app.run(main)
