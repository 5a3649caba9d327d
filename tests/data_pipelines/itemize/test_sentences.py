"""Sentences, where they stand, and the items of lists."""

import random

from data_pipelines.itemize import sentences
import pytest

from tests.data_pipelines.itemize import labelled


def _texts(text, **options):
  return [s.text for s in sentences.split(text, **options)]


@pytest.mark.parametrize("row", labelled.splits(), ids=lambda r: r["text"])
def test_labelled_texts_are_split(row):
  assert _texts(row["text"]) == row["sentences"]


def test_offsets_point_into_the_text():
  rng = random.Random(0)
  parts = [row["text"] for row in labelled.splits()] + [
      "\n", "\n\n", " ", "FINDINGS:", "2) ", "- ", "...", "Dr.", "1.5", ";"]
  for _ in range(200):
    text = "".join(rng.choice(parts) + rng.choice(["", " ", "\n"])
                   for _ in range(8)).strip()
    end = 0
    for sentence in sentences.split(text, "findings"):
      assert text[sentence.start:sentence.end] == sentence.text
      assert sentence.text == sentence.text.strip() != ""
      assert sentence.start >= end and sentence.section == "findings"
      end = sentence.end


def test_every_word_is_in_a_sentence():
  text = "No mass. See fig. 2; nothing else\nHeart is large... and so on"
  assert " ".join(_texts(text)).split() == text.split()


def test_semicolons_end_a_sentence_only_if_wanted():
  text = "Mild oedema; no bleed. Normal."
  assert _texts(text) == ["Mild oedema; no bleed.", "Normal."]
  assert _texts(text, semicolons=True) == ["Mild oedema;", "no bleed.",
                                           "Normal."]


def test_headings_tell_what_sentences_are_about():
  text = ("HISTORY: Cough. Lung cancer.\nTECHNIQUE: CT.\nFINDINGS: Nodule.\n"
          "COMPARISON: None.\nLUNGS: Clear.\nRecommendation:\nFollow-up.")
  found = [(s.text, s.heading) for s in sentences.split(text)]
  assert found == [
      ("Cough.", "history"), ("Lung cancer.", "history"),
      ("CT.", "technique"), ("Nodule.", ""), ("None.", "comparison"),
      ("LUNGS: Clear.", ""), ("Follow-up.", "recommendation")]


def test_words_that_only_begin_like_a_heading_stay():
  assert _texts("History of cancer. Findings are stable.") == [
      "History of cancer.", "Findings are stable."]


def test_nothing_makes_no_sentence():
  assert sentences.split("") == sentences.split(" \n - \n...") == []


@pytest.mark.parametrize("text, items", [
    ("1. nodule\n2. effusion", ["nodule", "effusion"]),
    ("1.nodule, 1.5 cm\n2.effusion", ["nodule, 1.5 cm", "effusion"]),
    ("1) nodule\n(2) effusion", ["nodule", "effusion"]),
    ("- nodule\n* effusion\n\u2022 mass", ["nodule", "effusion", "mass"]),
    ("Findings:\n1. nodule in the\nleft lung\n\n2. mass",
     ["nodule in the left lung", "mass"]),
    ("1. Nodule. 2. Effusion.", ["Nodule.", "Effusion."]),
    ("1.5 cm nodule\n2.5 cm cyst", ["1.5 cm nodule", "2.5 cm cyst"]),
    ("nodule\n\neffusion", ["nodule", "effusion"]),
    ("", []),
])
def test_lists_become_items(text, items):
  assert sentences.numbered(text) == items


def test_the_simple_rule_is_that_of_the_public_code():
  text = "1. nodule\n2.effusion\n3) mass\nno. 4. is here\n5. a"
  assert sentences.numbered(text, simple=True) == ["nodule", "4. is here"]
