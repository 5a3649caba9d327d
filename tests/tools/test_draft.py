"""Drafts of a split: every study's line, the numbers, the page, resuming."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.itemize.chat.options import Options
from itemclip_jax.data import record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import predictions
from itemclip_jax.tools import draft as tool
from itemclip_jax.tools import runs
from itemclip_jax.tools.drafting import prompt, snippets, subject
from tests import tiny
from tests.data_pipelines.itemize.chat_server import ChatServer, says

NEAREST = subject.Plan(choose="nearest")


@pytest.fixture(name="model", scope="module")
def _model(tiny_set, tmp_path_factory):
  return tiny.released(tiny.config(tiny_set), tmp_path_factory.mktemp("model"))


@pytest.fixture(name="asked", scope="module")
def _asked(model, tiny_set, tmp_path_factory):
  """Results, folder and requests of a run with a language model."""
  out = tmp_path_factory.mktemp("draft") / "out"
  with ChatServer(says("There is a cyst.")) as server:
    results = tool.draft(model, tiny_set, out, NEAREST,
                         options=_options(server), num_resamples=20)
  return results, out, server.requests


def _options(server, **changes) -> Options:
  return Options(base_url=server.url, model="m", json_mode=False, **changes)


def _lines(out):
  return [json.loads(line)
          for line in (out / "drafts.jsonl").read_text().splitlines()]


def test_every_study_has_a_draft_that_is_marked(asked, tiny_set):
  results, out, requests = asked
  lines, index = _lines(out), record.open_split(tiny_set, "test").index
  assert [n["study_id"] for n in lines] == [*index["study_id"].astype(str)]
  assert len(requests) == len({str(n["messages"]) for n in lines})
  for line in lines:
    assert line["draft"] == "There is a cyst."
    assert "no report" in line["note"] and len(line["snippets"]) == 5
    cosines = [s["cosine"] for s in line["snippets"]]
    assert cosines == sorted(cosines, reverse=True)
    assert len(line["messages"]) == 6      # system, two examples, question
  assert {"draft/bleu2", "joined_snippets/finding_f1"} <= results.keys()
  assert results["draft/bleu2"]["n"] == 10
  assert results["draft/bleu2"]["ci95"][0] <= results["draft/bleu2"]["value"]


def test_a_prompt_has_what_its_line_says(asked):
  for line in _lines(asked[1]):
    last = line["messages"][-1]["content"]
    for number, snippet in enumerate(line["snippets"], 1):
      assert f"{number}. {snippet['text']}" in last


def test_the_snippets_are_those_of_the_models_vectors(asked, model, tiny_set,
                                                      tmp_path):
  from itemclip_jax.tools import embed
  texts = tuple(snippets.read(tiny_set, "train").texts)
  found = embed.embed(model, tiny_set, tmp_path / "x.npz", split="test",
                      texts=texts)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  cosine = unit(found["image"]) @ unit(found["text"]).T
  for line, row in zip(_lines(asked[1]), cosine):
    got = [s["cosine"] for s in line["snippets"]]
    np.testing.assert_allclose(got, np.sort(row)[::-1][:5], atol=1e-5)


def test_a_second_run_asks_nothing_and_says_the_same(asked, model, tiny_set,
                                                     tmp_path):
  out = tmp_path / "again"
  shutil.copytree(asked[1], out)
  with ChatServer(says("Another draft.")) as server:
    tool.draft(model, tiny_set, out, NEAREST, options=_options(server),
               num_resamples=20)
  assert not server.requests and _lines(out) == _lines(asked[1])
  assert (out / "results.json").read_text() == (
      asked[1] / "results.json").read_text()


def test_reports_do_not_leave_the_house(model, tiny_set, tmp_path):
  with pytest.raises(UserError, match="allow_host"):
    tool.draft(model, tiny_set, tmp_path, options=Options(
        base_url="https://example.com/v1", model="m"))
  assert not list(tmp_path.glob("features"))


@pytest.fixture(name="alone", scope="module")
def _alone(model, tiny_set, tmp_path_factory):
  """Folder of a run without a language model, of clusters, within a split."""
  out = tmp_path_factory.mktemp("alone") / "out"
  plan = subject.Plan(index_split="test", choose="clusters", snippets=3,
                      neighbours=6)
  tool.draft(model, tiny_set, out, plan, num_resamples=5)
  return out


def test_without_a_language_model_the_findings_stand_for_a_draft(alone):
  results = json.loads((alone / "results.json").read_text())
  names = results.keys() - {"about"}
  assert names and all(n.startswith("joined_snippets/") for n in names)
  for line in _lines(alone):
    assert line["draft"] is None
    assert line["joined_snippets"] == prompt.joined(
        [s["text"] for s in line["snippets"]])
  assert not (alone / "answers.sqlite").exists()


def test_within_a_split_no_study_finds_its_own_words(alone, tiny_set):
  index = snippets.read(tiny_set, "test")
  for line, report in zip(_lines(alone), index.reports):
    for shown in line["snippets"]:
      mine = shown["text"] in report
      assert not mine or index.only_patient[
          index.texts.index(shown["text"])] is None
    own = prompt.joined(report)
    assert own not in [m["content"] for m in line["messages"]
                       if m["role"] == "assistant"] or own in [
                           prompt.joined(r) for r, p in zip(
                               index.reports, index.patient_id)
                           if p != line["patient_id"]]


def test_the_results_are_read_as_those_of_other_tools(asked):
  run = runs.load(str(asked[1]), "A")
  assert run.numbers["draft/bleu2"]["n"] == 10
  assert run.data["dataset"] == "phantom_brain"
  table = predictions.read(asked[1] / "predictions" / "draft.csv")
  assert np.mean(table["draft_bleu2"]) == run.numbers["draft/bleu2"]["value"]


def test_the_page_needs_no_other_file(asked):
  text = (asked[1] / "index.html").read_text()
  assert text.count("data:image/png;base64,") == 10
  assert "not a report" in text and "There is a cyst." in text
  assert "<script" not in text and "src=\"http" not in text


def test_all_texts_of_one_patient_are_an_error(asked, model, tiny_set, tmp_path,
                                               monkeypatch):
  shutil.copytree(asked[1] / "features", tmp_path / "features")
  whole = snippets.read(tiny_set, "train")
  patient = str(record.open_split(tiny_set, "test").index["patient_id"][4])
  index = snippets.build(whole.reports, np.full(len(whole.reports), patient),
                         whole.normal)
  monkeypatch.setattr(snippets, "read", lambda *_: index)
  with pytest.raises(UserError, match="no text of another patient"):
    tool.draft(model, tiny_set, tmp_path)


def test_what_cannot_be_is_told(model, tiny_set, tmp_path):
  with pytest.raises(UserError, match="at least one snippet"):
    subject.Plan(snippets=0)
  with pytest.raises(UserError, match="as many neighbours"):
    subject.Plan(snippets=9, neighbours=5)
  assert subject.Plan(snippets=9, neighbours=5, choose="nearest")
  with pytest.raises(UserError, match="none of nearest, clusters"):
    subject.Plan(choose="best")
  with pytest.raises(UserError, match="no split 'tarin'"):
    tool.draft(model, tiny_set, tmp_path, subject.Plan(index_split="tarin"))
  other = dataclasses.replace(record.read_contract(tiny_set), modality="CT")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(record, "read_contract", lambda _: other)
    with pytest.raises(UserError, match="modality"):
      tool.draft(model, tiny_set, tmp_path)


URL = {"base_url": "http://localhost:1/v1"}


@pytest.mark.parametrize("given, backend, told", [
    ({"chat_model": "m"}, "none", "--backend=chat"),
    (URL, "chat", "--chat_model is missing"),
    (URL | {"chat_model": "m", "timeout": 0.0}, "chat", "timeout is 0"),
])
def test_flags_that_do_not_fit_are_told(given, backend, told):
  with pytest.raises(UserError, match=told):
    tool.chat_options(given, backend)


def test_flags_of_the_server_become_its_options():
  options = tool.chat_options(
      URL | {"chat_model": "m", "allow_host": ["a.org"]}, "chat")
  assert options.model == "m" and options.allow_hosts == ("a.org",)
  assert options.max_output_tokens == 200 and not options.json_mode
  assert tool.chat_options({}, "none") is None


def test_the_command_tells_what_is_wrong(tiny_set, tmp_path):
  done = subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.draft", "--model=x",
       f"--data={tiny_set}", f"--out={tmp_path}", "--index_split=tarin"],
      capture_output=True, text=True, check=False)
  assert done.returncode == 2 and "no split 'tarin'" in done.stderr
