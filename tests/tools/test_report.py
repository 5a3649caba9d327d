"""The report page holds every number, names what is missing, needs nothing."""

import html
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from itemclip_jax.tools import report
from tests.tools import pages
from tests.tools import report_run


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory):
  """The finished page of a whole run; read only."""
  folder = tmp_path_factory.mktemp("report")
  return report.build(report_run.make_run(folder / "run"))


@pytest.fixture(name="page")
def _page_of_all(built):
  return built.read_text(encoding="utf-8")


@pytest.fixture(name="run")
def _run(tmp_path):
  """A run to change; few numbers, so that its page is made quickly."""
  run = report_run.make_run(tmp_path / "run")
  few = {k: v for k, v in report_run.results().items()
         if k.startswith(("item_overlap", "pub_brain_5", "about"))}
  (run / "results.json").write_text(json.dumps(few))
  return run


def _page(run):
  return report.build(run).read_text(encoding="utf-8")


def _rows(page) -> dict[str, list[str]]:
  """First cell of a table row -> the others, without tags; the first row."""
  rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page, re.S)
  plain = lambda x: html.unescape(re.sub("<[^>]*>", "", x)).strip()
  return {plain(name): [plain(c) for c in re.findall(
      r"<td[^>]*>(.*?)</td>", cells, re.S)] for name, cells in rows[::-1]}


def test_every_number_of_every_evaluator_is_on_the_page(page):
  for key, entry in report_run.results().items():
    if key != "about":
      assert report.number(entry["value"]) in page, key
      assert report.interval(entry["ci95"]) in page, key
      assert re.search(rf"\b{entry['n']}\b", page)
  for name in (*report_run.FINDINGS, "my_own/what_it_is", "Lung nodule",
               "disease"):
    assert str(html.escape(name)) in page


def test_the_page_stands_alone_and_its_pictures_are_whole(built):
  sizes = pages.check(built)
  assert len(sizes) == report_run.NUM_IMAGES
  assert sorted(sizes)[2] > (300, 200)   # all but the two of attention


def test_undefined_is_said_and_never_zero(page):
  rows = _rows(page)
  at = 1                                 # behind n
  assert rows["rare"][at] == rows["mass in the <left> lobe"][at] == "undefined"
  assert rows["cyst"][at].startswith("0.910")


def test_what_was_left_out_is_counted(page):
  rows = _rows(page)
  assert rows["Emphysema"][:2] == ["77", "41"]
  assert "13 resamples undefined" in rows["Emphysema"][2]
  assert rows["Atelectasis"][:2] == ["77", "0"]


def test_every_evaluator_has_a_section_with_words(page):
  titles = re.findall(r'<section class="flow" id="of-[^"]*">\s*<h2>(.*?)</h2>'
                      r"\s*<p>(.*?)</p>", page)
  assert [t for t, _ in titles] == [
      "Which findings it recognises", "Where it looks",
      "CT-RATE: findings of the chest", "Pub-Brain-5: brain MRI",
      "Search by text and by image", "What a few labels add",
      "Whether findings keep apart", "My own"]
  assert all(len(words) > 30 for _, words in titles)
  assert "16 of the 18 findings" in page         # of the prompt set


def test_published_numbers_stand_only_beside_their_data_set(page):
  rows = _rows(page)
  assert rows["Atelectasis"][3:6] == ["0.768", "0.715", "0.702"]
  assert rows["HLIP-SA, published, @test"] == ["0.724", "—"]


def test_thresholds_are_explained_and_kept_apart(page):
  rows = _rows(page)
  assert "its numbers flatter the model" in page
  test = "@test: chosen on the test labels (published rule)"
  assert [x[:5] for x in rows[test]] == ["0.754", "0.734"]
  assert [x[:5] for x in rows["@valid: chosen on a validation split"]] == [
      "0.714", "0.694"]
  assert [x[:5] for x in rows[f"{test}, untrained"]] == ["0.514", "—"]


def test_an_evaluator_that_nobody_knows_gets_a_plain_table(page):
  assert _rows(page)["What it is"] == [
      "4321.8 4321.7 to 4321.8", "77", "my_own/what_it_is"]



def test_pictures_are_grouped_and_worded(page):
  titles = re.findall(r'Pictures</p>\s*<h2>(.*?)</h2>', page)
  assert titles == ["Worst misses", "Best of all"]
  assert "A &lt;cyst&gt; &amp; so." in page
  assert "the score is among the lowest" in page


def test_what_was_measured_is_told(page):
  for fact in ("itemclip_jax 0.9.9", "4200", "9f" * 32, "7b" * 32, "held_out",
               "3039", "a/release", "12.0434", "8e" * 32, "8 × 16 × 16",
               "MPS\u00a00.1"):
    assert fact in page
  assert _rows(page)["CT-RATE: findings of the chest"] == [
      "ct_rate", "zeroshot_auc", "ct_rate", "7b", "c3" * 6]


def test_a_released_model_has_no_part_on_training(run):
  assert "Training" in _page(run)
  for name in ("metrics.jsonl", "final.json"):
    (run / name).unlink()
  page = _page(run)
  for word in ("Training", "learnt from", "final.json", "metrics.jsonl"):
    assert word not in page


@pytest.mark.parametrize("missing, sentences", [
    (("results.json",), ["no results.json yet"]),
    (("final.json", "config.json", "predictions"),
     ["no final.json", "no config.json", "Pub-Brain-5"]),
    (("figures/captions.json",), ["<h2>Pictures</h2>"]),
    (("figures/attention_0.png", "figures/attention_1.png"),
     ["No attention figures"]),
])
def test_a_missing_piece_is_named_or_left_out(run, missing, sentences):
  for name in missing:
    if (run / name).is_dir():
      shutil.rmtree(run / name)
    else:
      (run / name).unlink()
  page = _page(run)
  assert all(sentence in page for sentence in sentences)
  pages.check(run / "report.html")


def test_the_settings_of_the_evaluation_come_first(run):
  results = {"about": report_run.about() | {"config": {"seed": 4711}}}
  (run / "results.json").write_text(json.dumps(results))
  assert "<dt>Random seed</dt><dd>4711</dd>" in _page(run)


def test_an_empty_run_still_makes_a_page(tmp_path):
  assert "no results.json yet" in _page(tmp_path)
  with pytest.raises(ValueError, match="no directory"):
    report.build(tmp_path / "absent")


@pytest.mark.parametrize("name", ["config.json", "results.json",
                                  "predictions/pub_brain_5.csv"])
def test_a_broken_file_is_named(run, name):
  (run / name).write_text('"study_id')
  with pytest.raises(ValueError, match=f"{name} is (damaged|cut off)"):
    report.build(run)


def test_numbers_are_short_and_honest():
  assert [report.number(x) for x in (
      0.5, 0.02, 0.0056, 0, -2.4, 250.5, None, math.nan)] == [
          "0.500", "0.020", "0.0056", "0.000", "-2.400", "250.5", "undefined",
          "undefined"]
  assert report.interval([0.1, 0.2]) == "0.100 to 0.200"
  assert report.interval(None) == report.interval([math.nan, 1.0]) == "—"


@pytest.mark.parametrize("tool, output", [
    ("curves", "figures/curves.png"), ("report", "report.html")])
def test_command_line(run, tool, output):
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
      [sys.executable, "-m", f"itemclip_jax.tools.{tool}", f"--workdir={run}"],
      capture_output=True, text=True, cwd=root, check=True)
  assert output in done.stdout and (run / output).stat().st_size > 1000
