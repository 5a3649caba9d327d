"""Reports as one text, as a sentence, or both."""

import collections

import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.data import reports

TEXT = schema.Text(prefix="Seen: ", join=" ", max_items=1)
STUDY = {"items": ["a", "b", "c"]}
WHOLE = "Seen: a b c"
FORMS = {"report": reports.report, "sentence": reports.sentence,
         "report_and_sentence": reports.report_and_sentence}


def drawn(form, study=None, num=300):
  """How often each list of texts came, and the last slots."""
  rng = np.random.default_rng(0)
  slots = [FORMS[form](study or STUDY, TEXT, rng) for _ in range(num)]
  return collections.Counter(tuple(s.texts) for s in slots), slots


@pytest.mark.parametrize("form, texts", [
    ("report", [WHOLE]), ("sentence", [WHOLE]),
    ("report_and_sentence", [WHOLE, WHOLE])])
def test_evaluation_says_the_whole_report_in_its_order(form, texts):
  slots = FORMS[form](STUDY, TEXT, None)
  assert slots.texts == texts and slots.mask.all()
  assert slots.source.tolist() == [-1] * len(texts)


def test_training_joins_in_every_order():
  counts, slots = drawn("report")
  assert len(counts) == 6 and min(counts.values()) > 20
  assert all(sorted(text.removeprefix("Seen: ").split()) == ["a", "b", "c"]
             for (text,) in counts)
  assert all(s.source.tolist() == [-1] for s in slots)


def test_training_draws_each_sentence_alike_and_says_which():
  counts, slots = drawn("sentence")
  assert set(counts) == {("Seen: a",), ("Seen: b",), ("Seen: c",)}
  assert min(counts.values()) > 60
  for s in slots:
    assert s.texts == ["Seen: " + STUDY["items"][s.source[0]]]


def test_both_are_drawn_apart():
  counts, slots = drawn("report_and_sentence", num=600)
  assert len(counts) == 6 * 3
  assert all(s.source[0] == -1 and s.source[1] >= 0 for s in slots)
  assert slots[0].source.dtype == np.int32


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_study_without_items_is_padding(form, training):
  rng = np.random.default_rng(0) if training else None
  slots = FORMS[form]({"items": []}, TEXT, rng)
  assert set(slots.texts) == {TEXT.padding} and not slots.mask.any()
  assert (slots.source == -1).all()
  assert len(slots.texts) == len(slots.mask) == len(slots.source)


@pytest.mark.parametrize("form", FORMS)
def test_one_item_is_the_report_and_its_only_sentence(form):
  for rng in (None, np.random.default_rng(0)):
    slots = FORMS[form]({"items": ["a"]}, TEXT, rng)
    assert set(slots.texts) == {"Seen: a"} and (slots.source == 0).all()


def test_a_seed_gives_the_same_texts_again():
  rngs = [np.random.default_rng(7) for _ in range(2)]
  first, second = (
      [reports.report_and_sentence(STUDY, TEXT, rng).texts for _ in range(5)]
      for rng in rngs)
  assert first == second
