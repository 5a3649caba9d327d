"""Precision, recall and speed of the rules, or of a library in their place.

    python -m tests.data_pipelines.itemize.measure
    python -m tests.data_pipelines.itemize.measure --library=negspacy --errors

Libraries (libraries.py) are no requirement of the project; install what you
want to compare. Findings are found by the project's own lexicon, so that only
the handling of negation is compared.
"""

import argparse
import importlib
import pathlib
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


def ordinary(number: int) -> list[str]:
  """Chest reports as they are dictated: normal sentences recur, numbers do not.

  ordinary.txt holds the sentences, "-" normal and "+" abnormal.
  """
  rng = random.Random(0)
  lines = pathlib.Path(__file__).with_name("ordinary.txt").read_text().split(
      "\n")
  normal, abnormal = ([x[2:] for x in lines if x[:1] == mark]
                      for mark in "-+")
  out = []
  for _ in range(number):
    said = rng.sample(normal, 14) + [
        text.format(n=rng.randint(20, 999) / 10,
                    s=rng.choice(("left", "right")))
        for text in rng.sample(abnormal, 7)]
    rng.shuffle(said)
    out.append(" ".join(said))
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
  """Reports of REPORT_WORDS a second and core, from text to checked items."""
  best = float("inf")
  for _ in range(REPEATS // 5):
    language.forget()
    start = time.process_time()
    for n, text in enumerate(texts):
      itemize({"id": str(n), "sections": {"findings": text}}, recipe)
    best = min(best, time.process_time() - start)
  return sum(len(text.split()) for text in texts) / REPORT_WORDS / best


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
      rates = [recipe_speed(recipe, texts)
               for texts in (ordinary(400), reports(100))]
      print(f"{rates[0]:.0f} ordinary ones by {recipe}, in all; {rates[1]:.0f} "
            "of traps")
  if options.errors:
    _errors(labelled.sentences(), read)


if __name__ == "__main__":
  main()
