"""Classes of studies against scikit-learn and against hand-made cases."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import classify
from tests.evaluators import embedded

CLASSES = ("Normal", "Stroke", "Glioma", "Metastasis")
TASKS = {
    "stroke": {"classes": ["Normal", "Stroke"], "positive": "Stroke"},
    "tumour": {"classes": ["Metastasis", "Glioma"]},
    "disease": {"classes": list(CLASSES)},
}
METRICS = ["balanced_accuracy", "f1_weighted", "macro_auc", "recall",
           "precision", "top1", "top3", "mean_rank"]
META = {"classes": list(CLASSES), "tasks": TASKS, "metrics": METRICS,
        "without_class": 3}


def _table(size=60, seed=0, decimals=2):
  """Random scores that know something, with ties if rounded."""
  rng = np.random.default_rng(seed)
  truth = np.concatenate([np.arange(4), rng.integers(0, 4, size - 4)])
  score = lambda: np.round(rng.normal(0, 0.2, (size, 4))
                           + 0.2 * (truth[:, None] == np.arange(4)), decimals)
  families = {"tcsim": score(), "global": score()}
  return {"study_id": np.arange(size).astype(str),
          "patient_id": (np.arange(size) // 2).astype(str),
          "truth": np.array(CLASSES)[truth]} | {
              f"{family}/{c}": x for family, scores in families.items()
              for c, x in zip(CLASSES, scores.T)}


def _plainly(table, family, task):
  """The metrics of a task by scikit-learn, one study after the other."""
  classes, positive = task["classes"], task.get("positive")
  rows = [i for i, t in enumerate(table["truth"]) if t in classes]
  scores = np.array([[table[f"{family}/{c}"][i] for c in classes]
                     for i in rows])
  truth = np.array([classes.index(table["truth"][i]) for i in rows])
  called = np.array([list(s).index(max(s)) for s in scores])
  chance = np.round(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), 10)
  out = {
      "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
      "f1_weighted": sk.f1_score(truth, called, average="weighted"),
      "macro_auc": np.mean([sk.roc_auc_score(truth == c, chance[:, c])
                            for c in range(len(classes))])}
  if positive:
    of = classes.index(positive)
    out |= {"recall": sk.recall_score(truth == of, called == of),
            "precision": sk.precision_score(truth == of, called == of)}
  return out


@pytest.mark.parametrize("family, prefix",
                         [("tcsim", "pb"), ("global", "pb/global")])
def test_tasks_agree_with_scikit_learn(family, prefix):
  table = _table()
  got = embedded.once(classify.measure("pb", table, META), 60)
  want = {task: _plainly(table, family, x) for task, x in TASKS.items()}
  for task, numbers in want.items():
    for metric, value in numbers.items():
      assert got[f"{prefix}/{metric}/{task}"] == pytest.approx(
          value, abs=1e-12), (metric, task)
  for metric in METRICS[:5]:
    mean = np.mean([x[metric] for x in want.values() if metric in x])
    assert got[f"{prefix}/mean_{metric}"] == pytest.approx(mean, abs=1e-12)
  assert f"{prefix}/recall/disease" not in got


def test_ranks_agree_with_a_sorted_list():
  table = _table(decimals=9)                                     # no ties
  ranks = []
  for i, truth in enumerate(table["truth"]):
    ranked = sorted(CLASSES, key=lambda c: -table[f"tcsim/{c}"][i])
    ranks.append(1 + ranked.index(truth))
  got = embedded.once(classify.measure("r", table, META), 60)
  assert got["r/mean_rank"] == pytest.approx(np.mean(ranks))
  assert got["r/top1"] == pytest.approx(np.mean(np.array(ranks) == 1))
  assert got["r/top3"] == pytest.approx(np.mean(np.array(ranks) <= 3))


def test_counts_equal_repeated_rows():
  table = _table()
  counts = np.random.default_rng(1).integers(0, 4, (4, 60))
  got = embedded.values(classify.measure("pb", table, META), counts)
  for r, times in enumerate(counts):
    copied = {k: np.repeat(v, times) for k, v in table.items()}
    want = embedded.once(classify.measure("pb", copied, META), times.sum())
    for name, value in want.items():
      np.testing.assert_allclose(got[name][r], value, rtol=1e-12,
                                 err_msg=name)


def test_no_preference_scores_as_guessing_does():
  table = _table()
  table |= {k: np.zeros(60) for k in table if "/" in k}
  got = embedded.once(classify.measure("r", table, META), 60)
  assert got["r/top1"] == 1 / 4 and got["r/top3"] == 3 / 4
  assert got["r/mean_rank"] == 2.5
  assert got["r/macro_auc/disease"] == 0.5
  # The class named first is called, and no other.
  assert got["r/balanced_accuracy/disease"] == 1 / 4
  assert got["r/recall/stroke"] == 0
  assert np.isnan(got["r/precision/stroke"])


def test_ties_by_hand():
  table = {"study_id": np.array(["a"]), "patient_id": np.array(["a"]),
           "truth": np.array(["Glioma"])}
  scores = dict(zip(CLASSES, (0.5, 0.2, 0.2, 0.2)))     # above 1, level 3
  table |= {f"{f}/{c}": np.array([s]) for f in ("tcsim", "global")
            for c, s in scores.items()}
  got = embedded.once(classify.measure("r", table, META | {
      "metrics": ["top1", "top2", "top4", "mean_rank"]}), 1)
  assert got["r/top1"] == 0 and got["r/top2"] == pytest.approx(1 / 3)
  assert got["r/top4"] == 1 and got["r/mean_rank"] == 3


def test_a_class_without_studies_leaves_its_tasks_undefined():
  table = _table()
  keep = table["truth"] != "Stroke"
  table = {k: v[keep] for k, v in table.items()}
  found = classify.measure("pb", table, META)
  got = embedded.once(found, keep.sum())
  for metric in METRICS[:3]:
    assert np.isnan(got[f"pb/{metric}/stroke"])
    assert np.isnan(got[f"pb/{metric}/disease"])
    assert np.isfinite(got[f"pb/{metric}/tumour"])
    assert np.isnan(got[f"pb/mean_{metric}"])
  assert np.isfinite(got["pb/top1"])


def test_every_number_says_what_it_rests_on():
  table = _table()
  found = classify.measure("pb", table, META)
  n = dict(zip(found.names, found.support))
  assert n["pb/top1"] == n["pb/balanced_accuracy/disease"] == 60
  assert n["pb/macro_auc/stroke"] == sum(
      t in ("Normal", "Stroke") for t in table["truth"])
  assert n["pb/mean_balanced_accuracy"] == 3 and n["pb/mean_recall"] == 1
  assert set(found.unlabeled) == {3}


def test_a_score_that_is_nan_is_no_answer():
  table = _table()
  table["global/Glioma"][7] = np.nan
  with pytest.raises(ValueError, match="1 of 60 studies have global scores"):
    classify.measure("pb", table, META)


# Studies with one class, with none, with several, and not annotated.
LABELS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0],
                   [-1] * 4, [0, 0, 1, -1], [1, 0, 0, 0], [0, 1, 0, 0]])


def _evaluator(*, labels=LABELS, per_class=1, combine="mean", **changes):
  rng = np.random.default_rng(0)
  texts = {c: [f"{c} {p}" for p in range(per_class)] for c in CLASSES}
  vectors = {t: rng.normal(size=6) for own in texts.values() for t in own}
  studies = embedded.Studies(
      image=rng.normal(size=(len(labels), 6)),
      seen=rng.normal(size=(len(labels), 6)), labels=labels,
      findings=tuple(c.lower() for c in CLASSES))
  root = changes.pop("root", "")
  options = {"classes": {c: {"label": c.lower(), "prompts": t}
                         for c, t in texts.items()},
             "tasks": TASKS, "metrics": METRICS} | changes
  options = {k: v for k, v in options.items() if v is not None}
  return classify.Evaluator(embedded.context(
      "pb", studies, embedded.Scorer(vectors), options=options,
      combine=combine, root=root)), studies, vectors


def test_studies_without_one_class_are_left_out_and_counted(capsys):
  evaluator, studies, vectors = _evaluator()
  assert evaluator.prompts == tuple(vectors)
  table = evaluator.collect()
  assert table["study_id"].tolist() == [
      "study-0", "study-1", "study-5", "study-6", "study-7"]
  assert table["truth"].tolist() == ["Normal", "Stroke", "Glioma", "Normal",
                                     "Stroke"]
  want = embedded.unit(studies.seen[[0, 1, 5, 6, 7]]) @ embedded.unit(
      np.stack(list(vectors.values()))).T
  for c, column in zip(CLASSES, want.T):
    np.testing.assert_allclose(table[f"tcsim/{c}"], column)
  np.testing.assert_array_equal(table["predicted"], want.argmax(1))
  said = capsys.readouterr().out
  assert "2 studies without a class, 1 of several, and 0" in said
  assert "no study is of class Metastasis" in said
  meta = json.loads(json.dumps(evaluator.meta()))
  assert meta["without_class"] == 2 and meta["of_several_classes"] == 1
  got = embedded.once(classify.measure("pb", table, meta), 5)
  assert np.isfinite(got["pb/global/balanced_accuracy/stroke"])


def test_without_tasks_there_is_one_of_all_classes():
  evaluator, _, _ = _evaluator(tasks=None, metrics=["balanced_accuracy"])
  table = evaluator.collect()
  found = classify.measure("pb", table, evaluator.meta())
  assert found.names[:2] == ("pb/mean_balanced_accuracy",
                             "pb/balanced_accuracy/all")


def test_prompts_become_a_vector_or_a_mean():
  unit = embedded.unit
  by_vector, studies, vectors = _evaluator(per_class=2, combine="vector")
  each = unit(np.stack(list(vectors.values()))).reshape(4, 2, 6)
  texts = unit(each.mean(1))
  assert by_vector.prompts == ()
  got = by_vector.collect()
  one = [0, 1, 5, 6, 7]
  np.testing.assert_allclose(got["global/Stroke"],
                             unit(studies.image[one]) @ texts[1])
  got = _evaluator(per_class=2)[0].collect()
  np.testing.assert_allclose(got["global/Stroke"],
                             (unit(studies.image[one]) @ each[1].T).mean(1))


def test_a_subset_is_what_its_file_lists_and_the_first_class(tmp_path):
  (tmp_path / "ground_truth.json").write_text(
      json.dumps({"study-1": [3, 4], "study-5": [], "elsewhere": [1]}))
  evaluator, _, _ = _evaluator(subset="ground_truth", root=str(tmp_path))
  table = evaluator.collect()
  assert table["study_id"].tolist() == ["study-0", "study-1", "study-5",
                                        "study-6"]
  assert evaluator.meta()["outside_subset"] == 1
  (tmp_path / "ground_truth.json").unlink()
  with pytest.raises(UserError, match="ground_truth.json, which is missing"):
    evaluator.collect()


@pytest.mark.parametrize("changes, what", [
    ({"metrics": ["top0"]}, "the metric 'top0'"),
    ({"metrics": ["exactness"]}, "the metric 'exactness'"),
    ({"metrics": ["recall"], "tasks": {"all": {"classes": ["Normal"]}}},
     "no task names its positive"),
    ({"tasks": {"x": {"classes": ["Normal"], "positive": "Stroke"}}},
     "'Stroke' as positive class of task 'x'"),
    ({"classes": {"Cyst": {"label": "cyst", "prompts": ["Cyst"]}}},
     "'cyst' for class 'Cyst'; the data set has normal, stroke"),
    ({"combine": "best"}, "combine='best'"),
    ({"subset": "lesions"}, "the subset 'lesions'"),
])
def test_what_cannot_be_measured_is_refused_before_scoring(changes, what):
  with pytest.raises(UserError, match=what):
    _evaluator(**changes)


def test_a_split_without_any_class_is_refused():
  evaluator, _, _ = _evaluator(labels=np.full((3, 4), -1))
  with pytest.raises(UserError, match="no study of the split"):
    evaluator.collect()
  studies = embedded.Studies(np.eye(2), np.eye(2), ("a", "b"))
  with pytest.raises(UserError, match="needs a prompt set"):
    classify.Evaluator(embedded.context("classify", studies))


def test_pictures_show_the_surest_answers():
  labels = np.eye(4, dtype=int)[np.random.default_rng(2).integers(0, 4, 40)]
  evaluator, studies, _ = _evaluator(labels=labels)
  table = evaluator.collect()
  scores = np.stack([table[f"tcsim/{c}"] for c in CLASSES], 1)
  margin = np.sort(scores, 1)[:, -1] - np.sort(scores, 1)[:, -2]
  right = np.array(CLASSES)[scores.argmax(1)] == table["truth"]
  found = evaluator.examples(table)
  for group, mine in (("Surest hits", right), ("Surest errors", ~right)):
    rows = [x.row for x in found if x.group == group]
    assert len(rows) == 4 and mine[rows].all()
    assert margin[rows].min() >= np.delete(
        np.where(mine, margin, -1), rows).max()
  for x in found:
    called = CLASSES[scores[x.row].argmax()]
    assert x.text == f"{called} 0" and x.score == scores[x.row].max()
    assert x.caption == f"{table['truth'][x.row]}, called {called}"
