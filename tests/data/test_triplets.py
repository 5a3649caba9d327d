"""Triplets -> label texts: templates, masking, slots, tables of vectors."""

import dataclasses

import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.data import knowledge, triplets
from itemclip_jax.errors import UserError

NODULE = knowledge.explanation("nodule")
TEXT = schema.Text(form="triplets", max_items=3, padding="none")
PLAIN = schema.Medfilip(knowledge="none", mask_severity=0, mask_location=0)


def study(*found, **more) -> dict:
  severity, location, category = zip(*found) if found else ((), (), ())
  return {"severity": list(severity), "location": list(location),
          "category": list(category)} | more


def texts(x: dict, rng=None, **settings) -> list[str]:
  s = dataclasses.replace(PLAIN, **settings)
  slots = triplets.MakeSlots(s)(x, TEXT, rng)
  return [t for t, real in zip(slots.texts, slots.mask) if real]


@pytest.mark.parametrize("template, wanted", [
    ("none", "small right upper lobe nodule"),
    ("code", f"small right upper lobe nodule. {NODULE}"),
    ("paper", "small right upper lobe nodule, where nodule is "
              f"{NODULE[0].lower()}{NODULE[1:]}")])
def test_templates(template, wanted):
  x = study(("small", "right upper lobe", "nodule"))
  assert texts(x, knowledge=template) == [wanted]


def test_what_is_not_told_is_left_out_or_called_mask():
  x = study(("", "", "nodule"), ("", "left base", "rib notching"))
  assert texts(x) == ["nodule", "left base rib notching"]
  assert texts(x, missing="mask") == [
      "mask mask nodule", "mask left base rib notching"]
  assert texts(x, missing="mask", label="category") == [
      "nodule", "rib notching"]


@pytest.mark.parametrize("template", ["code", "paper"])
def test_a_category_without_an_entry_has_no_suffix(template):
  assert texts(study(("mild", "", "rib notching")), knowledge=template) == [
      "mild rib notching"]


def test_the_words_of_another_case_are_found():
  assert texts(study(("", "", "COVID-19")), knowledge="code")[0].startswith(
      "COVID-19. A viral pneumonia")


def test_equal_labels_are_one_and_no_category_is_none():
  x = study(("small", "", "nodule"), ("", "", ""), ("small", "left", ""),
            ("small", "", "nodule"), ("large", "", "nodule"))
  slots = triplets.MakeSlots(PLAIN)(x, TEXT, None)
  assert slots.texts == ["small nodule", "large nodule", "none"]
  np.testing.assert_array_equal(slots.mask, [1, 1, 0])
  np.testing.assert_array_equal(slots.source, [0, 4, -1])
  nodule = knowledge.number("nodule")
  np.testing.assert_array_equal(slots.extra["item_category"],
                                [nodule, nodule, -1])
  label = slots.extra["item_label"]
  assert label.dtype == np.int32 and label[0] != label[1] and label[2] == -1
  assert min(label[:2]) >= 0
  assert texts(x, label="category") == ["nodule"]


def test_what_is_denied_is_kept_or_left_out_and_never_bare():
  x = study(("no", "", "effusion"), ("mild", "", "edema"))
  assert texts(x) == ["no effusion", "mild edema"]
  assert texts(x, denied="left_out") == ["mild edema"]
  assert texts(x, label="category") == ["edema"]


def test_a_report_without_triplets_has_padding_only():
  for x in (study(), study(("", "", "")), study(("mild", "left", ""))):
    for rng in (None, np.random.default_rng(0)):
      slots = triplets.MakeSlots(PLAIN, _Vectors())(x, TEXT, rng)
      assert slots.texts == ["none"] * 3 and not slots.mask.any()
      np.testing.assert_array_equal(slots.source, [-1] * 3)
      np.testing.assert_array_equal(slots.extra["item_vector"], 0)
      assert slots.extra["item_vector"].shape == (3, 2)


def test_a_set_without_triplets_is_told():
  with pytest.raises(UserError, match="text.form='triplets' needs severity"):
    triplets.MakeSlots(PLAIN)({"items": ["a"]}, TEXT, None)


@pytest.mark.parametrize("severity, location, category", [
    (0.5, 0.5, 0.0), (0.2, 0.0, 0.7), (1.0, 1.0, 1.0)])
def test_fields_are_masked_at_their_rates(severity, location, category):
  s = dataclasses.replace(PLAIN, mask_severity=severity,
                          mask_location=location, mask_category=category)
  label = triplets.Label("mild", "left", "edema", 0)
  rng, n = np.random.default_rng(0), 4000
  drawn = [triplets.masked(label, s, rng) for _ in range(n)]
  rates = np.mean([[f == "mask" for f in d[:3]] for d in drawn], axis=0)
  # Four standard deviations of a share of 4000.
  np.testing.assert_allclose(rates, [severity, location, category], atol=0.032)
  pairs = [(d.severity == "mask") and (d.location == "mask") for d in drawn]
  np.testing.assert_allclose(np.mean(pairs), severity * location, atol=0.032)


def test_a_denial_is_never_masked_and_nothing_is_masked_that_is_not_there():
  s = dataclasses.replace(PLAIN, mask_severity=1, mask_location=1)
  rng = np.random.default_rng(0)
  assert triplets.masked(triplets.Label("no", "left", "edema", 0), s, rng)[
      :3] == ("no", "mask", "edema")
  assert triplets.masked(triplets.Label("", "", "edema", 0), s, rng)[
      :3] == ("", "", "edema")


def test_masking_hides_words_but_neither_knowledge_nor_what_labels_share():
  x = study(("mild", "left", "edema"))
  s = dataclasses.replace(PLAIN, mask_severity=1, mask_location=1,
                          mask_category=1, knowledge="code")
  rng = np.random.default_rng(0)
  asked = []
  hidden = triplets.MakeSlots(s, _Vectors(asked))(x, TEXT, rng)
  plain = triplets.MakeSlots(s, _Vectors(asked))(x, TEXT, None)
  suffix = knowledge.explanation("edema")
  assert hidden.texts[0] == f"mask mask mask. {suffix}"
  assert plain.texts[0] == f"mild left edema. {suffix}" == asked[0] == asked[1]
  for name, value in plain.extra.items():
    np.testing.assert_array_equal(hidden.extra[name], value)


def test_training_shuffles_and_cuts_evaluation_keeps_the_order():
  x = study(*(("", "", c) for c in "abcde"))
  assert texts(x) == ["a", "b", "c"]
  seen = {tuple(texts(x, np.random.default_rng(i))) for i in range(200)}
  assert len(seen) == 60                      # of 5, in order
  slots = triplets.MakeSlots(PLAIN)(x, TEXT, np.random.default_rng(3))
  assert slots.texts == ["abcde"[i] for i in slots.source]
  again = triplets.MakeSlots(PLAIN)(x, TEXT, np.random.default_rng(3))
  assert slots.texts == again.texts


def test_texts_of_a_built_set(tmp_path):
  from data_pipelines import datasets, prepare
  prepare.build(datasets.make("phantom_radiograph", num_train=6, num_valid=4,
                              num_test=2, side=32), tmp_path, num_workers=1)
  both = triplets.read_texts(tmp_path, ("train", "valid"), schema.Medfilip())
  assert both == sorted(set(both)) and any("no " == t[:3] for t in both)
  train = triplets.read_texts(tmp_path, ("train",), schema.Medfilip())
  assert set(train) < set(both)
  # All that training can ask the table for is in it.
  from itemclip_jax.data import record
  table = set(train)
  for study_ in record.open_split(tmp_path, "train").source:
    for label in triplets.read(study_, schema.Medfilip()):
      assert triplets.text(label, schema.Medfilip()) in table


class _Vectors:
  """Unit vectors in the plane; notes what it is asked."""
  width = 2

  def __init__(self, asked=None):
    self._asked = [] if asked is None else asked

  def __call__(self, text):
    self._asked.append(text)
    return np.array([np.cos(len(text)), np.sin(len(text))], np.float32)
