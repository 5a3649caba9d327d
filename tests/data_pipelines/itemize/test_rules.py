"""The rules back-end: parts of reports, clauses, and the phantom's truth."""

import collections
import json

from data_pipelines.itemize import engine
from data_pipelines.itemize import recipes
from data_pipelines.itemize import rules
from data_pipelines.itemize import similarity
from data_pipelines.itemize import statements
from data_pipelines.itemize.contract import Record
from data_pipelines.phantom import anatomy
from data_pipelines.phantom import free_text
from data_pipelines.phantom import lesions
from data_pipelines.phantom import report
import numpy as np
import pytest


class _Still:
  """A subject in the template's own shape, which needs no warp."""

  def to_patient(self, x):
    return np.asarray(x, float)


def _study(seed):
  """(sections, items that are findings) of a phantom's study."""
  rng = np.random.default_rng(seed)
  number = int(rng.integers(0, 6))
  found = lesions.draw_lesions(rng, _Still(), tuple(anatomy.CONTRAST), number)
  items, of = report.write(rng, found)
  about = {k: report.finding_names(lesion.kind, lesion.place)[-1]
           for k, lesion in zip(of, found)}
  sections = free_text.write(np.random.default_rng([seed, 1]), items, about)
  return sections, [items[k] for k in sorted(about)] or [report.NORMAL]


def _facts(text):
  """Kinds, sides and regions that the generator's own words name."""
  text = f" {similarity.fold(text)} "
  named = lambda words: frozenset(
      w for w in words if f" {similarity.fold(w)} " in text)
  kinds = frozenset(kind for kind, phrases in report.PHRASES.items()
                    if named((kind, *phrases)))
  return (kinds, named(("left", "right")),
          named({place.region for place in lesions.PLACES}))


def _right(got, want):
  """How many of `want` are among `got`: by folded equality or by their facts,
  each item once."""
  left, count = list(got), 0
  for item in want:
    twin = next((g for same in (similarity.fold, _facts) for g in left
                 if same(g) == same(item)), None)
    if twin is not None:
      left.remove(twin)
      count += 1
  return count


def test_items_of_free_text_are_those_of_the_generator():
  tally = collections.Counter()
  for seed in range(60):
    sections, want = _study(seed)
    result = engine.itemize({"id": str(seed), "sections": sections},
                            "summary_list")
    got = [item.text for item in result.items]
    tally.update(right=_right(got, want), got=len(got), want=len(want))
  assert tally["want"] > 120
  assert 2 * tally["right"] / (tally["got"] + tally["want"]) >= 0.97


def test_free_text_says_more_than_the_items():
  texts = ["\n".join(_study(seed)[0].values()) for seed in range(40)]
  assert len(set(texts)) == 40
  said = " ".join(texts).lower()
  for trap in ("history", "no ", "neither", "recommend", "normal", "compar"):
    assert trap in said
  for seed in range(40):
    sections, want = _study(seed)
    text = similarity.fold(" ".join(sections.values()))
    if want != [report.NORMAL]:
      assert all(similarity.fold(item) in text for item in want)


def test_free_text_never_denies_what_the_study_shows():
  for seed in range(200):
    rng = np.random.default_rng(seed)
    for kind in lesions.KINDS:
      absent = [k.name for k in lesions.KINDS if k is not kind]
      said = free_text._deny(rng, absent).lower()
      assert not any(words.lower() in said for words in (
          kind.name, *free_text.DENIED[kind.name])
                     if not _elsewhere(words, kind.name)), said


def _elsewhere(words, name):
  """Whether the denial of another kind has these words in it."""
  return any(words in other for kind, others in free_text.DENIED.items()
             if kind != name for other in others)


def _parts(text, section="text"):
  return [(s.text, s.part) for s in statements.read(
      Record("r", {section: text}))]


@pytest.mark.parametrize("text, want", [
    ("HISTORY: Known cyst. Headache.\nFINDINGS: Lipoma.\nIMPRESSION: Lipoma.",
     ["history", "history", "findings", "impression"]),
    # No heading of findings follows: history ends with its line ...
    ("Indication: Known cyst. Pain.\nLipoma.\nMass.",
     ["history", "history", "findings", "findings"]),
    ("Technique: Axial images.\nComparison: None.\nMass.\nConclusion: Mass.",
     ["history", "history", "findings", "impression"]),
    # ... or with its sentence, where there is one line only ...
    ("Comparison: None. Lipoma of the brain.", ["history", "findings"]),
    # ... unless the heading stands alone.
    ("CLINICAL HISTORY:\nKnown cyst.\nPain.\n\nLipoma of the brain.",
     ["history", "history", "findings"]),
    ("Lipoma. Recommendations: Follow-up of the lipoma.",
     ["findings", "history"]),
    ("Lipoma. The ward was informed of the lipoma.", ["findings", "history"]),
    ("Lipoma as described above.", ["findings"]),
])
def test_parts_of_a_report(text, want):
  assert [part for _, part in _parts(text)] == want


def test_all_of_an_impression_is_one():
  assert [p for _, p in _parts("Lipoma. Cyst.", "impression")] == [
      "impression"] * 2


def _summary(findings, impression=None):
  sections = {"findings": findings}
  if impression:
    sections["impression"] = impression
  return [item.text for item in engine.itemize(
      {"id": "r", "sections": sections}, "summary_list").items]


@pytest.mark.parametrize("findings, impression, want", [
    # Less of the same finding in the impression, and more of it.
    ("Large mass in the left frontal lobe, 40 mm.", "Left frontal mass.",
     ["Large mass in the left frontal lobe, 40 mm."]),
    ("There is a mass in the frontal lobe.", "Left frontal lobe mass, 40 mm.",
     ["Left frontal lobe mass, 40 mm."]),
    # Another side, another place, another size.
    ("Mass in the left frontal lobe.", "Mass in the right frontal lobe.",
     ["Mass in the left frontal lobe.", "Mass in the right frontal lobe."]),
    ("Mass in the left frontal lobe.", "Mass in the left parietal lobe.",
     ["Mass in the left frontal lobe.", "Mass in the left parietal lobe."]),
    ("Cyst of 5 mm in the pons.", "Cyst of 9 mm in the pons.",
     ["Cyst of 5 mm in the pons.", "Cyst of 9 mm in the pons."]),
    # Two of a kind in one part are two.
    ("Nodule in the left lung. A further nodule in the left lung.", None,
     ["Nodule in the left lung.", "A further nodule in the left lung."]),
    # Something new.
    ("Mass in the left frontal lobe.", "Left frontal mass. Hydrocephalus.",
     ["Mass in the left frontal lobe.", "Hydrocephalus."]),
])
def test_the_impression_is_not_said_twice(findings, impression, want):
  assert _summary(findings, impression) == want


@pytest.mark.parametrize("text, want", [
    ("Lipoma; history of stroke.", ["Lipoma."]),
    ("Brain: cyst in the pons.", ["Cyst in the pons."]),
    ("Brain: cyst.", ["Brain: cyst."]),
    ("Also noted: cyst in the pons, stable since the last study.",
     ["Noted: cyst in the pons."]),
])
def test_items_are_short(text, want):
  assert _summary(text) == want


@pytest.mark.parametrize("recipe", ["ctrate_abnormal", "summary_list"])
def test_a_sentence_too_long_for_an_item_is_cut_where_it_pauses(recipe):
  text = ", ".join(f"a nodule of {n} mm in segment {n} of the left lung"
                   for n in range(2, 14))
  result = engine.itemize({"id": "r", "sections": {"text": text}}, recipe)
  said = " ".join(item.text for item in result.items)
  assert all(f"{n} mm" in said for n in range(2, 14))
  assert len(result.items) > 1 and not result.warnings
  assert all(len(item.text.split()) <= 60 for item in result.items)


def test_sources_of_clauses_are_where_they_stand():
  text = "No mass, but there is oedema in the left lobe; cyst in the pons."
  result = engine.itemize({"id": "r", "sections": {"text": text}},
                          "summary_list")
  assert [text[i.sources[0].start:i.sources[0].end] for i in result.items] == [
      "there is oedema in the left lobe", "cyst in the pons."]


def test_reports_without_a_finding_and_without_a_word():
  said = engine.itemize({"id": "r", "sections": {"text": "Heart normal."}},
                        "summary_list")
  silent = engine.itemize({"id": "r", "sections": {"text": ""}},
                          "summary_list")
  history = engine.itemize(
      {"id": "r", "sections": {"text": "HISTORY: Known cyst."}}, "summary_list")
  assert said.normal and said.items[0].text == "Study is unremarkable"
  for nothing in (silent, history):
    assert not nothing.normal and not nothing.items and nothing.warnings


def test_terms_of_the_user(tmp_path):
  path = tmp_path / "own.json"
  path.write_text(json.dumps({"findings": [
      {"name": "blorbosis", "organ": "liver", "terms": ["blorbosis"]}]}))
  record = Record("r", {"findings": "No blorbosis."})
  for given, want in ((str(path), "normal"), ("", "normal")):
    draft = rules.Rules(given).items(recipes.get("summary_list"), record)
    assert [d.reason for d in draft.dropped] == [want]
  record = Record("r", {"findings": "Blorbosis."})
  triplet = rules.Rules(str(path)).items(recipes.get("anatomy"), record)
  assert not triplet.anatomies["liver"]["normal"]
  assert rules.Rules().items(
      recipes.get("anatomy"), record).anatomies["liver"]["normal"]
