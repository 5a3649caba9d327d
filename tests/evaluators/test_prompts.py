"""Prompt sets: they load, ask what was published, and fit the data sets."""

import hashlib
import json
import pathlib
import re

import numpy as np
import pytest

from data_pipelines.datasets import brats, cq500, ct_rate, phantom_brain
from data_pipelines.datasets import phantom_chest, phantom_radiograph
from data_pipelines.datasets import pub_brain_5, rad_chest_ct, rsicd, rsna_ich
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import prompts, published

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"

# Prompt set -> the data set whose label columns it names.
ASKED_OF = {
    "ct_rate": ct_rate, "ct_rate_hlip": ct_rate, "ct_rate_hlip_volume": ct_rate,
    "rad_chest_ct": rad_chest_ct, "rad_chest_ct_15": rad_chest_ct,
    "rad_chest_ct_hlip": rad_chest_ct, "rsna": rsna_ich, "cq500": cq500,
    "pub_brain_5": pub_brain_5, "pub_brain_5_gt": pub_brain_5,
    "pub_brain_5_hlip": pub_brain_5, "pub_brain_5_gt_hlip": pub_brain_5,
    "rsicd": rsicd, "prospective_example": phantom_brain,
    "fvlm_ct_rate": ct_rate, "phantom_chest_organs": phantom_chest,
    "phantom_chest_whole": phantom_chest,
    "medfilip_phantom": phantom_radiograph,
    "medfilip_phantom_category": phantom_radiograph,
    "medfilip_phantom_fg": phantom_radiograph,
    "medfilip_phantom_fg_category": phantom_radiograph}
WITHOUT_LABELS = {"brats", "retrieval", "item_retrieval"}
# Of sets that only users can build.
OF_USERS = {"medfilip_16", "medfilip_16_category", "medfilip_fg",
            "medfilip_covid", "eclip_5x200", "eclip_rsna", "eclip_cxr14"}

# Sets that ask every finding just as its builder does.
AS_BUILT = {"ct_rate": 16, "rad_chest_ct": 14, "rsna": 5, "cq500": 10,
            "pub_brain_5": 5, "pub_brain_5_gt": 5, "rsicd": 30}

SET = {"description": "d", "source": "s", "version": "1",
       "evaluator": "zeroshot_auc",
       "tasks": {"a": {"label": "A", "prompts": ["an a"]}}}


def _asked(spec: prompts.PromptSet) -> list[tuple[str, tuple[str, ...]]]:
  """(column, prompts) of every task or class."""
  if spec.evaluator == "classify":
    return [(c["label"], tuple(c["prompts"]))
            for c in spec.options["classes"].values()]
  return [(task.label, task.prompts) for task in spec.tasks.values()]


def _columns(module) -> dict[str, tuple[str, ...]]:
  findings = module.Dataset().findings(pathlib.Path("/nowhere"))
  return {f["label"]: tuple(f["prompts"]) for f in findings.values()}


def test_every_set_is_looked_at_here():
  assert set(prompts.names()) == ASKED_OF.keys() | WITHOUT_LABELS | OF_USERS


@pytest.mark.parametrize("name", ASKED_OF)
def test_labels_are_columns_of_the_data_set(name):
  labels = {label for label, _ in _asked(prompts.load(name))}
  assert labels and labels <= _columns(ASKED_OF[name]).keys()


@pytest.mark.parametrize("name", AS_BUILT)
def test_findings_are_asked_as_they_are_built(name):
  asked = _asked(prompts.load(name))
  assert len(asked) == AS_BUILT[name]
  assert dict(asked) == _columns(ASKED_OF[name])


def test_ct_rate_asks_what_the_published_code_asks():
  with np.load(GOLDEN / "zeroshot_ct_rate.npz") as golden:
    want = dict(zip(golden["cfg.classnames"], golden["cfg.prompts"]))
  assert {name: task.prompts for name, task
          in prompts.load("ct_rate").tasks.items()} == {
              name: (prompt,) for name, prompt in want.items()}


def test_calcification_stands_twice_in_the_fifteen():
  tasks = prompts.load("rad_chest_ct_15").tasks
  assert len(tasks) == 15
  twice = [name for name, t in tasks.items() if t.label == "Calcification"]
  assert twice == ["Coronary artery wall calcification",
                   "Arterial wall calcification"]
  assert tasks[twice[1]].prompts == (
      "findings consistent with arterial wall calcification",)


def test_thresholds_are_searched_as_published():
  points = {n: prompts.load(n).threshold_points for n in ASKED_OF}
  assert {p for n, p in points.items() if n.startswith("ct_rate")} == {1000}
  assert {p for n, p in points.items() if n.startswith("rad_")} == {4000}


@pytest.mark.parametrize("name, organs", [
    ("ct_rate_hlip", {"lung": 11, "heart": 3, "esophagus": 1, "aorta": 1}),
    ("rad_chest_ct_hlip", {"lung": 10, "heart": 3, "esophagus": 1}),
    ("ct_rate_hlip_volume", {"volume": 16})])
def test_pairs_say_yes_and_no_of_one_organ(name, organs):
  spec = prompts.load(name)
  assert spec.kind == "pair"
  seen = dict.fromkeys(organs, 0)
  for task in spec.tasks.values():
    (yes,), (no,) = task.prompts, task.negatives
    organ = re.fullmatch(r"The (\w+) shows: [A-Z][a-z ]+\.", yes)[1]
    assert re.fullmatch(rf"The {organ} shows: Not [a-z ]+\.", no)
    seen[organ] += 1
  assert seen == organs
  if name.endswith("volume"):
    assert spec.tasks["Lung nodule"].negatives == (
        "The volume shows: Not lung nodule.",)


def test_pub_brain_5_is_a_choice_of_two_three_or_five():
  bare, theirs = (prompts.load(f"pub_brain_5_gt{x}") for x in ("", "_hlip"))
  assert bare.options["subset"] == theirs.options["subset"] == "ground_truth"
  assert "subset" not in prompts.load("pub_brain_5").options
  assert [len(t["classes"]) for t in bare.options["tasks"].values()] == [
      2, 2, 2, 2, 3, 5]
  assert bare.options["tasks"]["stroke"] == {
      "classes": ["Normal", "Stroke"], "positive": "Stroke"}
  assert _asked(theirs)[0] == ("Normal", (
      "This MRI study shows: No significant abnormalities.",))
  assert _asked(theirs)[2] == ("Glioma", ("This MRI study shows: Glioma.",))


def test_other_benchmarks():
  assert prompts.load("rsicd").combine == "vector"
  tumour = prompts.load("brats").options
  assert tumour["text"] == "Glioma." and tumour["top_tokens"] == 30
  named = [s for s in (f"AX_{s}" for s in brats.SERIES)
           if re.search(tumour["series"], s, re.IGNORECASE)]
  assert named == [brats.FLAIR]
  assert prompts.load("retrieval").options == {
      "ranks_at": [1, 5, 10], "two_stage": 128}
  assert prompts.load("item_retrieval").options == {
      "ranks_at": [1, 10, 100], "complete_at": [10, 100, 1000]}


def test_tasks_of_a_user(tmp_path):
  """The layout of the prospective sets: the best of several prompts."""
  path = tmp_path / "ours.json"
  tasks = {"stroke": {"prompts": ["a stroke", "an infarct"], "label": "S"}}
  path.write_text(json.dumps(tasks))
  spec = prompts.load(str(path))
  assert (spec.name, spec.evaluator, spec.kind, spec.combine) == (
      "ours", "zeroshot_auc", "single", "best")
  assert spec.tasks == {"stroke": prompts.Task(
      label="S", prompts=("a stroke", "an infarct"))}
  assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  example = prompts.load("prospective_example")
  assert example.combine == "best"
  assert {len(t.prompts) for t in example.tasks.values()} == {7}


def test_a_whole_set_of_a_user_keeps_its_rules(tmp_path):
  path = tmp_path / "ours.json"
  path.write_text(json.dumps(SET | {"min_positives": 3}))
  spec = prompts.load(str(path))
  assert spec.combine == "mean" and spec.min_positives == 3
  assert spec.source == "s" and spec.threshold_points == 1000


def test_an_unknown_name_is_answered_with_the_closest():
  with pytest.raises(UserError, match="did you mean 'pub_brain_5_gt'"):
    prompts.load("pub_brain5_gt")
  with pytest.raises(UserError, match="have brats, cq500"):
    prompts.load("zzz")
  with pytest.raises(UserError, match="no file my/tasks.json"):
    prompts.load("my/tasks.json")


_TASK = {"label": "A", "prompts": ["an a"]}
_CLASSES = SET | {"evaluator": "classify", "tasks": {}, "options": {
    "classes": {"a": _TASK}, "metrics": ["top1"]}}


@pytest.mark.parametrize("content, said", [
    ("{", "is no JSON"),
    ("[]", "holds no tasks"),
    ("{}", "holds no tasks"),
    ('{"a": {"label": "A", "prompts": ["x"]}, "a": {}}', "'a' twice"),
    ({"a": {"prompts": ["x"]}}, "'tasks/a/label' is missing"),
    ({"a": {"label": "A", "prompts": []}}, "'tasks/a/prompts' is []"),
    ({"a": {"label": "A", "prompts": ["x", " "]}}, "none empty"),
    ({"a": {"label": "A", "prompts": "x"}}, "want a list of texts"),
    ({"a": {"label": "", "prompts": ["x"]}}, "'tasks/a/label' is ''"),
    ({"a": {"label": "A", "prompts": ["x"], "negatives": ["y"]}},
     "'tasks/a/negatives' is unknown"),
    ({"a": ["x"]}, "want an object"),
    (SET | {"tasks": {}}, "'tasks' has 0 entries"),
    (SET | {"evaluator": "zeroshot"}, "no evaluator 'zeroshot'"),
    (SET | {"combine": "median"}, "'combine' is 'median'"),
    (SET | {"kind": ["pair"]}, "'kind' is ['pair']"),
    (SET | {"threshold_rule": "f1"}, "'threshold_rule' is 'f1'; want one of ro"),
    (SET | {"kind": "pair"}, "'tasks/a/negatives' is missing"),
    (SET | {"kind": "pair", "tasks": {"a": _TASK | {"negatives": ["x", "y"]}}},
     "1 prompts and 2 negatives"),
    (SET | {"threshold_points": 0}, "'threshold_points' is 0"),
    (SET | {"min_positives": True}, "'min_positives' is True"),
    (SET | {"threshold": 1}, "'threshold' is unknown"),
    (SET | {"options": {"text": "x"}}, "'options/text' is unknown"),
    ({k: v for k, v in SET.items() if k != "version"}, "'version' is missing"),
    (_CLASSES | {"options": {"metrics": ["top1"]}},
     "'options/classes' is missing"),
    (_CLASSES | {"options": _CLASSES["options"] | {
        "tasks": {"t": {"classes": ["a"], "positive": "b"}}}},
     "'options/tasks/t' names 'b'"),
    (_CLASSES | {"options": _CLASSES["options"] | {
        "tasks": {"t": {"classes": [["a"]]}}}}, "want a list of texts"),
    (SET | {"evaluator": "retrieval", "tasks": {},
            "options": {"ranks_at": [1, "5"]}}, "'options/ranks_at' is '5'"),
])
def test_a_mistake_is_told_with_file_and_key(content, said, tmp_path):
  path = tmp_path / "ours.json"
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(UserError, match=re.escape(said)) as error:
    prompts.load(str(path))
  assert str(path) in str(error.value)


def test_published_numbers_are_of_tasks_that_are_asked():
  for dataset in ("ct_rate", "rad_chest_ct", "rsna_ich", "cq500",
                  "pub_brain_5", "rsicd", "brats"):
    found = published.load(dataset)
    assert found
    for name, models in found.items():
      evaluator, *_, last = name.split("/")
      if " and " in evaluator:
        continue   # of two sets together
      spec = prompts.load(evaluator)
      tasks = spec.tasks or spec.options.get("tasks", {})
      assert name.count("/") == 1 or last in tasks, name
      top = 30 if last == "mean_rank" else 1
      assert all(0 < n.value <= top and n.source for n in models.values())


def test_published_retrieval_is_at_ranks_that_are_measured():
  for dataset in ("coco_captions", "flickr30k"):
    found = published.load(dataset)
    assert found.keys() == {
        f"retrieval/{way}/r@{k}" for k in (1, 10)
        for way in ("text_to_image", "image_to_text")}
  assert found["retrieval/image_to_text/r@1"]["FLAIR"].value == 0.167
  assert {1, 10} < set(prompts.load("retrieval").options["ranks_at"])


def test_means_are_those_of_the_published_tasks():
  """A slip in copying would show; the papers round to 0.1 points."""
  for dataset, name in (("ct_rate", "ct_rate"), ("rsna_ich", "rsna"),
                        ("rad_chest_ct", "rad_chest_ct"), ("cq500", "cq500")):
    found = published.load(dataset)
    for model, mean in found[f"{name}/mean_tcsim"].items():
      each = [n[model].value for k, n in found.items()
              if k.startswith(f"{name}/tcsim/") and model in n]
      if each:
        assert len(each) == len(prompts.load(name).tasks)
        assert abs(np.mean(each) - mean.value) < 0.0011, (name, model)


def test_suspect_columns_carry_a_caution():
  found = published.load("cq500")
  marked = {k for k, n in found.items() if n["ItemizedCLIP"].caution}
  assert marked == {"cq500/tcsim/MidlineShift", "cq500/tcsim/MassEffect"}
