"""Results -> one page: is what the recipe made fit for training?

Numbers come from the results alone. Where the input is at hand, records drawn
at random are shown beside their sources, and two back-ends are compared on the
sentences of the input: a sentence is kept where an item has a source in it.
Cohen's kappa = (p - e) / (1 - e) with p the share of sentences on which both
agree and e that by chance, from each one's share of kept sentences.

Reference: Cohen 1960, https://doi.org/10.1177/001316446002000104.
"""

import base64
import collections
import dataclasses
import io
import itertools
import json
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import jinja2
from matplotlib.figure import Figure
import tqdm

from data_pipelines.errors import PrepareError
from data_pipelines.files import write_json
from data_pipelines.itemize import contract
from data_pipelines.itemize import engine
from data_pipelines.itemize import recipes
from data_pipelines.itemize import sentences
from data_pipelines.itemize import tally
from data_pipelines.itemize.contract import Record, Result, Source
from data_pipelines.itemize.export import read_results
from data_pipelines.itemize.lines import read

TEMPLATE = pathlib.Path(__file__).with_name("audit.html")
NUM_DRAWN = 50
# What a run of each recipe is known to give on the set that it was made for.
EXPECTED = {
    "ctrate_abnormal": "about 5 items a record on CT-RATE",
    "summary_list": "about 3 items a record and 10 % normal on brain MRI",
    "dedup": "at most 5 items a record on RSICD"}
INK, MUTED, RULE, BAR = "#1f2933", "#52606d", "#d9dee4", "#1f5fa8"


@dataclasses.dataclass
class Agreement:
  """Sentences that both back-ends, one of them, or none kept."""
  both: int = 0
  first: int = 0
  second: int = 0
  neither: int = 0
  skipped: int = 0   # records in which an item has no source

  def add(self, first: bool, second: bool):
    name = {(True, True): "both", (True, False): "first",
            (False, True): "second", (False, False): "neither"}[first, second]
    setattr(self, name, getattr(self, name) + 1)

  def to_json(self) -> dict[str, Any]:
    n = self.both + self.first + self.second + self.neither
    share = kappa = None
    if n:
      a, b = (self.both + self.first) / n, (self.both + self.second) / n
      share = (self.both + self.neither) / n
      chance = a * b + (1 - a) * (1 - b)
      kappa = (share - chance) / (1 - chance) if chance < 1 else None
    return dataclasses.asdict(self) | {
        "sentences": n, "share": share, "kappa": kappa}


def audit(path: pathlib.Path, out: pathlib.Path, *, against=None, source=None,
          max_unsupported: float = 0.01, max_parse_failures: float = 0.005,
          num_drawn: int = NUM_DRAWN, seed: int = 0) -> dict[str, Any]:
  """Writes the page, and its numbers beside it, in <out>.json.

  Args:
    path: results.
    out: the page; it quotes reports.
    against: results of another back-end on the same input, or None.
    source: the input; None: what the run noted, if it is still there.
    max_unsupported, max_parse_failures: shares, the limits of the run.
    num_drawn: records to read, drawn by `seed`.

  Returns:
    The numbers; "faults" is empty where the limits are kept.

  Raises:
    PrepareError: a file is none of the kind, or they do not belong together.
  """
  source = source or _noted(path)
  if against is not None and source is None:
    raise PrepareError(f"The input of {path} is not where it was, and "
                       "--against compares its sentences; name it by --in.")
  counts, about, samples, agreement = _read(
      path, against, source, num_drawn, random.Random(seed))
  numbers = tally.summary(counts)
  report = about | numbers | {
      "file": str(path), "input": source and str(source), "seed": seed,
      "against": against and str(against),
      "agreement": agreement and agreement.to_json(),
      "limits": {"unsupported_share": max_unsupported,
                 "parse_failure_share": max_parse_failures},
      "faults": tally.faults(numbers, max_unsupported=max_unsupported,
                             max_parse_failures=max_parse_failures)}
  out.parent.mkdir(parents=True, exist_ok=True)
  unfinished = out.with_name(f".{out.name}")
  unfinished.write_text(_page(report, counts, samples), encoding="utf-8")
  unfinished.rename(out)
  write_json(out.with_name(f"{out.name}.json"), report, indent=1)
  return report


def _noted(path: pathlib.Path) -> pathlib.Path | None:
  """The input that the run of these results was given, if it is there."""
  about = path.with_name(path.name + ".run.json")
  try:
    noted = pathlib.Path(json.loads(about.read_text())["input"])
  except (OSError, ValueError, KeyError):
    return None
  return noted if noted.is_file() else None


def _read(path, against, source, num_drawn: int, rng):
  """One pass over all files: the tally, who made it, a sample, agreement."""
  total = sum(1 for _ in read(path))
  if not total:
    raise PrepareError(f"{path} holds no result; give the --out of a run.")
  drawn = set(rng.sample(range(total), min(num_drawn, total)))
  counts, samples, about = collections.Counter(), [], {}
  agreement = None if against is None else Agreement()
  others = itertools.repeat(None) if against is None else read_results(against)
  records = itertools.repeat(None) if source is None else read(source)
  bar = tqdm.tqdm(read_results(path), desc="audit", total=total, unit="record",
                  mininterval=0.5)
  for number, (result, line) in enumerate(zip(bar, records)):
    counts += tally.count(result)
    about = about or {"recipe": result.recipe, "backend": result.backend,
                      "recipe_version": result.recipe_version}
    other = next(others, None)
    if number not in drawn and (agreement is None or other is None):
      continue
    record = line and _record(line, result, path)
    if agreement is not None and other is not None:
      about.setdefault("other_backend", other.backend)
      _compare(record, result, other, agreement, against)
    if number in drawn:
      samples.append(_sample(record, result, other))
  if counts["records"] < total:
    raise PrepareError(f"{source} has fewer records than {path} has results; "
                       "name the input of that run by --in.")
  return counts, about, samples, agreement


def _record(line, result: Result, path) -> contract.Record:
  """The clean record of a result."""
  record, _ = line.record()
  if (record.id, record.raw_hash()) != (result.id, result.raw_hash):
    raise PrepareError(f"{path} was not made from this input: {line.where()} "
                       f"is not what record {result.id!r} was; name the input "
                       "of that run by --in.")
  return engine.prepared(record, recipes.get(result.recipe))[0]


def _compare(record: Record, first: Result, second: Result,
             agreement: Agreement, path):
  if (first.id, first.raw_hash, first.recipe) != (
      second.id, second.raw_hash, second.recipe):
    raise PrepareError(f"{path} was made from another input, or by another "
                       f"recipe: record {first.id!r} is not the same there; "
                       "compare two back-ends on one input.")
  if not (_is_traced(first) and _is_traced(second)):
    agreement.skipped += 1
    return
  for sentence in _sentences(record):
    agreement.add(_keeps(first, sentence), _keeps(second, sentence))


def _is_traced(result: Result) -> bool:
  """True where it is known which sentences became items."""
  return result.normal or all(item.sources for item in result.items)


def _sentences(record: Record) -> Iterator[Source]:
  for section, text in record.texts().items():
    for found in sentences.split(text, section):
      yield Source(section, found.start, found.end)


def _keeps(result: Result, sentence: Source) -> bool:
  return any(source.section == sentence.section
             and max(source.start, sentence.start) < min(
                 source.end, sentence.end)
             for source, _ in _spans(result))


def _spans(result: Result) -> Iterator[tuple[Source, int]]:
  """Every source, and the number of what was made of it, from 1."""
  for number, item in enumerate(result.items, 1):
    yield from ((source, number) for source in item.sources)
  for number, triplet in enumerate(result.triplets, 1):
    if triplet.source:
      yield triplet.source, number


def _sample(record: Record | None, result: Result,
            other: Result | None) -> dict[str, Any]:
  """What the page shows of one record."""
  texts = record.texts() if record else {}
  return {"result": result, "other": other, "sections": {
      section: segments(text, [(s, n) for s, n in _spans(result)
                               if s.section == section])
      for section, text in texts.items()}}


def segments(text: str, spans: list[tuple[Source, int]]
             ) -> list[tuple[str, tuple[int, ...]]]:
  """Cuts a text where a span begins or ends.

  Returns:
    The pieces in order, each with the numbers of the spans that it lies in.
  """
  cuts = sorted({0, len(text), *(
      min(max(0, at), len(text)) for s, _ in spans for at in (s.start, s.end))})
  return [(text[a:b], tuple(sorted({n for s, n in spans
                                    if s.start <= a and b <= s.end})))
          for a, b in itertools.pairwise(cuts)]


def _page(report: dict[str, Any], counts, samples) -> str:
  environment = jinja2.Environment(
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters |= dict(percent=_percent, decimal=_decimal)
  template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
  return template.render(
      report=report, samples=samples, expected=EXPECTED.get(report["recipe"]),
      reasons=contract.REASONS, warnings=contract.WARNINGS,
      figure=_histograms(counts) if counts["items"] else "")


def _percent(share: float | None) -> str:
  return "—" if share is None else f"{share:.2%}"


def _decimal(value: float | None) -> str:
  return "—" if value is None else f"{value:.2f}"


def _histograms(counts) -> str:
  """Items per record and words per item, as the address of a picture."""
  figure = Figure(figsize=(11, 3.1), layout="constrained", facecolor="white")
  panels = figure.subplots(1, 2)
  for axes, kind, title, x, y in (
      (panels[0], "items", "Items per record", "items", "records"),
      (panels[1], "words", "Words per item", "words", "items")):
    table = {int(k): n for k, n in tally.table(counts, kind).items()}
    axes.bar(list(table), list(table.values()), width=0.85, color=BAR,
             alpha=0.85)
    axes.set_xlim(min(table, default=0) - 1, max(table, default=0) + 1)
    for axis in (axes.xaxis, axes.yaxis):
      axis.get_major_locator().set_params(integer=True)
    axes.set_title(title, fontsize=9.5, loc="left", weight="bold", color=INK)
    axes.set_xlabel(x, fontsize=8, color=MUTED)
    axes.set_ylabel(y, fontsize=8, color=MUTED)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, colors=MUTED, length=0)
    for side, spine in axes.spines.items():
      spine.set_visible(side == "bottom")
      spine.set_color(RULE)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=144)
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
