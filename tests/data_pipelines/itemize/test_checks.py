"""Checks: what no source says is refused, what the report says passes."""

import dataclasses

from data_pipelines.itemize import checks
from data_pipelines.itemize import evidence
from data_pipelines.itemize import recipes
from data_pipelines.itemize import statements
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Source
from data_pipelines.itemize.contract import Triplet
import pytest

SUMMARY = recipes.get("summary_list")
NODULES = ("Nodule of 5 mm in the left upper lobe. Nodule of 8 mm in the right "
           "lower lobe. No pleural effusion on the left.")
INFARCT = ("There is an acute infarct in the left frontal lobe. It measures "
           "3.2 x 2 cm. History of haematoma.")
SIDES = ("Left pleural effusion. No right pleural effusion. Cysts in both "
         "kidneys.")


def _record(text, **more):
  return Record("r", {"findings": text, **more})


def _draft(*texts, **more):
  return Draft(items=tuple(Item(text) for text in texts), backend="chat:x",
               **more)


def _texts(draft):
  return [item.text for item in draft.items]


def _reasons(draft):
  return [(d.text, d.reason) for d in draft.dropped]


@pytest.mark.parametrize("report, item, wrong", [
    (NODULES, "5 mm nodule, left upper lobe.", ()),
    (NODULES, "0.5 cm nodule in the left upper lobe.", ()),
    (NODULES, "Nodules in both lungs.", ()),
    (NODULES, "8 mm nodule in the left upper lobe.", ("number",)),
    (NODULES, "9 mm nodule in the right lower lobe.", ("number",)),
    (NODULES, "Nodule in the left lower lobe.", ("place",)),
    ("Right upper lobe nodule, 5 mm. Right lower lobe nodule, 8 mm.",
     "8 mm nodule in the right upper lobe.", ("number",)),
    ("Nodule. CT in 6 months is recommended.", "Nodule, 6 mm.", ("number",)),
    ("Lipoma in a patient with a history of stroke.", "Stroke.", ("finding",)),
    (NODULES, "Pneumothorax on the left.", ("finding",)),
    (INFARCT, "Acute infarct in the left frontal lobe, 32 mm.", ()),
    (INFARCT, "Acute infarct of the brain.", ()),
    (INFARCT, "Acute infarct in the right frontal lobe.", ("side",)),
    (INFARCT, "Bilateral frontal infarcts.", ("side",)),
    (INFARCT, "Acute infarct in the left parietal lobe.", ("place",)),
    (INFARCT, "Acute infarct in the left thalamus.", ("anatomy",)),
    (INFARCT, "Haematoma.", ("finding",)),
    (INFARCT, "The tower of a church.", ("finding",)),
    (SIDES, "Left kidney cyst.", ()),
    (SIDES, "Bilateral pleural effusion.", ("side",)),
    ("Mild pulmonary edema.", "Mild pulmonary oedema.", ()),
    ("A tumor of 12 x 7 mm in the cerebellum.", "Tumour, 12 mm.", ()),
])
def test_grounding(report, item, wrong):
  found = evidence.unsupported(item, statements.read(_record(report)))
  assert bool(found) == bool(wrong) and set(wrong) <= set(found)


@pytest.mark.parametrize("report, item, wrong", [
    ("No pleural effusion. Cardiomegaly.", "Pleural effusion.", True),
    ("No pleural effusion. Cardiomegaly.", "No cardiomegaly.", True),
    ("No pleural effusion. Cardiomegaly.", "Enlarged heart.", False),
    ("No pleural effusion. Cardiomegaly.", "No effusion.", False),
    (SIDES, "Right pleural effusion.", True),
    (SIDES, "Left pleural effusion.", False),
    (SIDES, "Pleural effusion.", False),
    ("No mass. The mass has grown.", "Mass.", False),
])
def test_polarity(report, item, wrong):
  said = evidence.mentions(statements.read(_record(report)))
  assert evidence.contradicted(item, said) == wrong


def test_what_is_refused_is_told():
  draft = _draft("5 mm nodule in the left upper lobe.", "Pneumonia.",
                 "Pleural effusion on the left.")
  for check in (checks.grounding, checks.polarity):
    draft = check(SUMMARY, _record(NODULES), draft)
  assert _texts(draft) == ["5 mm nodule in the left upper lobe."]
  assert _reasons(draft) == [("Pneumonia.", "unsupported"),
                             ("Pleural effusion on the left.", "unsupported")]


def test_a_clause_may_be_quoted_but_not_turned_round():
  report = _record("No mass or oedema in the left lobe.")
  quoted = Item("oedema in the left lobe.", (Source("findings", 0, 35),))
  draft = Draft(items=(quoted,), backend="chat:x")
  draft = checks.check(SUMMARY, report, draft)
  assert _reasons(draft) == [("oedema in the left lobe.", "unsupported")]


def test_a_part_of_a_number_is_no_quotation():
  report, all_of_it = _record("A 15 mm nodule."), Source("findings", 0, 15)
  cut = Draft(items=(Item("5 mm nodule.", (all_of_it,)),
                     Item("15 mm nodule.", (all_of_it,))))
  assert _texts(checks.grounding(SUMMARY, report, cut)) == ["15 mm nodule."]


@pytest.mark.parametrize("triplet, fine", [
    (Triplet("small", "left lung", "effusion"), True),
    (Triplet(None, "right lung", "effusion"), False),
    (Triplet("no", None, "effusion", negated=True), False),
    (Triplet("no", None, "pneumothorax", negated=True), True),
    (Triplet(None, None, "pneumothorax"), False),
    (Triplet(None, None, "fracture"), False),
])
def test_triplets_of_a_model(triplet, fine):
  report = _record("Small left pleural effusion. No pneumothorax.")
  source = Source("findings", 0, 28) if triplet.category == "effusion" else None
  triplet = dataclasses.replace(triplet, source=source)
  draft = checks.check(recipes.get("triplet"), report,
                       Draft(triplets=(triplet,), backend="chat:x"))
  assert (draft.triplets == (triplet,)) == fine
  assert _reasons(draft) == ([] if fine else [
      (triplet.category, "unsupported")])


def test_coverage_counts_abnormal_sentences_that_nobody_speaks_of():
  report = _record("Emphysema. Nodule in the left lung. The heart is normal. "
                   "Hiatal hernia.")
  draft = checks.coverage(SUMMARY, report, _draft("Left lung nodule."))
  assert draft.warnings == ("missing:2",)
  quoted = Draft(items=(Item("E", (Source("findings", 0, 10),)),
                        Item("Hernia at the hiatus", (Source(
                            "findings", 56, 70),)),
                        Item("Nodule")))
  assert checks.coverage(SUMMARY, report, quoted).warnings == ()


def test_a_finding_of_another_side_is_missing():
  report = _record("Nodule in the left lung.")
  draft = checks.coverage(SUMMARY, report, _draft("Nodule, right lung."))
  assert draft.warnings == ("missing:1",)


@pytest.mark.parametrize("texts, pairs", [
    (("small cyst left lung base", "small cyst left lung apex"), []),
    (("large cyst in left lung base", "large cyst, left lung, base"), [(0, 1)]),
    (("cyst of the left lung base", "large cyst of left lung base"), [(0, 1)]),
    (("one two six", "cyst", "a cyst"), [(1, 2)]),
    ((), []),
])
def test_independence(texts, pairs):
  assert checks.overlapping(texts) == pairs
  draft = checks.independence(SUMMARY, _record(""), _draft(*texts))
  assert draft.warnings == (("overlap",) if pairs else ())


def test_support_is_counted_anew():
  captions = ("A dog runs on a beach.", "The dog runs on a beach.",
              "A red house.")
  draft = Draft(items=(Item("A dog on the beach.", support=7),
                       Item("A red house.", support=3),
                       Item("A dog runs on the beach with a cat.")))
  draft = checks.support(recipes.get("verify2"), Record("r", {}, captions),
                         draft)
  assert [(i.text, i.support) for i in draft.items] == [
      ("A dog on the beach.", 2)]
  assert _reasons(draft) == [
      ("A red house.", "support"),
      ("A dog runs on the beach with a cat.", "support")]


@pytest.mark.parametrize("report, items, kept", [
    ("The brain is normal.", ["study is unremarkable."],
     ["study is unremarkable."]),
    ("Cyst in the pons.", ["Study is unremarkable"], []),
    ("Cyst in the pons.", ["Study is unremarkable", "Cyst in the pons."],
     ["Cyst in the pons."]),
])
def test_normal_only_where_nothing_is_abnormal(report, items, kept):
  draft = checks.normal_consistency(SUMMARY, _record(report), _draft(*items))
  assert _texts(draft) == kept


def test_length():
  long = " ".join(["cyst"] * 61)
  draft = checks.length(SUMMARY, _record(""),
                        _draft(long, long[:-5], "", "a cyst"))
  assert _texts(draft) == [long[:-5], "a cyst"]
  assert _reasons(draft) == [(long, "too_long"), ("", "empty")]


@pytest.mark.parametrize("text, clean", [
    ("Nodule of 5 mm, compared with 12/03/2020.", "Nodule of 5 mm."),
    ("Cyst at L4-5, 1.5 cm.", "Cyst at L4-5, 1.5 cm."),
    ("Infarct since March 4, 2019 on the left.", "Infarct on the left."),
    ("Mass, discussed with Dr. Miller.", "Mass."),
    ("MRN: 1234567, nodule in the liver.", "Nodule in the liver."),
    ("Stable cyst (2019-05-04).", "Stable cyst."),
])
def test_identifiers_are_taken_out(text, clean):
  draft = checks.identifiers(SUMMARY, _record(text), _draft(text))
  assert _texts(draft) == [clean]
  flags = ("identifier",) if clean != text else ()
  assert draft.items[0].flags == flags


@pytest.mark.parametrize("text", [
    "Dr. Smith was phoned.", "Call 555-123-4567.", "anna.b@clinic.org"])
def test_an_item_that_only_names_somebody_is_dropped(text):
  draft = checks.identifiers(SUMMARY, _record(text), _draft(text))
  assert not draft.items and draft.dropped[0].reason == "identifier"
  for private in ("Smith", "555", "anna"):
    assert private not in draft.dropped[0].text


def test_identifiers_in_what_was_dropped_and_in_anatomies_go_too():
  report = _record("Seen on 12/03/2020. The liver was fine on 12/03/2020.")
  draft = checks.identifiers(SUMMARY, report, Draft(
      dropped=(Dropped("Seen on 12/03/2020.", "history"),),
      anatomies={"liver": {"text": "Fine on 12/03/2020.", "normal": True}}))
  assert draft.dropped == (Dropped("Seen.", "history"),)
  assert draft.anatomies == {"liver": {"text": "Fine.", "normal": True}}


def test_every_recipe_names_checks_that_exist():
  for recipe in recipes.RECIPES.values():
    assert set(recipe.checks) <= set(checks.CHECKS)
    assert "identifiers" in recipe.checks or recipe.gives == "triplets"
