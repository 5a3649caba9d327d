"""Lines in and out: what is read, what is refused, what stays unsaid."""

import json

import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import contract
from data_pipelines.itemize.contract import Dropped, Item, Record, Result
from data_pipelines.itemize.contract import Source, Triplet

SECRET = "Xanthous lesion of the spleen"   # never in an error

RESULT = Result(
    id="a", recipe="triplet", recipe_version="1", backend="chat:m",
    raw_hash="0f", items=(Item("One.", (Source("findings", 0, 4),), 2, ("f",)),
                          Item("Two.")),
    anatomies={"lung": {"text": "lung: clear.", "normal": True}},
    triplets=(Triplet("mild", None, "edema", True, Source("text", 3, 9)),
              Triplet(None, "left lung", "nodule")),
    dropped=(Dropped("No mass.", "normal"),), warnings=("missing:1",),
    tokens=(7, 3))


def test_a_result_comes_back_from_its_line():
  line = RESULT.line()
  assert "\n" not in line
  assert Result.from_json(json.loads(line), "line 1") == RESULT


def test_a_line_has_the_documented_keys():
  value = RESULT.to_json()
  assert list(value) == [
      "id", "recipe", "recipe_version", "backend", "items", "normal",
      "anatomies", "triplets", "dropped", "warnings", "raw_hash", "tokens"]
  assert json.loads(RESULT.line())["items"][0] == {
      "text": "One.", "support": 2, "flags": ["f"],
      "sources": [{"section": "findings", "start": 0, "end": 4}]}
  assert value["tokens"] == {"in": 7, "out": 3}
  bare = Result("a", "dedup", "1", "rules", "0f").to_json()
  assert "anatomies" not in bare and "triplets" not in bare


def test_a_record_takes_sections_in_one_order_and_nulls_for_none():
  record = Record.from_json(
      {"id": "a",
       "sections": {"impression": "b", "findings": "a", "text": None},
       "captions": None, "meta": None, "own": 1}, "line 1")
  assert list(record.sections) == ["findings", "impression"]
  assert record.texts() == {"findings": "a", "impression": "b"}
  captions = Record.from_json({"id": "a", "captions": ["x", "y"]}, "line 1")
  assert captions.texts() == {"caption:0": "x", "caption:1": "y"}


def test_the_hash_is_of_id_and_texts_and_of_nothing_else():
  make = lambda **v: Record.from_json({"id": "a"} | v, "line 1").raw_hash()
  plain = make(sections={"text": "x"})
  assert plain == make(sections={"text": "x"}, meta={"n": 1}, captions=[])
  assert plain != make(sections={"findings": "x"})
  assert plain != make(sections={"text": "x"}, captions=["x"])
  assert plain != make(sections={"text": "x"}, id="b")
  assert len(plain) == 64


@pytest.mark.parametrize("value, said", [
    ([SECRET], "is a list"),
    ({"sections": {"text": SECRET}}, "has no id"),
    ({"id": 7, "sections": {"text": SECRET}}, "has no id"),
    ({"id": " ", "sections": {"text": SECRET}}, "has no id"),
    ({"id": "r9", "report": SECRET}, "'r9'.*neither sections nor captions"),
    ({"id": "r9", "sections": SECRET}, "'r9'.*sections is a text"),
    ({"id": "r9", "sections": {"text": [SECRET]}}, "'r9'.*section text is a l"),
    ({"id": "r9", "sections": {"history": SECRET}}, "'r9'.*'history'"),
    ({"id": "r9", "captions": SECRET}, "'r9'.*captions is no list"),
    ({"id": "r9", "captions": [SECRET, 1]}, "'r9'.*captions is no list"),
    ({"id": "r9", "captions": [], "meta": [SECRET]}, "'r9'.*meta is a list")])
def test_what_is_no_record_is_refused_by_name_and_without_its_text(value, said):
  with pytest.raises(PrepareError, match=said) as caught:
    Record.from_json(value, "line 3 of x.jsonl")
  assert "ine 3 of x.jsonl" in str(caught.value)
  assert SECRET not in str(caught.value)


def test_halves_of_surrogates_do_not_reach_a_file():
  record = Record.from_json(
      json.loads(r'{"id": "a", "captions": ["x\ud800y", "\ud83d\ude00"]}'), "l")
  assert record.captions == ("x�y", "😀")


@pytest.mark.parametrize("value", [None, [], {"id": "a"}, {"items": 1}])
def test_what_is_no_result_is_refused(value):
  with pytest.raises(PrepareError, match="Line 2 of y is not what"):
    Result.from_json(value, "line 2 of y")


def test_every_reason_and_warning_is_a_word_with_a_meaning():
  for table in (contract.REASONS, contract.WARNINGS):
    for name, meaning in table.items():
      assert name.replace("_", "").isalpha() and len(meaning) > 10
