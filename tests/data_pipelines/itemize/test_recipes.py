"""Recipes by rules: golden records, and what readers of the items expect."""

import json
import pathlib

from data_pipelines import reports
from data_pipelines.errors import PrepareError
from data_pipelines.itemize import engine
from data_pipelines.itemize import recipes
from data_pipelines.volumes import study
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = [(path.stem, json.loads(line)) for path in sorted(GOLDEN.iterdir())
         for line in path.read_text().splitlines()]


@pytest.mark.parametrize("recipe, case", CASES, ids=lambda x: (
    x if isinstance(x, str) else x["trap"]))
def test_golden(recipe, case):
  want, got = case["want"], engine.itemize(case["record"], recipe)
  texts = [item.text for item in got.items]
  if recipe == "anatomy":
    assert {name: [got.anatomies[name]["text"], got.anatomies[name]["normal"]]
            for name in want} == want
  elif recipe == "triplet":
    assert [{key: getattr(t, key) for key in (
        "severity", "location", "category", "negated")}
            for t in got.triplets] == want
  elif "items" in want:
    assert (texts, got.normal) == (want["items"], want["normal"])
  elif "starts" in want:
    assert [text.startswith(start) for text, start in zip(
        texts, want["starts"], strict=True)] == [True]
  else:
    _check_words(got, want)


def _check_words(got, want):
  """Of verify2, which may choose a wording: words that are in an item, and
  words that are in none."""
  words = [item.text.lower().rstrip(".").split() for item in got.items]
  for together in want.get("contains", ()):
    assert any(set(together) <= set(w) for w in words), together
  assert not {a for a in want.get("absent", ()) if any(a in w for w in words)}
  assert len(words) == want.get("count", len(words))
  if "support" in want:
    assert [item.support for item in got.items] == want["support"]


def test_twenty_golden_records_a_recipe():
  names = [name for name, _ in CASES]
  assert {name: names.count(name) for name in recipes.RECIPES} == dict.fromkeys(
      recipes.RECIPES, 20)


def test_items_of_reports_stand_in_the_report():
  for recipe, case in CASES:
    if recipe != "ctrate_abnormal":
      continue
    record = case["record"]
    for item in engine.itemize(record, recipe).items:
      for source in item.sources:
        cleaned = engine.prepared(
            engine.Record.from_json(record, "it"), recipes.get(recipe))[0]
        text = cleaned.sections[source.section][source.start:source.end]
        assert text == item.text


def test_the_normal_items_are_those_that_training_knows():
  mri = recipes.get("summary_list").normal
  ct = recipes.get("ctrate_abnormal").normal
  assert study.is_normal([mri]) and reports.is_normal_ct([ct])


def test_an_unknown_recipe_is_named():
  with pytest.raises(PrepareError, match="'haiku'; use one of ctrate_abn"):
    recipes.get("haiku")


def test_a_colour_that_one_caption_sees_is_left_out():
  captions = ["A brown dog runs on the beach.", "A dog running along a beach."]
  (item,) = engine.itemize({"id": "p", "captions": captions}, "verify2").items
  assert item.text == "A dog running along a beach." and item.support == 2


def test_severity_of_another_clause_is_not_the_finding_s():
  (triplet,) = engine.itemize({"id": "r", "sections": {
      "text": "The chest is small, left pneumothorax."}}, "triplet").triplets
  assert (triplet.severity, triplet.category) == (None, "pneumothorax")


def test_rules_are_deterministic():
  for recipe, case in CASES[::7]:
    first, second = (engine.itemize(case["record"], recipe).line()
                     for _ in range(2))
    assert first == second
