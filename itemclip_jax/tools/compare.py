"""Puts evaluations side by side, and the papers' numbers beside them.

    python -m itemclip_jax.tools.compare RUN             # beside the papers
    python -m itemclip_jax.tools.compare BEFORE AFTER --metrics=mean_
    python -m itemclip_jax.tools.compare A B C --out=table.md

A run is the folder of an evaluation or its results.json. Every further one is
compared with the first: with predictions of both, each number is measured again
on the rows that both have, and the difference gets an interval and a p-value,
patients resampled alike in both (`evaluators.measures.paired`). The p-values
are not corrected for how many are looked at. The table is Markdown.

Published numbers appear where the data set is the one that they are of.
"""

import math
import pathlib
import string
from typing import Any

from absl import flags

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, published
from itemclip_jax.tools import command
from itemclip_jax.tools import runs as runs_lib
from itemclip_jax.tools.comparison import markdown

FLAGS = flags.FLAGS

MISSING, UNDEFINED = "-", markdown.UNDEFINED


def table(
    runs: list[runs_lib.Run], *, metrics: str = "", num_resamples: int = 1000
) -> str:
  """The Markdown text: what is compared, what to beware of, the numbers."""
  names = [n for n in dict.fromkeys(k for run in runs for k in run.numbers)
           if metrics in n]
  if not names:
    raise UserError(f"No number has {metrics!r} in its name; leave --metrics "
                    "out to see all.")
  compared = [runs_lib.differences(runs[0], run, num_resamples=num_resamples)
              for run in runs[1:]]
  papers = _published(runs, names)
  columns = {"metric": names}
  for i, run in enumerate(runs):
    columns[run.letter] = [_estimate(run.numbers.get(n)) for n in names]
    if i:
      found = compared[i - 1][0]
      columns[f"{run.letter} - {runs[0].letter}"] = [
          _difference(found.get(n)) for n in names]
      columns[f"p ({run.letter})"] = [_p_value(found.get(n)) for n in names]
  for model in dict.fromkeys(m for n in names for m in papers.get(n, {})):
    columns[model] = [_paper(papers.get(n, {}).get(model)) for n in names]
  shown = [number for n in names for number in papers.get(n, {}).values()]
  notes = [note for _, sentences in compared for note in sentences]
  parts = [_legend(runs), "\n".join(f"* Note: {n}" for n in notes),
           markdown.table(columns), _sources(names, papers, shown)]
  return "\n\n".join(part for part in parts if part) + "\n"


def _published(runs: list[runs_lib.Run], names: list[str]
               ) -> dict[str, dict[str, published.Number]]:
  """Number -> model -> what a paper says, where all runs are of its data."""
  datasets = {run.data.get("dataset") for run in runs}
  found = published.load(datasets.pop()) if len(datasets) == 1 else {}
  return {n: found[n] for n in names if n in found}


def _legend(runs: list[runs_lib.Run]) -> str:
  lines = []
  for run in runs:
    data, model = run.data, run.about.get("checkpoint", {})
    lines.append(f"* {run.letter} = {run.folder}" + (
        f": {data.get('studies')} studies of {data.get('dataset')}, split "
        f"{data.get('split')}; step {model.get('step')}" if data else ""))
  return "\n".join(lines)


def _sources(names, papers, shown: list[published.Number]) -> str:
  lines = [f"* Published: {source}."
           for source in dict.fromkeys(number.source for number in shown)]
  for name in names:
    cautions = dict.fromkeys(
        n.caution for n in papers.get(name, {}).values() if n.caution)
    lines += [f"* (?) {name}: {caution}" for caution in cautions]
  return "\n".join(lines)


def _number(value: float | None, sign: str = "") -> str:
  if value is None or math.isnan(value):
    return UNDEFINED
  return f"{value:{sign}.3f}"


def _estimate(entry: dict[str, Any] | None) -> str:
  return MISSING if entry is None else _number(entry["value"]) + _interval(
      entry.get("ci95"))


def _difference(found: measures.Difference | None) -> str:
  return MISSING if found is None else (
      _number(found.value, "+") + _interval(found.ci95, "+"))


def _interval(ends: list[float] | None, sign: str = "") -> str:
  if ends is None:
    return ""
  return f" [{_number(ends[0], sign)}, {_number(ends[1], sign)}]"


def _p_value(found: measures.Difference | None) -> str:
  return MISSING if found is None else _number(found.p_value)


def _paper(number: published.Number | None) -> str:
  return MISSING if number is None else (
      _number(number.value) + (" (?)" if number.caution else ""))


def main(argv: list[str]):
  if len(argv) < 2:
    raise UserError("Nothing to compare; give one or more folders of "
                    "evaluations.")
  if len(argv) > 27:
    raise UserError(f"{len(argv) - 1} runs are more than fit a table; give 26 "
                    "at most.")
  runs = [runs_lib.load(*named)
          for named in zip(argv[1:], string.ascii_uppercase)]
  text = table(runs, metrics=FLAGS.metrics, num_resamples=FLAGS.resamples)
  print(text, end="")
  if FLAGS.out:
    pathlib.Path(FLAGS.out).write_text(text)


if __name__ == "__main__":
  flags.DEFINE_string("out", "", "Markdown file to write the table to.")
  flags.DEFINE_string("metrics", "", "Show numbers with this in their name.")
  flags.DEFINE_integer("resamples", 1000, "Resamples of the patients behind an "
                       "interval of a difference.", lower_bound=1)
  command.run(main, operands=True)
