"""Charts show the numbers they are given, and which they show."""

import numpy as np
import pytest

from itemclip_jax.tools.pages import kinds as report_kinds
from itemclip_jax.tools.pages import words
from itemclip_jax.tools.pages import section_figures
from itemclip_jax.tools.pages import sections
from itemclip_jax.tools.figures import tasks as task_figures


def _entry(value, n=10):
  return {"value": value, "n": n,
          "ci95": None if value is None else [value - 0.1, value + 0.05]}


def _bars(entries, marks=None, **options):
  return task_figures.bars(entries, marks or {}, **dict(
      start=0.5, title="AUC", xlabel="AUC") | options).axes[0]


def _names(axes):
  return [t.get_text() for t in axes.get_yticklabels()]


def test_bars_are_sorted_and_leave_out_what_is_undefined():
  axes = _bars({"b": _entry(0.7), "none": _entry(None, 0), "a": _entry(0.4),
                "nan": _entry(float("nan"))})
  assert _names(axes) == ["a", "b"]
  assert [(bar.get_x(), bar.get_width()) for bar in axes.patches[:2]] == [
      (0.5, pytest.approx(-0.1)), (0.5, pytest.approx(0.2))]
  assert axes.get_xlim()[0] <= 0.3       # the interval of "a" is inside


def test_marks_of_other_models_stand_on_the_right_bar():
  axes = _bars({"a": _entry(0.6), "b": _entry(0.7), "c": _entry(0.8)},
               {"untrained": {"c": 0.51, "a": None}, "theirs": {"a": 0.9}})
  marks = {line.get_label(): line.get_xydata().tolist() for line in axes.lines
           if line.get_label() in ("untrained", "theirs")}
  assert marks == {"untrained": [[0.51, 2]], "theirs": [[0.9, 0]]}


def test_many_bars_are_cut_to_the_most_frequent_and_say_so():
  axes = _bars({f"finding {i}": _entry(0.5 + i / 200, i) for i in range(60)},
               max_bars=10)
  assert _names(axes) == [f"finding {i}" for i in range(50, 60)]
  assert axes.get_title(loc="left") == "AUC: the 10 most frequent of 60"


@pytest.mark.parametrize("name, level", [
    ("cyst", "finding"), ("cyst in the pons", "finding at a place"),
    ("infarct, left side", "finding on a side"),
    ("infarct, left frontal lobe", "finding at a place"),
    ("organ/heart", "organ"), ("infarct", "finding")])
def test_level_of_a_finding(name, level):
  assert task_figures.finding_level(name) == level


def test_a_radar_is_closed_and_keeps_gaps():
  axes = task_figures.radar(
      {"ours": {"a": 0.9, "b": 0.8, "c": 0.7}, "theirs": {"a": 0.42, "c": 0.6}},
      title="AUC", start=0.5).axes[0]
  ours, theirs = [line.get_ydata() for line in axes.lines]
  np.testing.assert_array_equal(ours, [0.9, 0.8, 0.7, 0.9])
  np.testing.assert_array_equal(theirs, [0.42, np.nan, 0.6, 0.42])
  assert axes.get_ylim() == (0.4, 1)     # less than chance is not cut off


def test_reliability_bins_by_hand():
  edges, mean, observed, count = task_figures.reliability_bins(
      np.array([0.0, 0.05, 0.1, 0.12, 1.0]), np.array([0, 1, 1, 1, 0]))
  np.testing.assert_allclose(edges, np.arange(11) / 10)
  np.testing.assert_array_equal(count, [2, 2, 0, 0, 0, 0, 0, 0, 0, 1])
  np.testing.assert_allclose(mean[[0, 1, 9]], [0.025, 0.11, 1.0])
  np.testing.assert_array_equal(observed[[0, 1, 9]], [0.5, 1.0, 0.0])
  assert np.isnan(mean[2:9]).all() and np.isnan(observed[2:9]).all()


@pytest.mark.parametrize("most, top", [
    (0.7, 1), (0.1, 0.1), (0.011, 0.1), (3e-4, 1e-3), (0.0, 1e-12)])
def test_small_probabilities_are_spread_over_ten_bins(most, top):
  edges, _, _, count = task_figures.reliability_bins(
      np.array([most / 2, most]), np.array([0, 1]))
  assert edges[-1] == pytest.approx(top) and count.sum() == 2


def test_confusion_shows_shares_of_the_truth():
  axes = task_figures.confusion(
      np.array([[3, 1], [0, 0]]), ["yes", "never"], title="x").axes[0]
  np.testing.assert_array_equal(axes.images[0].get_array(),
                                [[0.75, 0.25], [0, 0]])
  assert [t.get_text() for t in axes.texts] == ["75%\n3", "25%\n1", "0%\n0",
                                                "0%\n0"]
  assert _names(axes) == ["yes\nn=4", "never\nn=0"]


def test_shares_of_labels_are_in_order():
  axes = task_figures.against_share(
      {100.0: _entry(0.9), 1.0: _entry(0.6)}, title="x", ylabel="y").axes[0]
  np.testing.assert_array_equal(axes.lines[0].get_xydata(),
                                [[1, 0.6], [100, 0.9]])


def _section(numbers, *, table=None, meta=None, module="zeroshot_auc",
             dataset=""):
  about = {"checkpoint": {"logit_scale": 10.0, "logit_bias": -1.0},
           "evaluators": {"some": {"module": module, "prompt_set": None,
                                   "meta": meta or {}}}}
  (section,) = sections.sections(
      {f"some/{k}": _entry(v) for k, v in numbers.items()} | {"about": about},
      dataset=dataset, table_of=lambda name: table)
  return section


def _draw(section, kind):
  (chart,) = [c for c in section.kind.charts if c.draw == kind]
  return section_figures.draw(section, chart)


@pytest.mark.parametrize("num, drawn", [(2, False), (3, True), (20, True),
                                        (21, False)])
def test_a_radar_needs_a_few_tasks_and_not_too_many(num, drawn):
  section = _section({f"tcsim/{i}": 0.7 for i in range(num)})
  assert (_draw(section, "radar") is not None) == drawn


def test_the_radar_leaves_out_models_of_too_few_tasks():
  section = _section({f"tcsim{of}/{t}": 0.6 for t in "abc" for of in (
      "", "_untrained")})
  axes = _draw(section, "radar")[0].axes[0]
  assert [line.get_label() for line in axes.lines] == ["this model",
                                                       "untrained"]
  section = _section({"tcsim/a": 0.6, "tcsim/b": 0.6, "tcsim/c": 0.6,
                      "tcsim_untrained/a": 0.6})
  assert len(_draw(section, "radar")[0].axes[0].lines) == 1


@pytest.fixture(name="shown")
def _shown(monkeypatch):
  """What `reliability` is asked to draw."""
  seen = []
  monkeypatch.setattr(task_figures, "reliability",
                      lambda *arrays: seen.append(arrays))
  return seen


TABLE = {"tcsim/a": np.array([0.1, 0.2, 0.3]), "label/a": np.array([0, 1, -1]),
         "tcsim/b": np.array([0.0, 0.5, -0.5]), "label/b": np.array([-1, 0, 1]),
         "global/a": np.zeros(3)}


def test_reliability_is_of_the_pair_probability_of_known_labels(shown):
  _, caption = _draw(_section({"mean_tcsim": 0.7}, table=TABLE), "reliability")
  ((probability, label),) = shown
  logits = 10 * np.array([0.1, 0.2, 0.5, -0.5]) - 1
  np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)))
  np.testing.assert_array_equal(label, [0, 1, 0, 1])
  assert "at no similarity it is 0.27" in caption


def test_the_score_of_a_pair_is_its_own_probability(shown):
  section = _section({"mean_tcsim": 0.7}, table=TABLE, meta={"pair": True})
  _, caption = _draw(section, "reliability")
  np.testing.assert_array_equal(shown[0][0], [0.1, 0.2, 0.5, -0.5])
  assert words.PAIR in caption


def test_every_prompt_of_a_task_has_the_label_of_the_task(shown):
  table = {"tcsim/a#0": TABLE["tcsim/a"], "tcsim/a#1": TABLE["tcsim/b"],
           "label/a": TABLE["label/a"]}
  _draw(_section({"mean_tcsim": 0.7}, table=table, meta={"best": True}),
        "reliability")
  np.testing.assert_array_equal(shown[0][1], [0, 1, 0, 1])


@pytest.mark.parametrize("table", [None, {
    "tcsim/a": np.zeros(2), "label/a": np.array([-1, -1])}])
def test_without_predictions_or_labels_there_is_no_reliability(table):
  assert _draw(_section({"mean_tcsim": 0.7}, table=table),
               "reliability") is None


def test_confusion_counts_the_predictions():
  table = {"truth": np.array(["x", "y", "y"]), "predicted": np.array([1, 1, 0])}
  section = _section({"balanced_accuracy/all": 0.7}, table=table,
                     meta={"classes": ["x", "y"]}, module="classify")
  axes = _draw(section, "confusion")[0].axes[0]
  assert [t.get_text()[-1] for t in axes.texts] == ["0", "1", "1", "1"]


def test_searches_are_bars_and_their_variants_marks():
  section = _section({"text_to_image/r@1": 0.2, "image_to_text/r@1": 0.3,
                      "global/text_to_image/r@1": 0.1,
                      "text_to_image/mean_rank": 9.0}, module="retrieval")
  axes = _draw(section, "number_bars")[0].axes[0]
  assert _names(axes) == ["Image found by text, r@1",
                          "Text found by image, r@1"]
  assert [line.get_xydata().tolist() for line in axes.lines
          if line.get_label() == "global vector"] == [[[0.1, 0]]]


@pytest.mark.parametrize("kind", report_kinds.KINDS)
def test_every_chart_of_every_kind_can_do_without_its_numbers(kind):
  section = _section({"nothing": 0.5}, module=kind)
  assert all(section_figures.draw(section, chart) is None
             for chart in section.kind.charts)
