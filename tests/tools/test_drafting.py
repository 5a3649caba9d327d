"""Parts of drafts: what is retrieved, asked, measured and shown."""

import io
import sys

import numpy as np
from PIL import Image
import pytest

from data_pipelines.errors import PrepareError
from data_pipelines.itemize.chat.options import Options
from data_pipelines.itemize.chat.prompts import Template
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures
from itemclip_jax.tools.drafting import ask, page, prompt, snippets
from itemclip_jax.tools.drafting import text_metrics
from tests.data_pipelines.itemize.chat_server import ChatServer, fails, says

WORDS = Template(name="t", version="1", system="Write.",
                 user="Found:\n{{snippets}}\nReport:", output_tokens=9,
                 digest="d")
ONE = prompt.Example("p1", ("Cyst.", "Mass\nof the lung."), "A cyst.")


def _options(server, **changes) -> Options:
  return Options(base_url=server.url, model="m", json_mode=False, **changes)


def _index(*reports, patients):
  return snippets.build(reports, np.array(patients),
                        np.zeros(len(reports), bool))


# What is retrieved.


def test_the_nearest_texts_of_other_patients_come_best_first():
  index = _index(("a", "b"), ("b", "c"), ("d",), patients=["p", "q", "r"])
  assert index.texts == ("a", "b", "c", "d")
  vectors = np.array([[1, 0], [.6, .8], [0, 1], [.8, .6]])
  which, cosine = snippets.neighbours(index, vectors, np.array([1., 0]), "p", 2)
  # "a" is best but p's own alone; "b" is p's and q's.
  assert which.tolist() == [3, 1] and cosine.tolist() == [.8, .6]
  assert snippets.neighbours(
      index, vectors, np.array([1., 0]), "x", 9)[0].tolist() == [0, 3, 1, 2]


def test_one_patient_cannot_retrieve_from_himself():
  index = _index(("a",), ("b",), patients=["p", "p"])
  assert not len(snippets.neighbours(
      index, np.eye(2), np.array([1., 0]), "p", 5)[0])


def test_one_text_stands_for_each_cluster():
  points = np.array([[0, 0], [.1, 0], [.2, 0], [9, 9], [9, 9.3], [9, 8.7]])
  # The middle one of each three is the nearest to their mean.
  assert snippets.representatives(points, 2).tolist() == [1, 3]
  assert snippets.representatives(points, 8).tolist() == [0, 1, 2, 3, 4, 5]


def test_equal_points_fill_up_with_the_best():
  points = np.array([[0., 1]] * 3 + [[1, 0]])
  assert snippets.representatives(points, 3).tolist() == [0, 1, 3]


def test_examples_are_abnormal_studies_of_different_patients():
  index = snippets.build(
      [("a",), ("b",), (), ("normal",), ("c",)], np.array(list("ppqrs")),
      np.array([False, False, False, True, False]))
  for seed in range(5):
    *first, last = snippets.example_rows(index, 3, seed)
    assert sorted(index.patient_id[first]) == ["p", "s"] and last == 3
  assert len(snippets.example_rows(index, 1, 0)) == 1


def test_an_index_without_items_is_refused(tiny_set, tmp_path, monkeypatch):
  monkeypatch.setattr(record.Source, "__getitem__", lambda *_: {"items": []})
  with pytest.raises(UserError, match="has no items"):
    snippets.read(tiny_set, "train")


# What is asked.


def test_a_prompt_is_examples_and_then_the_question():
  assert prompt.messages(WORDS, [ONE], ["Infarct."]) == [
      {"role": "system", "content": "Write."},
      {"role": "user",
       "content": "Found:\n1. Cyst.\n2. Mass of the lung.\nReport:"},
      {"role": "assistant", "content": "A cyst."},
      {"role": "user", "content": "Found:\n1. Infarct.\nReport:"}]


def test_the_instructions_may_stand_in_the_first_question():
  said = prompt.messages(WORDS, [], ["Infarct."], system_turn="first_user")
  assert said == [{"role": "user",
                   "content": "Write.\n\nFound:\n1. Infarct.\nReport:"}]


def test_a_finding_in_braces_is_not_filled_in():
  said = prompt.messages(WORDS, [], ["{{snippets}}"])
  assert said[1]["content"] == "Found:\n1. {{snippets}}\nReport:"


def test_the_real_words_take_a_list():
  words = prompt.template()
  said = prompt.messages(words, [], ["Infarct."])
  assert words.version and len(words.digest) == 64
  assert "1. Infarct." in said[1]["content"] and "{{" not in str(said)


def test_items_become_sentences():
  assert prompt.joined(["Cyst", " Mass. ", "", "Old?"]) == "Cyst. Mass. Old?"


# What is measured.


def test_texts_are_measured_as_by_hand():
  table = text_metrics.columns(
      ["There is a cyst.", "", None, "A cyst and an infarct."],
      ["There is a cyst.", "There is a cyst.", "Cyst.", "Infarct."])
  assert table["bleu2"][:2] == pytest.approx([1, 0])
  # 6 and 3 tokens: "infarct" and "." of 6, "infarct ." of 5 pairs.
  assert table["bleu2"][3] == pytest.approx((2 / 6 * 1 / 5)**.5)
  assert np.isnan(table["bleu2"][2]) and table["chrf"][0] == 1
  found = measures.results(
      text_metrics.measure("x", table), {"patient_id": np.arange(4)},
      num_resamples=10, seed=0)
  assert found["x/bleu2"].n == 3
  # Present in both: 1, 0 and 1; in the draft alone: 1; the report alone: 1.
  assert found["x/finding_precision"].value == pytest.approx(2 / 3)
  assert found["x/finding_recall"].value == pytest.approx(2 / 3)
  assert found["x/finding_f1"].value == pytest.approx(4 / 6)
  assert (found["x/finding_precision"].n, found["x/finding_f1"].n) == (3, 4)


def test_what_is_denied_is_no_finding():
  assert text_metrics.findings("No infarct.") == frozenset()
  assert text_metrics.findings("Infarct.") == {"infarct"}


def test_texts_without_any_finding_have_no_score():
  table = text_metrics.columns(["A red car."], ["A blue house."])
  found = measures.results(text_metrics.measure("x", table),
                           {"patient_id": np.arange(1)}, num_resamples=5,
                           seed=0)
  assert np.isnan(found["x/finding_f1"].value) and found["x/chrf"].value > 0


def test_the_library_is_asked_for_by_name(monkeypatch):
  monkeypatch.setitem(sys.modules, "sacrebleu", None)
  with pytest.raises(UserError, match="text-metrics"):
    text_metrics.require()


# How it is asked.


def test_a_question_without_an_answer_is_asked_again(tmp_path):
  questions = [prompt.messages(WORDS, [], [text]) for text in "abc"]
  answers = [says("A."), fails(413, "too long"), says("C.", finish="length")]
  with ChatServer(answers) as server:
    found = ask.Drafter(_options(server, concurrency=1), tmp_path).drafts(
        WORDS, questions)
  assert found == [("A.", ""), (None, "no answer: HTTP 413"), ("C.", "cut off")]
  with ChatServer(says("B.")) as server:
    found = ask.Drafter(_options(server), tmp_path).drafts(WORDS, questions)
  assert [d.text for d in found] == ["A.", "B.", "C."]
  assert [r.payload["messages"] for r in server.requests] == [questions[1]]


def test_the_ceiling_of_costs_ends_the_run(tmp_path):
  with ChatServer(says("Cyst.")) as server:
    drafter = ask.Drafter(
        _options(server, price_in=1e6, max_cost=1.0), tmp_path)
    with pytest.raises(PrepareError, match="max_cost"):
      drafter.drafts(WORDS, [prompt.messages(WORDS, [], ["Cyst."])])
  assert not server.requests


# What is shown.


def test_pages_show_the_first_and_the_last():
  assert page.chosen(3) == [0, 1, 2] and page.chosen(1) == [0]
  assert len(page.chosen(389)) == 12 and page.chosen(389)[-1] == 388


def test_a_photograph_is_shown_in_its_colours(tiny_set):
  contract = record.read_contract(tiny_set)
  volume = np.zeros((1, 3, 4, 8), np.uint8)
  volume[:, 0] = 255
  png = page.picture({"volume": volume, "names": [""],
                      "affine": np.eye(4)[None]}, contract)
  image = Image.open(io.BytesIO(png))
  assert image.size == (400, 200) and image.getpixel((9, 9)) == (255, 0, 0)
