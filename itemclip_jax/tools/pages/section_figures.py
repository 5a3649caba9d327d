"""The figures of one evaluator: which of its numbers go into which chart.

Functions are found by the name that `report_kinds.Chart.draw` gives. Each takes
a section and a chart, and returns (Figure, caption), or None where the numbers
or the predictions for it are missing.
"""

import re

from matplotlib.figure import Figure
import numpy as np

from itemclip_jax.tools.pages import words
from itemclip_jax.tools.figures import tasks as task_figures
from itemclip_jax.tools.figures.style import is_number
from itemclip_jax.tools.pages.kinds import Chart
from itemclip_jax.tools.pages.sections import UNTRAINED, Section, split

MIN_SPOKES, MAX_SPOKES = 3, 20    # fewer show no shape, more cannot be read
OURS = "this model"

Drawn = tuple[Figure, str] | None


def draw(section: Section, chart: Chart) -> Drawn:
  """Calls the function of this module that the chart names."""
  return _CHARTS[chart.draw](section, chart)


def _task_bars(section: Section, chart: Chart) -> Drawn:
  entries = section.family(chart.family)
  if not any(is_number(e["value"]) for e in entries.values()):
    return None
  before = {task: e["value"] for task, e
            in section.family(chart.family + UNTRAINED).items()}
  marks = {"untrained": before} if before else {}
  marks |= {f"{m}, published": values
            for m, values in section.models(chart.family).items()}
  return task_figures.bars(entries, marks, start=chart.start, title=chart.title,
                           xlabel=chart.axis), chart.caption


def _radar(section: Section, chart: Chart) -> Drawn:
  ours = {task: e["value"] for task, e in section.family(chart.family).items()
          if is_number(e["value"])}
  if not MIN_SPOKES <= len(ours) <= MAX_SPOKES:
    return None
  before = section.family(chart.family + UNTRAINED)
  models = section.models(chart.family) | (
      {"untrained": {t: e["value"] for t, e in before.items()}} if before
      else {})
  models = {OURS: ours} | {m: values for m, values in models.items()
                           if len(values.keys() & ours.keys()) >= MIN_SPOKES}
  return task_figures.radar(models, title=chart.title,
                            start=chart.start), chart.caption


def _number_bars(section: Section, chart: Chart) -> Drawn:
  """Numbers whose name fits a pattern, their variants as marks."""
  names = [m for m in section.numbers if re.fullmatch(chart.family, m)]
  entries = {_in_words(m): section.numbers[m] for m in names}
  if not any(is_number(e["value"]) for e in entries.values()):
    return None
  marks = {what: {_in_words(m): section.numbers[prefix + m]["value"]
                  for m in names if prefix + m in section.numbers}
           for prefix, what in words.VARIANTS.items()}
  for name in names:
    for model, theirs in section.best(name).items():
      marks.setdefault(f"{model}, published", {})[
          _in_words(name)] = theirs.value
  marks = {what: values for what, values in marks.items() if values}
  return task_figures.bars(entries, marks, start=chart.start, title=chart.title,
                           xlabel=chart.axis), chart.caption


def _shares(section: Section, chart: Chart) -> Drawn:
  """Against the share that a pattern finds in the name."""
  points = {float(found[1]): e for m, e in section.numbers.items()
            if (found := re.fullmatch(chart.family, m))
            and is_number(e["value"])}
  if not points:
    return None
  return task_figures.against_share(
      points, title=chart.title, ylabel=chart.axis), chart.caption


def _in_words(metric: str) -> str:
  family, task = split(metric)
  return f"{words.COLUMNS.get(family, family)}, {task}"


def _reliability(section: Section, chart: Chart) -> Drawn:
  """All pairs of a study and a task whose label is known."""
  table, meta = section.table(), section.about.get("meta", {})
  scale = section.checkpoint.get("logit_scale")
  bias = section.checkpoint.get("logit_bias")
  pair = meta.get("pair", False)
  if table is None or not pair and not (is_number(scale) and is_number(bias)):
    return None
  scores, labels = [], []
  for column, values in table.items():
    if column.startswith("tcsim/"):
      task = column.removeprefix("tcsim/")
      if meta.get("best"):                           # "<task>#<prompt>"
        task = task.rpartition("#")[0]
      scores.append(values)
      labels.append(table[f"label/{task}"])
  scores, labels = np.concatenate(scores), np.concatenate(labels)
  scores, labels = scores[labels >= 0], labels[labels >= 0]
  if not len(labels):
    return None
  if pair:
    note = words.PAIR
  else:
    note = words.SINGLE.format(prior=_sigmoid(bias))
    scores = _sigmoid(scale * scores + bias)
  return task_figures.reliability(scores, labels), f"{chart.caption} {note}"


def _confusion(section: Section, chart: Chart) -> Drawn:
  """Among all classes, whatever the tasks."""
  table = section.table()
  if table is None:
    return None
  classes = section.about["meta"]["classes"]
  counts = np.zeros((len(classes), len(classes)), int)
  truth = [classes.index(c) for c in table["truth"]]
  np.add.at(counts, (truth, table["predicted"]), 1)
  return task_figures.confusion(counts, classes,
                                title=chart.title), chart.caption


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


_CHARTS = {"task_bars": _task_bars, "radar": _radar,
           "number_bars": _number_bars, "reliability": _reliability,
           "confusion": _confusion, "shares": _shares}
