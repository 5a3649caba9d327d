"""One record: what is decided here, whatever the back-end."""

import dataclasses

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import itemize, recipes, tally
from data_pipelines.itemize.contract import Draft, Dropped, Item, Record
from data_pipelines.itemize.contract import Source
from tests.data_pipelines.itemize.fixed import Fixed

CHEST = recipes.NORMAL_CHEST_CT


def _made(*texts, recipe="ctrate_abnormal", **values):
  """The result of items that a back-end makes, past all checks."""
  bare = dataclasses.replace(recipes.get(recipe), checks=())
  items = tuple(t if isinstance(t, Item) else Item(t) for t in texts)
  return itemize(Record("a", {"findings": "Some text."}, ("some text",)), bare,
                 Fixed(Draft(items=items, **values)))


def _texts(result):
  return [item.text for item in result.items]


def test_a_report_from_python():
  result = itemize({"id": "a", "sections": {"findings": (
      "There is a 5 mm nodule in the left lower lobe. No pleural effusion.")}},
                   "ctrate_abnormal", "rules")
  assert _texts(result) == ["There is a 5 mm nodule in the left lower lobe."]
  assert result.items[0].sources == (Source("findings", 0, 46),)
  assert result.backend == "rules" and not result.normal
  assert [d.reason for d in result.dropped] == ["normal"]


def test_a_report_without_findings_is_the_canonical_item():
  result = itemize({"id": "a", "sections": {"findings": (
      "No pleural effusion. The lungs are clear.")}}, "ctrate_abnormal")
  assert _texts(result) == [CHEST] and result.normal


@pytest.mark.parametrize("sections, warning", [
    ({}, "empty"), ({"findings": ""}, "empty"),
    ({"findings": " \n\t", "impression": "\u00a0"}, "empty"),
    ({"text": "x " * 200_000}, "too_long"),
    ({"text": "Es zeigt sich ein Rundherd im linken Unterlappen. Kein Erguss "
              "und keine Lymphknoten, das Herz ist nicht vergrößert. Die Leber "
              "ist normal und ohne Herd, die Milz ebenfalls."}, "language")])
def test_what_cannot_be_read_gives_no_items_and_is_not_normal(
    sections, warning):
  backend = Fixed(Draft(items=(Item("Invented."),)))
  result = itemize(Record("a", sections), "ctrate_abnormal", backend)
  assert not result.items and not result.normal and not backend.asked
  assert warning in result.warnings


def test_a_long_report_is_read_to_its_end():
  text = "There is a nodule in the left lower lobe. " * 1189
  assert 49_900 < len(text) < 49_950
  result = itemize(Record("a", {"text": text + "Large pleural effusion."}),
                   "ctrate_abnormal")
  assert len(result.items) == 2
  assert _texts(result)[1] == "Large pleural effusion."
  assert len(result.items[0].sources) == 1189


def test_texts_that_the_recipe_does_not_read_are_left_alone():
  result = itemize(Record("a", {"findings": "A mass."}), "dedup")
  assert result.warnings == ("empty",)


def test_a_foreign_caption_is_left_out():
  german = ("Auf dem Bild ist ein Hund zu sehen, der mit einem roten Ball auf "
            "der Wiese spielt.")
  result = itemize(Record("a", {}, (
      "A dog plays with a red ball on the grass.", german,
      "A dog plays with a red ball.")), "dedup")
  assert {s.section for i in result.items for s in i.sources} == {
      "caption:0", "caption:2"}
  assert "language" not in result.warnings
  assert "language" in itemize(Record("a", {}, (german,)), "dedup").warnings


def test_duplicates_are_one_item_with_all_sources():
  a, b, c = (Source("caption:0", 0, 9), Source("caption:1", 0, 9),
             Source("caption:3", 2, 9))
  result = _made(Item("A mass.", (a,), 1, ("x",)), Item("a Mass", (b,), 1),
                 Item("A mass", (c,), 1, ("y",)), "A cyst.", recipe="dedup")
  assert result.items == (Item("A mass.", (a, b, c), 3, ("x", "y")),
                          Item("A cyst."))
  assert result.dropped == (Dropped("a Mass", "duplicate"),
                            Dropped("A mass", "duplicate"))


LONG = ("There is a rounded well defined slightly lobulated solid nodule close "
        "to the {} fissure near the hilum measuring {} in its greatest extent "
        "and {} enlarged")


@pytest.mark.parametrize("first, second, same", [
    (("left", "5 mm", "now"), ("left", "5 mm", "somewhat"), True),
    (("left", "5 mm", "now"), ("right", "5 mm", "now"), False),
    (("left", "5 mm", "now"), ("left", "6 mm", "now"), False),
    (("left", "5 mm", "now"), ("left", "5 mm", "not"), False)])
def test_near_duplicates_differ_in_nothing_that_tells(first, second, same):
  texts = LONG.format(*first), LONG.format(*second)
  assert len(_made(*texts, recipe="dedup").items) == (1 if same else 2)


def test_the_order_of_sides_tells():
  assert len(_made("Mass left and cyst right", "Cyst left and mass right",
                   recipe="dedup").items) == 2


def test_what_only_a_date_told_apart_is_one_item():
  recipe = dataclasses.replace(recipes.get("dedup"), checks=("identifiers",))
  result = itemize(Record("a", {}, ("x",)), recipe, Fixed(Draft((
      Item("A large nodule of the liver, 03/04/2021."),
      Item("A large nodule of the liver, 05/06/2022.")))))
  assert len(result.items) == 1 and "20" not in result.items[0].text


def test_more_items_than_a_record_may_have():
  result = _made(*(f"Finding number {n}." for n in range(23)))
  assert _texts(result) == [f"Finding number {n}." for n in range(20)]
  assert [d.reason for d in result.dropped] == ["cap"] * 3
  assert "capped:3" in result.warnings


def test_items_are_stripped_of_numbers_and_bullets():
  result = _made(
      " 1. A mass. ", "- 2) Two cysts", "• ", "1.5 cm cyst", "3 cm x")
  assert _texts(result) == ["A mass.", "Two cysts", "1.5 cm cyst", "3 cm x"]
  assert Dropped("• ", "empty") in result.dropped


@pytest.mark.parametrize("texts, dropped, warnings, want, normal", [
    ((), ("normal",), (), [CHEST], True),
    ((), ("normal", "history", "identifier"), (), [CHEST], True),
    ((), ("normal",), ("missing:1",), [], False),    # something was lost
    ((), ("history",), (), [], False),               # nothing was said
    ((), (), (), [], False),
    (("No significant abnormalities.",), (), (), [CHEST], True),
    (("No significant abnormalities", "A mass."), (), (), ["A mass."], False),
    (("A mass.",), ("normal",), (), ["A mass."], False)])
def test_the_canonical_item_stands_alone(
    texts, dropped, warnings, want, normal):
  result = _made(*texts, warnings=warnings,
                 dropped=tuple(Dropped("x", reason) for reason in dropped))
  assert _texts(result) == want and result.normal == normal
  assert ("nothing_left" in result.warnings) == (not want)


def test_recipes_without_a_canonical_item_are_never_normal():
  result = _made(dropped=(Dropped("x", "normal"),), recipe="dedup")
  assert not result.items and not result.normal


@pytest.mark.parametrize("recipe, backend, said", [
    ("ctrate", "rules", "no recipe 'ctrate'"),
    ("dedup", "chat", "no back-end 'chat' without settings")])
def test_a_wrong_name_is_told(recipe, backend, said):
  with pytest.raises(PrepareError, match=said):
    itemize(Record("a", {"text": "A mass."}), recipe, backend)


@pytest.mark.parametrize("made, unsupported, fallback, faults", [
    (99, 1, 0, 0), (98, 2, 0, 1), (10, 0, 1, 1), (1, 99, 1, 2), (0, 0, 0, 0)])
def test_limits(made, unsupported, fallback, faults):
  result = _made(
      *(f"Item {n}." for n in range(min(made, 20))),
      dropped=(Dropped("x", "unsupported"),) * unsupported
      + (Dropped("x", "support"),) * 50,
      warnings=("fallback:busy",) * fallback)
  counts = tally.count(result)
  counts["items"] = made
  numbers = tally.summary(counts)
  found = tally.faults(numbers, max_unsupported=0.01, max_parse_failures=0.005)
  assert len(found) == faults
  assert all("--max_" in sentence for sentence in found)


def test_missing_sentences_are_added_up():
  counts = tally.count(_made("A.", warnings=("missing:2",))) + tally.count(
      _made("A.", "B.", warnings=("missing:1", "markup")))
  numbers = tally.summary(counts)
  assert numbers["missing_share"] == 3 / 6
  assert numbers["warnings"] == {"missing": 2, "markup": 1}
  assert tally.table(counts, "items") == {"1": 1, "2": 1}
