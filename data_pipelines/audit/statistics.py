"""Sums over the records of a set: counts, digests, items, labels, doubles.

`Totals` is fed one record after the other, in order, and holds no voxels. What
is impossible or would spoil a result (a patient in two splits, the same voxels
in two studies) becomes a problem; what is only worth knowing becomes a note.
"""

import collections
import dataclasses
import hashlib
import json
import re

import numpy as np

from data_pipelines.audit import examine
from itemclip_jax.data import record

# Distinct texts that are counted at a time. Beyond, the rarer half is
# forgotten, so that counts become lower bounds.
MAX_TEXTS = 500_000
_FREQUENT = 25


@dataclasses.dataclass(frozen=True)
class Problem:
  """kind: of the fault; text: a whole sentence that names the study."""
  kind: str
  text: str


@dataclasses.dataclass
class SplitTotals:
  """Of one split; `sha` runs over the digests of its records in order."""
  studies: int = 0
  series: int = 0
  items: int = 0
  normal: int = 0
  unreadable: int = 0
  patients: set[str] = dataclasses.field(default_factory=set)
  sha: "hashlib._Hash" = dataclasses.field(default_factory=hashlib.sha256)
  histogram: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  labels: dict[int, np.ndarray] | None = None  # value -> [F] counts

  def summary(self) -> dict:
    readable = self.studies - self.unreadable
    return {
        "studies": self.studies, "patients": len(self.patients),
        "series": self.series, "items": self.items, "normal": self.normal,
        "normal_share": self.normal / readable if readable else None,
        "unreadable": self.unreadable,
        # A digest of a part would look like one of the whole.
        "sha256": None if self.unreadable else self.sha.hexdigest()}


class Totals:
  """Everything that is known once all records were added."""

  def __init__(self, findings: dict[str, dict], *, max_words: int):
    self.problems: list[Problem] = []
    self.splits: dict[str, SplitTotals] = {}
    self._findings, self._max_words = list(findings), max_words
    self._texts = collections.Counter()
    self._per_study, self._words = collections.Counter(), collections.Counter()
    self._repeated = self._long = 0
    self._longest, self._was_pruned = "", False
    self._first_study, self._first_split, self._first_voxels = {}, {}, {}

  def add_split(self, split: str):
    self.splits[split] = SplitTotals(labels={
        v: np.zeros(len(self._findings), int) for v in (1, 0, -1)})

  def add(self, split: str, facts: examine.Facts, index: dict[str, np.ndarray]):
    """Adds one record; `index` holds the split's arrays of index.npz."""
    name = f"Study {facts.study_id!r} of split {split!r}"
    for kind, text in facts.wrong:
      self._report(kind, f"{name} {text}.")
    totals = self.splits[split]
    totals.studies += 1
    totals.series += facts.num_series
    totals.items += len(facts.items)
    totals.normal += facts.normal
    totals.patients.add(facts.patient_id)
    totals.sha.update(facts.sha256)
    for channel, counts in facts.histogram.items():
      totals.histogram[channel] = totals.histogram.get(channel, 0) + counts
    if len(facts.labels) == len(self._findings):
      for value, count in totals.labels.items():
        count += np.array(facts.labels, int) == value
    self._add_items(facts.items)
    self._find_doubles(split, facts, name)
    self._compare_index(facts, index, name)

  def add_unreadable(self, split: str):
    self.splits[split].studies += 1
    self.splits[split].unreadable += 1

  def _report(self, kind: str, text: str):
    self.problems.append(Problem(kind, text))

  def _add_items(self, items: list[str]):
    self._per_study[len(items)] += 1
    self._repeated += len(set(items)) < len(items)
    self._texts.update(items)
    for item in items:
      words = len(item.split())
      self._words[words] += 1
      self._long += words > self._max_words
      self._longest = max(self._longest, item, key=lambda x: len(x.split()))
    if len(self._texts) > MAX_TEXTS:
      self._texts = collections.Counter(
          dict(self._texts.most_common(MAX_TEXTS // 2)))
      self._was_pruned = True

  def _find_doubles(self, split: str, facts: examine.Facts, name: str):
    """The same study, patient or voxels where they may be once only."""
    first = self._first_study.setdefault(facts.study_id, (split, facts.number))
    if first != (split, facts.number):
      self._report("study twice", f"{name} is there twice: as record "
                   f"{facts.number} and as record {first[1]} of split "
                   f"{first[0]!r}.")
    had = self._first_split.setdefault(facts.patient_id, {split})
    if split not in had:
      self._report("patient in two splits", f"Patient {facts.patient_id!r} is "
                   f"in split {min(had)!r} and in {split!r} (study "
                   f"{facts.study_id!r}); a patient may be in one only.")
      had.add(split)
    for voxels in facts.voxels:
      twin = self._first_voxels.setdefault(
          voxels, (split, facts.number, facts.study_id))
      if twin[:2] != (split, facts.number):
        self._report("same voxels", f"{name} has a series with the voxels of "
                     f"study {twin[2]!r} of split {twin[0]!r}.")
        return  # the first series is enough

  def _compare_index(self, facts: examine.Facts, index, name: str):
    """Sampling trusts index.npz; it must say what the records say."""
    have = {"study_id": facts.study_id, "patient_id": facts.patient_id,
            "num_series": facts.num_series, "num_items": len(facts.items),
            "normal": facts.normal}
    for key in record.INDEX:
      stated = index[key][facts.number].item()
      if stated != have[key]:
        self._report("index", f"{name} (record {facts.number}) has {key} "
                     f"{have[key]!r}, but index.npz says {stated!r}.")

  def item_summary(self) -> dict:
    """Histograms of counts, most frequent texts, repeated and long ones."""
    return {
        "per_study": dict(sorted(self._per_study.items())),
        "words": dict(sorted(self._words.items())),
        "distinct": len(self._texts), "counts_are_exact": not self._was_pruned,
        "frequent": self._texts.most_common(_FREQUENT),
        "studies_with_repeats": self._repeated,
        "max_words": self._max_words, "longer_than_max_words": self._long,
        "longest": self._longest}

  def label_summary(self) -> dict[str, dict]:
    """finding -> split -> {"positive", "negative", "unknown"} studies."""
    names = {1: "positive", 0: "negative", -1: "unknown"}
    return {finding: {split: {
        names[v]: int(counts[f]) for v, counts in totals.labels.items()}
        for split, totals in self.splits.items()}
        for f, finding in enumerate(self._findings)}

  def notes(self) -> list[str]:
    """Sentences about what is no mistake, but worth knowing."""
    notes, labels = [], self.label_summary()
    for split, totals in self.splits.items():
      if totals.studies == totals.unreadable:
        continue  # a problem already
      none = [f for f in labels if not labels[f][split]["positive"]]
      if none:
        notes.append(f"Split {split!r} has no positive of {len(none)} of "
                     f"{len(labels)} findings: {_some(none)}.")
    if self._repeated:
      notes.append(f"{_studies(self._repeated)} the same item twice.")
    if self._long:
      notes.append(f"{self._long} items are longer than {self._max_words} "
                   "words; the end of a long text may not be read.")
    if self._was_pruned:
      notes.append(f"There are more than {MAX_TEXTS} distinct items, so the "
                   "counts of the rarer ones are lower bounds.")
    return notes


def read_ingest(text: str) -> dict[str, dict[str, int]]:
  """Sums ingest.jsonl up: reason -> {"studies", "series"} left out.

  Notes, of what was used all the same, count like reasons, "note: " before.

  Numbers and quoted names are taken out of the reasons to make them comparable.

  Raises:
    ValueError: a line is no JSON object with a reason.
  """
  reasons = {}
  for number, line in enumerate(text.splitlines(), 1):
    try:
      entry = json.loads(line)
      reason = entry["reason"] if "reason" in entry else (
          f"note: {entry['note']}")
      kind = "series" if "series" in entry else "studies"
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"line {number} of ingest.jsonl is {line[:60]!r}, want "
                       "a JSON object with a reason") from error
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|\b\d[\d.]*\b", "…", reason)
    reasons.setdefault(reason, {"studies": 0, "series": 0})[kind] += 1
  return dict(sorted(reasons.items(), key=lambda r: -sum(r[1].values())))


def _studies(number: int) -> str:
  return "1 study holds" if number == 1 else f"{number} studies hold"


def _some(names: list[str], shown: int = 8) -> str:
  more = len(names) - shown
  return "; ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
