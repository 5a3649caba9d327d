"""The report page holds every number, names what is missing, needs nothing."""

import html
import json
import math
import pathlib
import re
import subprocess
import sys

from matplotlib.figure import Figure
import numpy as np
import pytest

from itemclip_jax.tools import curves
from itemclip_jax.tools import report

FINDINGS = {"cyst": (0.91, 30), "cyst in the pons": (0.62, 12),
            "mass in the <left> lobe": (None, 0), "rare": (math.nan, 1)}


def _entry(value, n, width=0.0313):
  known = curves.is_number(value)
  return {"value": value, "n": n,
          "ci95": [value - width, value + width] if known else None}


def _results():
  values = {
      "zeroshot_auc/mean_tcsim": 0.8412, "zeroshot_auc/mean_global": 0.7923,
      "zeroshot_auc/mean_untrained": 0.5034, "pointing/top1": 0.6145,
      "pointing/chance": 0.0056, "pointing/untrained": 0.0167,
      "pointing/series_top1": 0.7278, "pointing/series_chance": 0.3389,
      "segmentation/iou": 0.1491, "segmentation/iou_chance": 0.0152,
      "retrieval/mean_rank": 12.3456}
  results = {key: _entry(v, 77, 0.0023) for key, v in values.items()}
  for name, (value, n) in FINDINGS.items():
    results[f"zeroshot_auc/tcsim/{name}"] = _entry(value, n)
    results[f"zeroshot_auc/untrained/{name}"] = _entry(0.4871, n)
  return results


@pytest.fixture(name="run")
def _run(tmp_path):
  write = lambda name, data: (tmp_path / name).write_text(data)
  write("results.json", json.dumps(_results()))
  write("metrics.jsonl", "\n".join(
      json.dumps({"step": s, "loss/total": 9.0 / (s + 1), "loss/ila": 1.0,
                  "logit_scale": 14.3,
                  "logit/positive": None if s < 9 else 0.7})
      for s in range(60)))
  write("final.json", json.dumps({
      "step": 2000, "loss": 12.0434, "params_sha256": "9f" * 32}))
  write("config.json", json.dumps({
      "seed": 17, "objective": "itemized_clip",
      "data": {"dataset": "phantom_brain"},
      "vision": {"patch": [8, 16, 16]}, "loss": {"mps_weight": 0.1}}))
  (tmp_path / "figures").mkdir()
  Figure((1, 1)).savefig(tmp_path / "figures/attention_0.png", dpi=20)
  write("figures/captions.json", json.dumps({
      "attention_0.png": "A <cyst> & its place."}))
  return tmp_path


def _page(run):
  return report.build(run).read_text(encoding="utf-8")


def test_every_number_is_on_the_page(run):
  page = _page(run)
  for entry in _results().values():
    assert report.number(entry["value"]) in page
    assert report.interval(entry["ci95"]) in page
    assert re.search(rf"\b{entry['n']}\b", page)
  for name in FINDINGS:
    assert str(html.escape(name)) in page
  for fact in ("2000", "12.0434", "9f" * 32, "phantom_brain", "8 × 16 × 16",
               "MPS\u00a00.1", "17", "retrieval/mean_rank"):
    assert fact in page


def test_undefined_is_said_and_never_drawn_as_zero(run):
  rows = re.findall(r'<tr><th scope="row">(.*?)</th>.*?</td><td>(.*?)</td>',
                    _page(run))
  values = {html.unescape(name): value for name, value in rows}
  assert values["rare"] == values["mass in the <left> lobe"] == "undefined"
  assert values["cyst"] == "0.910"
  figure = curves.auc_figure(curves.findings_of(_results(), "tcsim"), {})
  ticks = [t.get_text() for t in figure.axes[0].get_yticklabels()]
  assert ticks == ["cyst in the pons", "cyst"]     # sorted; undefined left out


def test_the_page_needs_no_other_file_and_no_script(run):
  page = _page(run)
  assert "<script" not in page and "<link" not in page
  assert "@import" not in page and "url(" not in page
  for target in re.findall(r'(?:src|href)="([^"]*)"', page):
    assert target.startswith("data:image/png;base64,")
  assert not re.search(r"https?://", page)


def test_pictures_have_words(run):
  page = _page(run)
  images = re.findall(r"<img [^>]*>", page)
  assert len(images) == 3                          # gallery, AUC, curves
  assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
  assert "A &lt;cyst&gt; &amp; its place." in page
  assert '<html lang="en">' in page and "<title>" in page


@pytest.mark.parametrize("missing, sentence", [
    ("results.json", "no results.json yet"),
    ("metrics.jsonl", "no metrics.jsonl"),
    ("final.json", "no final.json"),
    ("config.json", "no config.json"),
    ("figures/attention_0.png", "No attention figures"),
    ("figures/captions.json", "Where it looks"),
])
def test_a_missing_piece_is_named(run, missing, sentence):
  (run / missing).unlink()
  assert sentence in _page(run)


def test_an_empty_run_still_makes_a_page(tmp_path):
  assert "no results.json yet" in _page(tmp_path)
  with pytest.raises(ValueError, match="no directory"):
    report.build(tmp_path / "absent")


def test_a_broken_file_is_named(run):
  (run / "config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json is damaged"):
    report.build(run)


def test_numbers_are_short_and_honest():
  assert [report.number(x) for x in (0.5, 0.02, 0.0056, 0, None, math.nan)] == [
      "0.500", "0.020", "0.0056", "0.000", "undefined", "undefined"]
  assert report.interval([0.1, 0.2]) == "0.100 to 0.200"
  assert report.interval(None) == report.interval([math.nan, 1.0]) == "—"


def test_metrics_are_read_by_name_with_gaps(run):
  series = curves.read_metrics(run / "metrics.jsonl")
  steps, values = series["logit/positive"]
  np.testing.assert_array_equal(steps, range(60))
  assert np.isnan(values[:9]).all() and (values[9:] == 0.7).all()
  (run / "metrics.jsonl").write_text('{"step": 1}\nnot json\n')
  with pytest.raises(ValueError, match="line 2"):
    curves.read_metrics(run / "metrics.jsonl")


def test_running_mean_by_hand():
  got = curves.running_mean(np.array([1.0, np.nan, 3.0, 8.0]), 1)
  np.testing.assert_allclose(got, [1.0, 2.0, 5.5, 5.5])


def test_curves_group_what_belongs_together(run):
  figure = curves.training_curves(curves.read_metrics(run / "metrics.jsonl"))
  assert [a.get_title(loc="left") for a in figure.axes] == [
      "Total loss", "Loss terms", "Logits", "Logit scale and bias"]


def test_many_findings_are_cut_to_the_most_frequent():
  findings = {f"finding {i}": _entry(0.5 + i / 200, i) for i in range(60)}
  figure = curves.auc_figure(findings, {}, max_bars=10)
  ticks = [t.get_text() for t in figure.axes[0].get_yticklabels()]
  assert ticks == [f"finding {i}" for i in range(50, 60)]
  assert figure.axes[0].get_title(loc="left") == (
      "AUC of the 10 most frequent of 60 findings")


@pytest.mark.parametrize("name, level", [
    ("cyst", "finding"), ("cyst in the pons", "finding at a place"),
    ("infarct, left side", "finding on a side"),
    ("infarct, left frontal lobe", "finding at a place"),
    ("organ/heart", "organ"), ("infarct", "finding")])
def test_level_of_a_finding(name, level):
  assert curves.finding_level(name) == level


@pytest.mark.parametrize("tool, output", [
    ("curves", "figures/auc.png"), ("report", "report.html")])
def test_command_line(run, tool, output):
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
      [sys.executable, "-m", f"itemclip_jax.tools.{tool}", f"--workdir={run}"],
      capture_output=True, text=True, cwd=root, check=True)
  assert output in done.stdout and (run / output).stat().st_size > 1000
