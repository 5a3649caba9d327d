"""docs/study.md: what was asked, run and found, study by study.

All of it follows from the definitions and the records, but for the notes: what
stands between `<!-- notes: NAME -->` and `<!-- end of notes -->` is a person's,
and stays.
"""

import pathlib
import re

from itemclip_jax.config.comparison import Number, Published, Study
from itemclip_jax.errors import UserError
from itemclip_jax.tools.comparison import markdown, summary
from itemclip_jax.tools.comparison.record import Record

_BEGIN, _END = "<!-- notes: {} -->", "<!-- end of notes -->"
_NOTES = re.compile(r"<!-- notes: (\w+) -->\n(.*?)<!-- end of notes -->",
                    re.DOTALL)
ALL = "all"    # name of the notes on all studies

_HEAD = """\
# The comparison

Written by `python -m itemclip_jax.tools.study`; every finished run is one JSON
in [`study/`](study). Only the notes are a person's: edit between their marks.

**How to read the tables.** Rows of a study differ in what the table of settings
says and in nothing else. Square brackets hold the 95 % interval of resampled
*patients*: of the one run, or of the mean over seeds, the same patients drawn
for all. Where there are several seeds, round brackets hold the least and the
largest of them: another spread, of the training, which the interval does not
contain. Differences are paired: the same patients in both rows, the seeds that
both have; p as in [`evaluation.md`](evaluation.md), not corrected for how many
are looked at. "Own rule" ranks as the row's paper does, by TCSim or by the
global vector, and asks as the row was taught. The papers' numbers are of other
data and of sizes that no table here reaches: compare orders, not values.
"""


def write(path: pathlib.Path, studies: dict[str, Study],
          records: dict[str, list[Record]]):
  """Writes the page anew, with the notes of the old one.

  Raises:
    UserError: the old page's notes cannot be told from the rest.
  """
  notes = read_notes(path, {ALL, *studies})
  parts = [_HEAD, _noted(ALL, notes)]
  for name, study in studies.items():
    parts += [section(name, study, records[name]), _noted(name, notes)]
  partial = path.with_name(f"{path.name}.partial")
  path.parent.mkdir(parents=True, exist_ok=True)
  partial.write_text("\n".join(parts))
  partial.replace(path)


def read_notes(path: pathlib.Path, names: set[str]) -> dict[str, str]:
  """Name -> text of the notes of a page, {} where there is none yet."""
  text = path.read_text() if path.exists() else ""
  found = _NOTES.findall(text)
  marks = text.count("<!-- notes: "), text.count(_END)
  have = [name for name, _ in found]
  if marks != (len(found),) * 2 or set(have) - names or (
      len(set(have)) < len(have)):
    raise UserError(f"The notes in {path} cannot be told from the rest: "
                    f"{marks[0]} beginnings, {marks[1]} ends, of "
                    f"{', '.join(have) or 'none'}. Mend the marks, or move the "
                    "file away.")
  return dict(found)


def _noted(name: str, notes: dict[str, str]) -> str:
  return f"{_BEGIN.format(name)}\n{notes.get(name, '')}{_END}\n"


def section(name: str, study: Study, records: list[Record]) -> str:
  """The generated text of one study."""
  command = f"./run.sh study --name={name} --budget=small"
  parts = [f"## {study.title}", study.question,
           _setup(study, records), _settings(study)]
  if not records:
    parts.append(f"Not run yet: `{command}`.")
  for budget in study.budgets:
    chosen = {row: [r for r in records if (r.row, r.budget) == (row, budget)]
              for row in study.rows_of(budget)}
    if any(chosen.values()):
      parts += _tables(study, budget, chosen)
  if records:
    parts.append(f"![{study.title}](study/{name}.png)")
  return "\n\n".join(parts) + "\n"


def _setup(study: Study, records: list[Record]) -> str:
  lines = []
  for name, part in study.parts.items():
    options = "".join(f" --{k}={v}" for k, v in part.options.items())
    seen = {r.data["studies"] for r in records
            if r.row in study.rows and study.part(r.row) is part}
    lines.append(f"* Data: `{part.dataset}{options}`" + (
        f", measured on {', '.join(map(str, sorted(seen)))} studies of its "
        "split test" if seen else ""))
  lines.append(f"* Tuning effort: {study.effort}")
  for name, budget in study.budgets.items():
    took = [r for r in records if r.budget == name]
    seconds = sum(sum(r.seconds.values()) for r in took)
    cores = sorted({r.machine["cores"] for r in took})
    lines.append(
        f"* Budget {name}: {budget.steps} steps a row, seeds "
        f"{', '.join(map(str, budget.seeds))}" + (
            f"; {len(took)} runs took {seconds / 60:.0f} minutes in all on "
            f"{' or '.join(map(str, cores))} cores" if took else
            "; not run yet"))
  return "\n".join(lines)


def _settings(study: Study) -> str:
  rows = study.rows.values()
  changes = [", ".join(f"`{k}={v!r}`" for k, v in row.changes.items())
             or "the base" for row in rows]
  rules = {"tcsim": "TCSim", "global": "global vector"}
  for i, row in enumerate(rows):
    if row.start:
      changes[i] += (f"; goes on from {study.rows[row.start].title}, "
                     f"{row.share:g} of the steps")
  return markdown.table({
      "row": [row.title for row in rows], "what it changes": changes,
      "own rule": [rules[row.rule] + (f", `{row.prompts}`" if row.prompts else
                                      "") for row in rows]}, num_left=3)


def _tables(study: Study, budget: str, chosen: dict[str, list[Record]]
            ) -> list[str]:
  """Of every part: its numbers, the differences, the orders."""
  out = []
  for name, part in study.parts.items():
    rows = [r for r in chosen if study.part(r) is part]
    of = f", {part.dataset}" if len(study.parts) > 1 else ""
    out += [f"**Budget {budget}{of}: numbers**",
            _numbers(study, rows, part.numbers, part.published, chosen)]
    if any(study.rows[r].against for r in rows):
      out += [f"**Budget {budget}{of}: paired differences**",
              _differences(study, rows, part.numbers, chosen)]
    out += _orders(study, rows, part.numbers, part.published, chosen)
  return out


def _numbers(study: Study, rows: list[str], numbers: tuple[Number, ...],
             published: tuple[Published, ...], chosen) -> str:
  columns = {"row": [study.rows[r].title for r in rows],
             "seeds": [str(len(chosen[r])) for r in rows]}
  for number in numbers:
    columns[_head(number)] = [
        _cell(summary.estimate(chosen[r], number.name(study.rows[r])))
        for r in rows]
  for paper in published:
    columns[f"paper: {paper.title} {_arrow(paper)}"] = [
        f"{paper.values[r]:g}" if r in paper.values else "-" for r in rows]
  sources = dict.fromkeys(f"{p.title}: {p.source}." for p in published)
  return "\n\n".join(filter(None, [
      markdown.table(columns), "\n".join(f"* {s}" for s in sources)]))


def _differences(study: Study, rows: list[str], numbers, chosen) -> str:
  rows = [r for r in rows if study.rows[r].against]
  against = lambda r: study.rows[r].against
  columns = {"row": [f"{study.rows[r].title} - {study.rows[against(r)].title}"
                     for r in rows]}
  for number in numbers:
    columns[_head(number)] = [_cell(summary.difference(
        chosen[r], number.name(study.rows[r]), chosen.get(against(r), []),
        number.name(study.rows[against(r)])), "+") for r in rows]
  return markdown.table(columns)


def _orders(study: Study, rows: list[str], numbers, published, chosen
            ) -> list[str]:
  """Where a paper ranks two rows or more: its order, and ours of these."""
  out = []
  for paper in published:
    number = next(n for n in numbers if n.title == paper.beside)
    ours = {r: e.value for r in rows if r in paper.values and (
        e := summary.estimate(chosen[r], number.name(study.rows[r])))}
    theirs = {r: paper.values[r] for r in ours}
    if len(ours) > 1:
      here, there = _order(study, ours, number), _order(study, theirs, paper)
      out.append(f"* Order by {number.title}: {here}; the paper's by "
                 f"{paper.title}: " + ("the same." if here == there else
                                       f"{there}."))
  return ["\n".join(out)] if out else []


def _order(study: Study, values: dict[str, float],
           column: Number | Published) -> str:
  best = sorted(values, key=values.get, reverse=column.better == "higher")
  return " > ".join(study.rows[r].title for r in best)


def _head(number: Number) -> str:
  return f"{number.title} {_arrow(number)}"


def _arrow(column: Number | Published) -> str:
  return "↑" if column.better == "higher" else "↓"


def _cell(found: summary.Estimate | None, sign: str = "") -> str:
  if found is None:
    return "-"
  text = markdown.number(found.value, sign) + markdown.interval(
      found.ci95, sign)
  if found.ends:
    low, high = (markdown.number(e, sign) for e in found.ends)
    text += f" ({low} to {high})"
  if found.p_value is not None:
    text += f" p {found.p_value:.3f}"
  return text
