"""Precision, recall and speed of the rules, or of a library in their place.

    python -m tests.data_pipelines.itemize.measure
    python -m tests.data_pipelines.itemize.measure --library=negspacy --errors

Libraries (libraries.py) are no requirement of the project; install what you
want to compare. Findings are found by the project's own lexicon, so that only
the handling of negation is compared.
"""

import argparse
import importlib
import random
import time

from data_pipelines.itemize import clean
from data_pipelines.itemize import itemize
from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon
from data_pipelines.itemize import sentences
from tests.data_pipelines.itemize import labelled

REPORT_WORDS = 350
REPEATS = 15


def by_rules(text: str):
  """(keep, {(canonical, negated)}) of a sentence."""
  analysis = language.analyse(text)
  return analysis.abnormal, findings_of(analysis)


def findings_of(analysis: language.Analysis) -> set[tuple[str, bool]]:
  known = lexicon.load().findings
  return {(m.canonical, m.negated) for m in analysis.findings
          if m.context == "study" and not known[m.canonical].generic}


def split_by_rules(text: str) -> list[str]:
  return [s.text for s in sentences.split(text)]


def reports(number: int) -> list[str]:
  """Texts of about REPORT_WORDS words; no sentence occurs twice."""
  rng, rows, out = random.Random(0), labelled.sentences(), []
  for n in range(number):
    lines, words = ["FINDINGS:"], 0
    while words < REPORT_WORDS:
      line = f"{rng.choice(rows)['text'][:-1]} on image {n}-{len(lines)}."
      lines.append(line)
      words += len(line.split())
    out.append(" ".join(lines))
  return out


def speed(read, split, texts: list[str]) -> float:
  """Reports a second on one core; of each text the best of some repeats."""
  best = [float("inf")] * len(texts)
  for _ in range(REPEATS):
    language.forget()
    for n, text in enumerate(texts):
      start = time.perf_counter()
      for sentence in split(clean.clean(text).text):
        read(sentence)
      best[n] = min(best[n], time.perf_counter() - start)
  return len(texts) / sum(best)


def recipe_speed(recipe: str, texts: list[str]) -> float:
  """Reports a second on one core, from text to checked items."""
  best = float("inf")
  for _ in range(REPEATS // 5):
    language.forget()
    start = time.process_time()
    for n, text in enumerate(texts):
      itemize({"id": str(n), "sections": {"findings": text}}, recipe)
    best = min(best, time.process_time() - start)
  return len(texts) / best


def _line(name: str, number: int, *scores: labelled.Score) -> str:
  cells = "".join(f"{s.precision:10.3f}{s.recall:8.3f}" for s in scores)
  return f"{name:12}{number:6}{cells}"


def _errors(rows: list[dict], read):
  for row in rows:
    keep, found = read(row["text"])
    want = {(f["canonical"], f["negated"]) for f in row["findings"]}
    if keep != row["abnormal"] or found != want:
      print(f"{'kept' if keep else 'dropped'}: {row['text']} "
            f"+{sorted(found - want)} -{sorted(want - found)}")


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("--library", help="of libraries.py; none: the rules")
  parser.add_argument("--errors", action="store_true")
  options = parser.parse_args()
  read, split = by_rules, split_by_rules
  if options.library:
    libraries = importlib.import_module(
        "tests.data_pipelines.itemize.libraries")
    read, split = getattr(libraries, options.library)()
  print(f"{'part':12}{'n':>6}{'keep P':>10}{'R':>8}{'find. P':>10}{'R':>8}")
  for part in labelled.PARTS:
    rows = labelled.sentences(part)
    print(_line(part, len(rows), *labelled.score(rows, read)))
  print(_line("splitting", len(labelled.splits()),
              labelled.score_splits(split)))
  rate = speed(read, split, reports(30))
  print(f"{rate:.0f} reports of {REPORT_WORDS} words a second, read")
  if not options.library:
    for recipe in ("ctrate_abnormal", "summary_list", "anatomy", "triplet"):
      print(f"{recipe_speed(recipe, reports(100)):.0f} by {recipe}, in all")
  if options.errors:
    _errors(labelled.sentences(), read)


if __name__ == "__main__":
  main()
