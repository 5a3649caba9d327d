"""phantom_brain with items of free text: same images, same truth."""

import json

from data_pipelines import datasets
from data_pipelines import prepare
from data_pipelines.errors import PrepareError
from data_pipelines.itemize.contract import Record
from data_pipelines.phantom import report
from itemclip_jax.data import record
import numpy as np
import pytest

SIZES = {"num_train": 10, "num_valid": 0, "num_test": 0}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """The same subjects with the generator's items and with those of rules."""
  out = tmp_path_factory.mktemp("pair")
  for name in ("items", "free_text"):
    dataset = datasets.make("phantom_brain", source=str(out / "raw"),
                            report=name, **SIZES)
    prepare.build(dataset, out / name, num_workers=1)
  return out


def _studies(pair, name):
  split = record.open_split(pair / name, "train")
  return [split.source[i] for i in range(len(split.source))]


def test_images_and_labels_are_the_same(pair):
  for a, b in zip(_studies(pair, "items"), _studies(pair, "free_text"),
                  strict=True):
    assert (a["study_id"], a["normal"]) == (b["study_id"], b["normal"])
    np.testing.assert_array_equal(a["volume"], b["volume"])
    np.testing.assert_array_equal(a["labels"], b["labels"])


def test_masks_lie_where_they_lay_under_the_number_of_their_item(pair):
  checked = 0
  for a, b in zip(_studies(pair, "items"), _studies(pair, "free_text")):
    for k, finding in enumerate(a["item_finding"]):
      same = np.flatnonzero(b["item_finding"] == finding)
      if finding < 0 or not len(same):
        continue
      np.testing.assert_array_equal(a["lesion_mask"] == k + 1,
                                    b["lesion_mask"] == same[0] + 1)
      np.testing.assert_array_equal(a["item_visible"][k],
                                    b["item_visible"][same[0]])
      checked += 1
  assert checked >= 8


def test_items_are_findings_alone(pair):
  said = [item for study in _studies(pair, "free_text")
          for item in study["items"]]
  assert len(said) >= 10
  assert not {text.lower() for text in report.HARMLESS} & {
      text.lower() for text in said}


def test_the_free_text_can_be_itemised_by_anybody(pair):
  lines = (pair / "raw/train.reports.jsonl").read_text().splitlines()
  records = [Record.from_json(json.loads(line), "it") for line in lines]
  assert {r.id for r in records} == {
      s["study_id"] for s in _studies(pair, "items")}


def test_the_default_recipe_knows_nothing_of_the_choice():
  plain = datasets.make("phantom_brain").contract()
  other = datasets.make("phantom_brain", report="free_text").contract()
  assert "report" not in plain.recipe
  assert other.recipe == plain.recipe | {"report": "free_text"}


def test_another_choice_is_refused():
  with pytest.raises(PrepareError, match="--report=poem is none of items, "):
    datasets.make("phantom_brain", report="poem")
