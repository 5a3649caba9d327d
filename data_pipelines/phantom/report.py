"""What is said of a lesion, and the prompts that ask for it.

Findings come in three levels, from coarse to fine: the kind ("acute infarct"),
with its side ("acute infarct, left side"), with its place ("acute infarct, left
frontal lobe"). Their prompts use templates that no report uses, but words that
reports use: zero-shot questions are about meaning, not about a known sentence.
"""

from typing import Any

import numpy as np

from data_pipelines.phantom import lesions
from data_pipelines.phantom import wording

NORMAL = "Study is unremarkable."
NO_PLACE_RATE = 0.12     # items that name no place
SMALL_MM, LARGE_MM = 38.0, 44.0

# Countable phrases for each kind.
PHRASES = {
    "acute infarct": (
        "acute infarct", "acute ischaemic infarct", "acute ischaemic lesion"),
    "vasogenic oedema": (
        "area of vasogenic oedema", "region of vasogenic oedema",
        "patch of vasogenic oedema"),
    "microhaemorrhages": (
        "cluster of microhaemorrhages", "group of microhaemorrhages",
        "cluster of microbleeds"),
    "haematoma": ("haematoma", "parenchymal haematoma", "brain haematoma"),
    "enhancing mass": (
        "enhancing mass", "contrast-enhancing mass", "enhancing tumour"),
    "cystic lesion": ("cystic lesion", "fluid-filled cyst", "simple cyst"),
    "lipoma": ("lipoma", "fatty lipoma", "fat-containing lipoma"),
}

WITH_PLACE = (
    "{sized} in the {place}.",
    "{phrase} in the {place}, {mm} mm.",
    "There is {a_sized} in the {place}.",
    "{place} {phrase} measuring {mm} mm.",
    "The {place} shows {a_sized}.",
    "{phrase}, {place}, about {mm} mm in diameter.",
    "Findings consistent with {a_sized} of the {place}.",
    "Evidence of {a_sized} within the {place}.",
)
WITH_SIDE = (
    "On the {side} side, {a_sized} in the {region}.",
    "{sized} located in the {region} on the {side}.",
)
WITHOUT_PLACE = (
    "There is {a_sized}.",
    "{a_sized} is seen.",
    "{phrase} measuring {mm} mm.",
    "Findings consistent with {a_sized} of the brain.",
)
HARMLESS = (
    "No midline shift.",
    "Ventricles are normal in size.",
    "Basal cisterns are patent.",
    "No hydrocephalus is present.",
    "Brain volume is normal for age.",
    "No abnormal fluid collection on either side.",
)

KIND_PROMPTS = ("{kind} is present", "brain with {kind}")
SIDE_PROMPTS = ("{kind} on the {side} side", "{side} {kind} of the brain")
PLACE_PROMPTS = ("{kind} located in the {place}", "{place} with {kind}")


def describe(rng: np.random.Generator, lesion: lesions.Lesion) -> str:
  """One item of the report."""
  place = lesion.place
  templates = WITH_PLACE + (WITH_SIDE if place.side else ())
  if rng.random() < NO_PLACE_RATE:
    templates = WITHOUT_PLACE
  phrase = wording.pick(rng, PHRASES[lesion.kind.name])
  sized = f"{_size(rng, lesion.diameter_mm)}{phrase}"
  article = "an" if sized[0] in "aeiou" else "a"
  text = wording.pick(rng, templates).format(
      phrase=phrase, sized=sized, a_sized=f"{article} {sized}",
      place=place.name, region=place.region, side=place.side,
      mm=round(lesion.diameter_mm))
  return text[0].upper() + text[1:]


def write(
    rng: np.random.Generator, found: list[lesions.Lesion]
) -> tuple[list[str], list[int]]:
  """The items of a study, and which item speaks of each lesion."""
  return wording.compose(rng, found, describe=describe, normal=NORMAL,
                         harmless=HARMLESS)


def finding_names(kind: lesions.Kind, place: lesions.Place) -> tuple[str, ...]:
  """Every finding that a lesion implies, the finest last."""
  side = (f"{kind.name}, {place.side} side",) if place.side else ()
  return (kind.name, *side, f"{kind.name}, {place.name}")


def findings() -> dict[str, dict[str, Any]]:
  """All findings in column order, each with its held-out prompts."""
  out = {}
  for kind in lesions.KINDS:
    out[kind.name] = _finding(kind.name, KIND_PROMPTS, kind=kind.name)
  for kind in lesions.KINDS:
    for side in ("left", "right"):
      name = f"{kind.name}, {side} side"
      out[name] = _finding(name, SIDE_PROMPTS, kind=kind.name, side=side)
  for kind in lesions.KINDS:
    for place in lesions.PLACES:
      name = finding_names(kind, place)[-1]
      out[name] = _finding(
          name, PLACE_PROMPTS, kind=kind.name, place=place.name)
  return out


def labels(found: list[lesions.Lesion]) -> dict[str, int]:
  """1 for every finding that some lesion implies, 0 for the others."""
  present = {name for lesion in found
             for name in finding_names(lesion.kind, lesion.place)}
  return {name: int(name in present) for name in findings()}


def _finding(name: str, templates: tuple[str, ...], **words) -> dict[str, Any]:
  return {"prompts": [t.format(**words) for t in templates], "label": name}


def _size(rng: np.random.Generator, diameter_mm: float) -> str:
  """An adjective in three of four cases; medium sizes have none."""
  if rng.random() < 0.25 or SMALL_MM <= diameter_mm <= LARGE_MM:
    return ""
  return "small " if diameter_mm < SMALL_MM else "large "
