"""The labelled sentences, and how well a reader of them does.

labelled.jsonl: {"text", "abnormal" (keep it?), "findings": [{"canonical",
"negated"}], "trap", "part"}. Findings are those of the images that the sentence
asserts or denies; what is history, family history or a question has none, and
"abnormality", which says nothing of its own, is left out. What was there and is
gone is denied, and kept. Sentences of part "rules" were written while the
rules were; those of part "held_out" afterwards, and no figure of
theirs has changed since.

labelled_splits.jsonl: {"text", "sentences"}.
"""

import json
import pathlib
from typing import NamedTuple

_HERE = pathlib.Path(__file__).parent
PARTS = ("rules", "held_out")


class Score(NamedTuple):
  """Counts of true positives, false positives and false negatives."""
  right: int = 0
  wrong: int = 0
  missed: int = 0

  def plus(self, got: set, want: set) -> "Score":
    return Score(self.right + len(got & want), self.wrong + len(got - want),
                 self.missed + len(want - got))

  @property
  def precision(self) -> float:
    return self.right / max(1, self.right + self.wrong)

  @property
  def recall(self) -> float:
    return self.right / max(1, self.right + self.missed)


def sentences(part: str | None = None) -> list[dict]:
  lines = (_HERE / "labelled.jsonl").read_text("utf-8").splitlines()
  return [row for row in map(json.loads, lines) if part in (None, row["part"])]


def splits() -> list[dict]:
  lines = (_HERE / "labelled_splits.jsonl").read_text("utf-8").splitlines()
  return [json.loads(line) for line in lines]


def score(rows: list[dict], read) -> tuple[Score, Score]:
  """(keep or drop, findings). read: text -> (keep, {(canonical, negated)})."""
  kept = findings = Score()
  for row in rows:
    keep, found = read(row["text"])
    kept = kept.plus({1} if keep else set(), {1} if row["abnormal"] else set())
    findings = findings.plus(
        found, {(f["canonical"], f["negated"]) for f in row["findings"]})
  return kept, findings


def score_splits(split) -> Score:
  """split: text -> sentences; a sentence counts if it is the very same."""
  total = Score()
  for row in splits():
    total = total.plus({s.strip() for s in split(row["text"])},
                       set(row["sentences"]))
  return total
