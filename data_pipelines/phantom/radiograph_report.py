"""What is said of a radiograph, its triplets, and the prompts that ask for it.

An item is a sentence and its triplet (severity, location, category) tells what
the sentence tells: "" for what it leaves open, severity "no" for what it
denies. Of categories, sides, places and grades each finding implies labels:
"consolidation", "consolidation, right side", "consolidation, right lower lobe",
"consolidation, large". Prompts use words of the reports in templates of their
own.

Reference: Liang et al., IEEE JBHI 2025 (triplets).
"""

from typing import Any, NamedTuple

import numpy as np

from data_pipelines.phantom import radiograph_findings as findings_lib
from data_pipelines.phantom import wording

DENIED = "no"                    # the severity of what is absent
NO_GRADE_RATE, NO_PLACE_RATE = 0.15, 0.12      # items that leave it open
# Items that deny something, 0, 1, 2, 3 of them: with findings, and without.
DENIALS = {True: (0.45, 0.35, 0.2, 0.0), False: (0.2, 0.3, 0.3, 0.2)}

# The first is what prompts and denials say, without its article. None is the
# name of another of the 61 categories ("cardiac enlargement") or says a grade.
NOUNS = {
    "cardiomegaly": ("cardiomegaly", "enlargement of the heart",
                     "enlargement of the cardiac silhouette"),
    "edema": ("pulmonary edema", "edema", "lung edema"),
    "emphysema": ("emphysema", "emphysematous change",
                  "pulmonary emphysema"),
    "effusion": ("a pleural effusion", "pleural effusion", "an effusion"),
    "pneumothorax": ("a pneumothorax", "pneumothorax"),
    "opacity": ("an opacity", "a hazy opacity", "a lung opacity"),
    "consolidation": ("consolidation", "an area of consolidation",
                      "airspace consolidation"),
    "hiatal hernia": ("a hiatal hernia", "a sliding hiatal hernia"),
    "atelectasis": ("atelectasis", "subsegmental atelectasis",
                    "plates of atelectasis"),
    "nodule": ("a nodule", "a lung nodule", "a pulmonary nodule"),
}
WHERE = {
    "retrocardiac": ("behind the heart", "in the retrocardiac region"),
    "perihilar": ("in the perihilar regions", "around both hila"),
    "pleural space": ("on the {side}", "on the {side} side",
                      "in the {side} hemithorax"),
}
IN_PLACE = ("in the {place}", "within the {place}")
SENTENCES = (
    "{phrase} {where}.", "There is {phrase} {where}.",
    "{phrase} is seen {where}.", "{phrase} is present {where}.",
    "{phrase} {where} is noted.", "Evidence of {phrase} {where}.",
)
DENYING = ("No {noun}.", "There is no {noun}.", "No {noun} is seen.",
           "No evidence of {noun}.")
NORMAL = ("No acute cardiopulmonary abnormality.", "The lungs are clear.",
          "Normal chest radiograph.", "Heart and lungs are normal.")

PROMPTS = {
    "category": ("findings consistent with {noun}", "radiograph with {noun}"),
    "grade": ("findings consistent with {grade} {noun}",
              "radiograph with {grade} {noun}"),
    "side": ("findings consistent with {side} {noun}",
             "{noun} of the {side} lung"),
    "place": ("findings consistent with {noun} in the {place}",
              "{place} with {noun}"),
}


class Triplet(NamedTuple):
  """Fields that are "" are not told."""
  severity: str = ""
  location: str = ""
  category: str = ""


class Item(NamedTuple):
  """A sentence; `about`: the number of the finding it is of, or None."""
  text: str
  triplet: Triplet
  about: int | None = None


def write(rng: np.random.Generator,
          found: list[findings_lib.Finding]) -> list[Item]:
  """The items of a study, in random order."""
  items = [describe(rng, finding, k) for k, finding in enumerate(found)]
  if not found:
    items.append(Item(wording.pick(rng, NORMAL), Triplet()))
  there = {f.kind.name for f in found}
  absent = [k.name for k in findings_lib.KINDS if k.name not in there]
  number = rng.choice(4, p=DENIALS[bool(found)])
  for i in rng.permutation(len(absent))[:number]:
    text = wording.pick(rng, DENYING).format(noun=noun(absent[i]))
    items.append(Item(text, Triplet(DENIED, "", absent[i])))
  return [items[i] for i in rng.permutation(len(items))]


def describe(rng: np.random.Generator, finding: findings_lib.Finding,
             number: int) -> Item:
  """One item of the report."""
  kind, place = finding.kind, finding.place
  grade = kind.grades[finding.grade] if rng.random() >= NO_GRADE_RATE else ""
  location = place.name if rng.random() >= NO_PLACE_RATE else ""
  where = ""
  if location:
    where = wording.pick(rng, WHERE.get(place.region, IN_PLACE)).format(
        side=place.side, place=place.name)
  phrase = _graded(wording.pick(rng, NOUNS[kind.name]), grade)
  text = wording.pick(rng, SENTENCES).format(phrase=phrase, where=where)
  text = " ".join(text.split()).replace(" .", ".")
  return Item(text[0].upper() + text[1:],
              Triplet(grade, location, kind.name), number)


def noun(category: str) -> str:
  """What a category is called, without an article."""
  return _bare(NOUNS[category][0])


def grade_finding(finding: findings_lib.Finding) -> str:
  return f"{finding.kind.name}, {finding.kind.grades[finding.grade]}"


def place_findings(finding: findings_lib.Finding) -> tuple[str, ...]:
  """The labels that say where it is, the finest last."""
  return _places(finding.kind, finding.place)


def findings() -> dict[str, dict[str, Any]]:
  """All labels in column order, each with its held-out prompts."""
  levels = {level: {} for level in PROMPTS}
  for kind in findings_lib.KINDS:
    words = {"noun": noun(kind.name)}
    levels["category"][kind.name] = words
    for grade in kind.grades:
      levels["grade"][f"{kind.name}, {grade}"] = words | {"grade": grade}
    for place in kind.places:
      for level, name in zip(("side", "place"), _places(kind, place)[1:]):
        levels[level][name] = words | {"side": place.side, "place": place.name}
  return {name: {"prompts": [p.format(**words) for p in PROMPTS[level]],
                 "label": name}
          for level, names in levels.items() for name, words in names.items()}


def labels(found: list[findings_lib.Finding]) -> dict[str, int]:
  """1 for every label that some finding implies, 0 for the others."""
  present = {name for f in found
             for name in (*place_findings(f), grade_finding(f))}
  return {name: int(name in present) for name in findings()}


def _places(kind: findings_lib.Kind, place) -> tuple[str, ...]:
  names = [kind.name]
  if place.side:
    names.append(f"{kind.name}, {place.side} side")
    if [p.side for p in kind.places].count(place.side) > 1:
      names.append(f"{kind.name}, {place.name}")
  return tuple(names)


def _bare(phrase: str) -> str:
  return phrase.removeprefix("an ").removeprefix("a ")


def _graded(phrase: str, grade: str) -> str:
  """No grade begins with a vowel, so its article is "a"."""
  if not grade:
    return phrase
  bare = _bare(phrase)
  return f"{grade} {bare}" if bare == phrase else f"a {grade} {bare}"
