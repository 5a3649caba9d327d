"""docs/study/<name>.png: a dot a row, and the paper's order beside."""

import math

from matplotlib.figure import Figure

from itemclip_jax.config.comparison import Number, Part, Published, Study
from itemclip_jax.tools.comparison import summary
from itemclip_jax.tools.comparison.record import Record
from itemclip_jax.tools.figures.style import COLOURS, INK, MUTED, dress

_OURS, _THEIRS = COLOURS[:2]   # told apart by their shapes, too
_ABREAST = 4                   # panels, so that text stays legible on a page
_PAPER = "#faf6f2"


def draw(study: Study, records: list[Record]) -> Figure:
  """Part by part a panel for each number; the budget is `shown_budget`'s."""
  budget = shown_budget(study, records)
  chosen = {row: [r for r in records if (r.row, r.budget) == (row, budget)]
            for row in study.rows_of(budget)}
  lines = [(columns[i:i + _ABREAST],
            [r for r in chosen if study.part(r) is part])
           for part in study.parts.values()
           for columns in [_columns(part)]
           for i in range(0, len(columns), _ABREAST)]
  heights = [0.3 * len(rows) + 0.85 for _, rows in lines]
  figure = Figure(figsize=(10.5, sum(heights) + 0.8), layout="constrained")
  areas = figure.subfigures(len(lines), 1, height_ratios=heights,
                            squeeze=False)[:, 0]
  for (columns, rows), area in zip(lines, areas):
    _draw_line(area, study, columns, rows, chosen)
  figure.suptitle(
      f"{study.title} · budget {budget}, {study.budgets[budget].steps} steps",
      fontsize=11, x=0.01, ha="left", weight="bold", color=INK)
  figure.supxlabel(
      "dot: mean over seeds · line: 95 % interval of resampled patients · "
      "small marks: single seeds · diamond: the paper, on its own data",
      fontsize=8, x=0.01, ha="left", color=MUTED)
  return figure


def shown_budget(study: Study, records: list[Record]) -> str:
  """That with the most rows; of equals the last, which is the largest."""
  rows = lambda budget: len({r.row for r in records if r.budget == budget})
  return max(reversed(list(study.budgets)), key=rows)


def _columns(part: Part) -> list[Number | Published]:
  """Every number, and behind it what the paper has beside it."""
  return [column for number in part.numbers for column in (
      number, *(p for p in part.published if p.beside == number.title))]


def _draw_line(area, study: Study, columns, rows: list[str], chosen):
  panels = area.subplots(1, _ABREAST, sharey=True, squeeze=False)[0]
  for axes in panels[len(columns):]:
    axes.set_visible(False)
  for axes, column in zip(panels, columns):
    theirs = isinstance(column, Published)
    dress(axes, _title(column))
    for y, row in enumerate(rows):
      if theirs:
        _draw_published(axes, column, row, y)
      else:
        _draw_number(axes, column.name(study.rows[row]), chosen[row], y)
    axes.margins(x=0.14)
    axes.locator_params(axis="x", nbins=5)
    if theirs:
      axes.set_facecolor(_PAPER)
  panels[0].set_yticks(range(len(rows)),
                       [study.rows[row].title for row in rows],
                       fontsize=8.5, color=INK)
  panels[0].set_ylim(len(rows) - 0.4, -0.6)


def _draw_number(axes, name: str, records: list[Record], y: int):
  found = summary.estimate(records, name)
  if found is None or math.isnan(found.value):
    return
  if found.ci95:
    axes.plot(found.ci95, (y, y), color=_OURS, linewidth=1.8, alpha=0.55,
              solid_capstyle="round")
  if found.ends:
    seeds = [r.numbers[name]["value"] for r in records if name in r.numbers]
    axes.plot(seeds, [y + 0.25] * len(seeds), "|", color=MUTED, markersize=4.5)
  axes.plot(found.value, y, "o", color=_OURS, markersize=5.5)


def _draw_published(axes, paper: Published, row: str, y: int):
  if row in paper.values:
    axes.plot(paper.values[row], y, "D", color=_THEIRS, markersize=4.8,
              markerfacecolor="none", markeredgewidth=1.4)


def _title(column: Number | Published) -> str:
  """In lines that fit a panel, with an arrow to what is good."""
  arrow = "\u00a0" + ("↑" if column.better == "higher" else "↓")
  paper = "paper: " if isinstance(column, Published) else ""
  lines = [""]
  for word in f"{paper}{column.title}{arrow}".split(" "):
    if lines[-1] and len(lines[-1]) + len(word) > 24:
      lines.append("")
    lines[-1] = f"{lines[-1]} {word}".strip(" ")
  return "\n".join(lines)
