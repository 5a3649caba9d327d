"""The dictionary: complete, short, and its attributes stand in its texts."""

import itertools
import re

import pytest

from itemclip_jax.data import knowledge

LAST = ("scarring", "infection", "fracture", "emphysema", "pneumothoraces",
        "abnormalities", "vascular congestion", "opacification",
        "consolidation", "opacity", "cardiomegaly", "edema", "pneumonia",
        "atelectasis", "effusion", "pneumothorax")
FIRST = ("ascites", "pulmonary embolism", "pleural fluid", "pseudoaneurysm")
_EMPTY = set("a an the of or and in on at by to with from its it is as but if "
             "that which may than some what when where until".split())

# A long label, in words: severity, place.
LONGEST = "moderate to severe right upper and middle lobe"


def _words(text: str) -> list[str]:
  return re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", text.lower())


def _content(text: str) -> set[str]:
  return set(_words(text)) - _EMPTY


def _pieces(text: str) -> int:
  """About CLIP's byte pairs: one for every six letters begun, one a sign.

  By CLIP's own vocabulary the longest of the labels below has 75.
  """
  return sum(-(-len(w) // 6) for w in re.findall(r"[A-Za-z]+", text)) + len(
      re.findall(r"[^A-Za-z\s]", text))


def test_it_has_the_61_categories_and_covid():
  assert len(knowledge.load()) == 62 and len(knowledge.trained()) == 61
  assert set(knowledge.load()) - set(knowledge.trained()) == {"covid-19"}
  assert knowledge.trained()[:4] == FIRST
  assert knowledge.evaluated() == LAST


def test_they_are_those_that_reports_are_read_for():
  from data_pipelines.itemize import lexicon
  names = [c.lower() for c in lexicon.load().categories]
  assert list(knowledge.load()) == names


@pytest.mark.parametrize("name", knowledge.load())
def test_an_entry_is_short_and_supports_its_attributes(name):
  entry = knowledge.load()[name]
  assert set(entry) == {"definition", "text", "attributes"}
  assert 20 <= len(entry["text"].split()) <= 40
  assert tuple(entry["attributes"]) == knowledge.ATTRIBUTES
  for attribute, value in entry["attributes"].items():
    assert value.strip(), attribute
    assert _content(value) and _content(value) <= _content(entry["text"])
  for text in (entry["text"], entry["definition"]):
    # A lower-case first letter must do no harm ("where x is a ...").
    assert text.endswith(".") and text[0].isupper() and not text[1].isupper()
    assert text.isascii()


@pytest.mark.parametrize("name", knowledge.load())
def test_label_and_text_stay_below_77_tokens(name):
  text = knowledge.load()[name]["text"]
  label = f"{LONGEST} {name}, where {name} is {text}"
  assert _pieces(label) + 2 <= 77       # begin and end


def test_no_two_texts_are_nearly_the_same():
  for (a, x), (b, y) in itertools.combinations(knowledge.load().items(), 2):
    x, y = _content(x["text"]), _content(y["text"])
    assert len(x & y) / len(x | y) < 0.35, (a, b)


def test_numbers_are_places_and_others_do_not_meet_them():
  places = [knowledge.number(n) for n in knowledge.load()]
  assert places == list(range(62))
  assert knowledge.number("COVID-19") == 61
  other = knowledge.number("rib notching")
  assert 62 <= other < 2**31 and other == knowledge.number("Rib notching")
  assert other != knowledge.number("azygos lobe")


def test_an_unknown_category_has_no_explanation():
  assert knowledge.explanation("rib notching") == ""
  assert knowledge.explanation("Edema") == knowledge.load()["edema"]["text"]
