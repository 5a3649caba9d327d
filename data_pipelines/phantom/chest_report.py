"""What is said of a finding of the chest, and the prompts that ask for it.

As for the brain (report.py), findings come in levels from coarse to fine: the
kind ("consolidation"), where there is one with its side ("consolidation, left
side"), and with its place ("consolidation, left lower lobe"). Prompts use words
of the reports in templates of their own. Reports keep their capitals; whoever
reads the chest sets lowers them.
"""

from typing import Any

import numpy as np

from data_pipelines.phantom import chest_findings as findings_lib
from data_pipelines.phantom import chest_places as places
from data_pipelines.phantom import wording

NORMAL = "no significant abnormalities"  # as the public chest set writes it
NO_PLACE_RATE = 0.12     # items that name no place

# Countable or not, each phrase reads well after "There is".
PHRASES = {
    "cardiomegaly": (
        "cardiomegaly", "cardiac enlargement", "an enlarged heart",
        "an increased heart size"),
    "pericardial effusion": (
        "a pericardial effusion", "fluid in the pericardial space",
        "an effusion around the heart"),
    "hiatal hernia": (
        "a hiatal hernia", "a sliding hiatal hernia",
        "herniation of the stomach through the hiatus"),
    "pleural effusion": (
        "a pleural effusion", "pleural fluid", "effusion in the pleural space"),
    "emphysema": (
        "emphysema", "emphysematous change", "centrilobular emphysema"),
    "lung opacity": (
        "a ground-glass opacity", "a hazy opacity", "an opacity",
        "a lung opacity"),
    "consolidation": (
        "consolidation", "a consolidation", "an area of consolidation",
        "airspace consolidation"),
    "lung nodule": (
        "a nodule", "a solid nodule", "a lung nodule", "a pulmonary nodule"),
    "arterial wall calcification": (
        "wall calcification", "calcified plaque", "atherosclerotic "
        "calcification", "calcification of the wall"),
    "coronary artery wall calcification": (
        "wall calcification", "calcified plaque", "a row of calcified plaques",
        "dense calcification"),
}
# How an item without a place says what is calcified.
VESSEL = {"arterial wall calcification": "aorta",
          "coronary artery wall calcification": "coronary arteries"}

WITH_PLACE = (
    "{phrase} in the {place}.",
    "There is {phrase} in the {place}.",
    "The {place} shows {phrase}.",
    "{phrase} is seen in the {place}.",
    "In the {place} there is {phrase}.",
    "Evidence of {phrase} within the {place}.",
)
WITH_SIDE = (
    "On the {side} side, {phrase} in the {region}.",
    "{phrase} located in the {region} on the {side}.",
)
PLEURAL = (
    "{phrase} on the {side} side.",
    "There is {phrase} on the {side}.",
    "On the {side} side there is {phrase}.",
    "{phrase}, {side} hemithorax.",
    "The {side} hemithorax shows {phrase}.",
)
WITHOUT_PLACE = (
    "There is {phrase}.",
    "{phrase} is seen.",
    "{phrase} is present.",
    "The study shows {phrase}.",
    "Evidence of {phrase}.",
)
MEASURED = ("{text}, {mm} mm.", "{text} measuring {mm} mm.",
            "{text}, about {mm} mm.")
HARMLESS = (
    "Trachea and main bronchi are patent.",
    "No enlarged lymph nodes are found.",
    "No pneumothorax.",
    "Bones show no fracture.",
    "Thyroid gland is normal.",
    "Upper abdominal organs are normal.",
)

KIND_PROMPTS = ("findings consistent with {kind}", "chest CT with {kind}")
SIDE_PROMPTS = ("findings consistent with {side} {kind}",
                "{kind} of the {side} lung")
PLACE_PROMPTS = ("findings consistent with {kind} in the {place}",
                 "{place} with {kind}")


def describe(rng: np.random.Generator, finding: findings_lib.Finding) -> str:
  """One item of the report."""
  kind, place = finding.kind, finding.place
  phrase = wording.pick(rng, PHRASES[kind.name])
  templates = WITHOUT_PLACE
  if kind.name in VESSEL and rng.random() < NO_PLACE_RATE:
    phrase = f"{phrase} of the {VESSEL[kind.name]}"
  elif len(kind.places) > 1 and rng.random() >= NO_PLACE_RATE:
    templates = WITH_PLACE + (WITH_SIDE if place.side else ())
    if place in places.PLEURA:
      templates = PLEURAL
  text = wording.pick(rng, templates).format(
      phrase=phrase, place=place.name, region=place.region, side=place.side)
  if kind.measured and rng.random() < 0.4:
    text = wording.pick(rng, MEASURED).format(
        text=text.rstrip("."), mm=round(finding.size_mm))
  return text[0].upper() + text[1:]


def write(
    rng: np.random.Generator, found: list[findings_lib.Finding]
) -> tuple[list[str], list[int]]:
  """The items of a study, and which item speaks of each finding."""
  return wording.compose(rng, found, describe=describe, normal=NORMAL,
                         harmless=HARMLESS)


def finding_names(
    kind: findings_lib.Kind, place: places.Place) -> tuple[str, ...]:
  """Every label that a finding implies, the finest last."""
  names = [kind.name]
  if place.side:
    names.append(f"{kind.name}, {place.side} side")
  if len(kind.places) > 1 and place not in places.PLEURA:
    names.append(f"{kind.name}, {place.name}")
  return tuple(names)


def findings() -> dict[str, dict[str, Any]]:
  """All labels in column order, each with its held-out prompts."""
  levels = [{}, {}, {}]
  for kind in findings_lib.KINDS:
    for place in kind.places:
      for name in finding_names(kind, place):
        words = {"kind": kind.name, "side": place.side, "place": place.name}
        level, templates = (
            (0, KIND_PROMPTS) if name == kind.name
            else (1, SIDE_PROMPTS) if name.endswith(" side")
            else (2, PLACE_PROMPTS))
        levels[level][name] = {
            "prompts": [t.format(**words) for t in templates], "label": name}
  return levels[0] | levels[1] | levels[2]


def labels(found: list[findings_lib.Finding]) -> dict[str, int]:
  """1 for every label that some finding implies, 0 for the others."""
  present = {name for finding in found
             for name in finding_names(finding.kind, finding.place)}
  return {name: int(name in present) for name in findings()}
