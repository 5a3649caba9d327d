"""Normal organs in many words: all of them true, and nothing else changes."""

import itertools
import json
import pathlib
import re

import numpy as np
import pytest

from data_pipelines import datasets
from data_pipelines import errors
from data_pipelines import prepare
from data_pipelines.itemize import contract
from data_pipelines.itemize import statements
from data_pipelines.phantom import chest_normal
from data_pipelines.phantom import chest_organs
from itemclip_jax.data import record

ORGANS = chest_organs.GROUPING.names
SIZES = {"num_train": 4, "num_valid": 1, "num_test": 1}
# Stems of what a normal organ has not.
ABNORMAL = (
    "consolid opaci nodul effusion emphysem mass thicken calcif fluid dilat "
    "enlarg megaly hernia widen disten aneurysm plaque displac stenosis lesion "
    "secretion narrow fracture compress destruct lytic sclero steato cyst "
    "ulcer polyp").split() + ["free gas"]


def _said(organ: str) -> list[str]:
  return [" ".join(pair) for pair in itertools.product(
      chest_normal.OPENINGS[organ], chest_normal.DETAILS[organ])]


def _described(**changes):
  given = {"items": ["Cardiomegaly.", "No pneumothorax."],
           "findings": [{"finding": "cardiomegaly", "item": 0}],
           "normal_texts": "varied", "key": (0, 1, 2)} | changes
  return chest_organs.describe(given.pop("items"), given.pop("findings"),
                               **given)


@pytest.mark.parametrize("organ", ORGANS)
def test_every_organ_is_told_of_in_dozens_of_texts(organ):
  texts = _said(organ)
  assert len(set(texts)) == len(texts) >= 36
  drawn = {chest_normal.describe((0, 1, n), organ) for n in range(300)}
  assert drawn <= set(texts) and len(drawn) >= 30


@pytest.mark.parametrize("organ", ORGANS)
def test_a_word_for_a_finding_is_always_denied(organ):
  for text in (*chest_normal.OPENINGS[organ], *chest_normal.DETAILS[organ]):
    denied = re.match(r"(no|there is no) ", text.lower()) or " not " in text
    assert denied or not any(s in text.lower() for s in ABNORMAL), text
    assert text[0].isupper() and text.endswith("."), text


def test_the_rules_that_read_reports_find_nothing_abnormal():
  for organ in ORGANS:
    for text in (*chest_normal.OPENINGS[organ], *chest_normal.DETAILS[organ]):
      said = statements.read(contract.Record("a", {"findings": text}))
      assert said and not any(s.abnormal for s in said), text
      assert any(s.normal for s in said), text


def test_a_stomach_with_a_hernia_is_not_said_to_be_in_place():
  # Its mask is then normal, and part of it lies in the chest.
  for text in _said("stomach"):
    assert not re.search("herni|position|below|location|normal stomach",
                         text.lower()), text


def test_organs_with_findings_keep_their_items():
  default, varied = _described(normal_texts="default"), _described()
  assert default["heart"] == varied["heart"]
  assert default["heart"].text == "Cardiomegaly."
  assert list(default) == list(varied) == list(ORGANS)
  assert {o: t.normal for o, t in default.items()} == {
      o: t.normal for o, t in varied.items()}
  assert all(varied[o].text in _said(o) for o in ORGANS if o != "heart")


def test_the_words_depend_on_subject_and_organ_only():
  alone = {o: t for o, t in _described().items() if o != "heart"}
  healthy = _described(items=["no significant abnormalities"], findings=[])
  assert {o: healthy[o] for o in alone} == alone
  for other in ((1, 1, 2), (0, 3, 2), (0, 1, 3)):
    assert _described(key=other) != _described()
  # Organs draw for themselves: their choices do not go together.
  first = [tuple(chest_normal.OPENINGS[o].index(t) for o in ORGANS[:2]
                 for t in chest_normal.OPENINGS[o]
                 if chest_normal.describe((0, 1, n), o).startswith(t))
           for n in range(300)]
  assert len(set(first)) == 36


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> dict[str, pathlib.Path]:
  """A set of each kind, of one raw archive."""
  out = {kind: tmp_path_factory.mktemp(kind)
         for kind in chest_organs.NORMAL_TEXTS}
  raw = str(out["default"] / "raw")
  prepare.build(datasets.make("phantom_chest", **SIZES), out["default"],
                num_workers=1)
  prepare.build(datasets.make("phantom_chest", **SIZES, source=raw,
                              normal_texts="varied"), out["varied"],
                num_workers=1)
  return out


def test_records_differ_in_the_texts_of_normal_organs_alone(both):
  changed = 0
  for split in ("train", "valid", "test"):
    sources = [record.open_split(out, split).source for out in both.values()]
    for default, varied in zip(*sources, strict=True):
      texts = [study.pop("organ_texts") for study in (default, varied)]
      np.testing.assert_equal(default, varied)
      for before, after, normal in zip(*texts, default["organ_normal"],
                                       strict=True):
        assert (before == after) == (not normal)
        changed += bool(normal)
  assert changed > 40


def test_the_recipe_of_sets_without_the_choice_stays_what_it_was(both):
  recipes = {kind: json.loads((out / "contract.json").read_text())["recipe"]
             for kind, out in both.items()}
  assert "normal_texts" not in recipes["default"]
  assert recipes["varied"].pop("normal_texts") == "varied"
  for recipe in recipes.values():
    recipe.pop("source")
  assert recipes["default"] == recipes["varied"]
  with pytest.raises(errors.PrepareError, match="name another --out"):
    prepare.build(datasets.make("phantom_chest", **SIZES), both["varied"],
                  num_workers=1)


def test_a_choice_that_there_is_not_is_refused():
  with pytest.raises(errors.PrepareError, match="none of default, varied"):
    datasets.make("phantom_chest", normal_texts="many")
