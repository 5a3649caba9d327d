"""The zero-shot evaluator on scores that stand in a table."""

import json
import types

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures
from itemclip_jax.evaluators import metrics
from itemclip_jax.evaluators import resampled
from itemclip_jax.evaluators import zeroshot_auc
from itemclip_jax.evaluators.prompts import PromptSet, Task

FINDINGS = {"nodule": {"label": "Lung nodule", "prompts": ["a nodule", "node"]},
            "emphysema": {"label": "Emphysema", "prompts": ["emphysema"]}}
TEXTS = ("a nodule", "node", "emphysema", "no nodule", "no node")


class _Split:
  """Studies whose scores are random, and a scorer that knows them."""

  def __init__(self, seed, num=40, findings=FINDINGS):
    rng = np.random.default_rng(seed)
    self.labels = rng.integers(-1, 2, (num, len(findings))).astype(np.int8)
    self.study_id = np.array([f"s{i}" for i in range(num)])
    self.patient_id = np.array([f"p{i // 2}" for i in range(num)])
    self.split = types.SimpleNamespace(findings=findings)
    truth = self.labels @ np.ones(len(findings))
    self.known = {kind: {t: (rng.normal(size=num) + truth).astype(np.float32)
                         for t in TEXTS} for kind in ("tcsim", "cosine")}


def _context(spec=None, *, findings=FINDINGS, threshold_split=""):
  splits = {"test": _Split(0, findings=findings),
            "valid": _Split(1, findings=findings)}
  scores = lambda studies, texts: types.SimpleNamespace(
      **{kind: np.stack([x[t] for t in texts], 1)
         for kind, x in studies.known.items()})
  config = types.SimpleNamespace(
      data=types.SimpleNamespace(root="some/set"),
      eval=types.SimpleNamespace(min_positives=2,
                                 threshold_split=threshold_split))
  return types.SimpleNamespace(
      config=config, name=spec.name if spec else "zeroshot_auc", spec=spec,
      scorer=types.SimpleNamespace(scores=scores, logit_scale=2.0),
      studies=splits["test"], other=splits.__getitem__)


def _spec(tasks=None, **settings):
  tasks = tasks or {
      "Nodule": Task(label="Lung nodule", prompts=("a nodule", "node")),
      "Emphysema": Task(label="Emphysema", prompts=("emphysema",))}
  return PromptSet(**{"name": "bench", "sha256": "", "description": "",
                      "source": "", "version": "1",
                      "evaluator": "zeroshot_auc", "tasks": tasks} | settings)


def _run(context):
  """Evaluator, table and the plain numbers, through JSON as a run has them."""
  evaluator = zeroshot_auc.Evaluator(context)
  table = evaluator.collect()
  meta = json.loads(json.dumps(evaluator.meta(), allow_nan=False))
  found = measures.results(
      zeroshot_auc.measure(context.name, table, meta), table, num_resamples=20,
      seed=0)
  return evaluator, table, found


def _auc(labels, scores):
  keep = labels >= 0
  return sk.roc_auc_score(labels[keep], scores[keep])


def test_findings_are_scored_by_the_mean_of_their_prompts():
  context = _context()
  studies = context.studies
  evaluator, table, found = _run(context)
  assert evaluator.prompts == ("a nodule", "node", "emphysema")
  tcsim, cosine = studies.known["tcsim"], studies.known["cosine"]
  want = {}
  for kind, x in (("tcsim", tcsim), ("global", cosine)):
    both = (x["a nodule"].astype(float) + x["node"]) / 2
    np.testing.assert_array_equal(table[f"{kind}/nodule"], both)
    want[kind] = [_auc(studies.labels[:, 0], both),
                  _auc(studies.labels[:, 1], x["emphysema"])]
  assert list(found) == ["zeroshot_auc/mean_tcsim", "zeroshot_auc/mean_global",
                         "zeroshot_auc/tcsim/nodule",
                         "zeroshot_auc/tcsim/emphysema"]
  np.testing.assert_allclose(
      [r.value for r in found.values()],
      [np.mean(want["tcsim"]), np.mean(want["global"]), *want["tcsim"]],
      rtol=1e-12)
  positives = (studies.labels == 1).sum(0).tolist()
  dropped = (studies.labels < 0).sum(0).tolist()
  assert [r.n for r in found.values()] == [2, 2, *positives]
  assert [r.unlabeled for r in found.values()] == [sum(dropped)] * 2 + dropped
  assert all(len(column) == 40 for column in table.values())


def test_rare_and_unlabeled_tasks_are_undefined_or_not_averaged():
  context = _context()
  labels = context.studies.labels
  labels[:, 1] = 0
  labels[0, 1] = 1                                     # fewer than two
  *_, found = _run(context)
  assert found["zeroshot_auc/tcsim/emphysema"].n == 1
  assert not np.isnan(found["zeroshot_auc/tcsim/emphysema"].value)
  assert (found["zeroshot_auc/mean_tcsim"].value
          == found["zeroshot_auc/tcsim/nodule"].value)
  labels[:, 1] = -1
  *_, found = _run(context)
  assert found["zeroshot_auc/tcsim/emphysema"].to_json() == {
      "value": None, "ci95": None, "n": 0, "unlabeled": 40,
      "undefined_resamples": 20}
  labels[:] = -1
  *_, found = _run(context)
  assert np.isnan(found["zeroshot_auc/mean_tcsim"].value)
  assert found["zeroshot_auc/mean_tcsim"].n == 0


@pytest.mark.parametrize("kind, infix", [("tcsim", ""), ("global", "/global")])
def test_the_best_f1_is_judged_by_both_scores(kind, infix):
  context = _context(_spec(threshold_rule="best_f1"), threshold_split="valid")
  _, table, found = _run(context)
  by_task = []
  for task in ("Nodule", "Emphysema"):
    scores, labels = table[f"{kind}/{task}"], table[f"label/{task}"]
    keep = labels >= 0
    f1 = max(sk.f1_score(labels[keep], scores[keep] >= t) for t in scores)
    np.testing.assert_allclose(found[f"bench{infix}/f1@test/{task}"].value, f1)
    by_task.append(f1)
    threshold = found[f"bench{infix}/threshold@test/{task}"].value
    assert threshold == metrics.f1_threshold(scores, labels)
    np.testing.assert_allclose(
        found[f"bench{infix}/accuracy@test/{task}"].value,
        np.mean((scores > threshold)[keep] == labels[keep]))
    elsewhere = found[f"bench{infix}/f1@valid/{task}"].value
    assert elsewhere <= f1
  np.testing.assert_allclose(found[f"bench{infix}/mean_f1@test"].value,
                             np.mean(by_task))


def test_the_published_rule_knows_neither_f1_nor_the_global_vector():
  *_, found = _run(_context(_spec()))
  assert not [n for n in found if "f1@" in n or "/global/" in n]
  assert "bench/mean_accuracy@test" in found


def test_calls_at_the_test_threshold():
  context = _context(_spec(threshold_points=101))
  _, table, found = _run(context)
  by_hand = {}
  for task in ("Nodule", "Emphysema"):
    scores, labels = table[f"tcsim/{task}"], table[f"label/{task}"]
    threshold = metrics.roc_threshold(scores, labels, np.linspace(-1, 1, 101))
    by_hand[task] = metrics.at_threshold(scores, labels, threshold)
    assert found[f"bench/threshold@test/{task}"].value == threshold
    for call, value in by_hand[task].items():
      got = found[f"bench/{call}@test/{task}"]
      assert got.value == pytest.approx(value, rel=1e-12)
      assert got.n == (labels == 1).sum() and got.unlabeled
  for call in resampled.CALLS:
    assert found[f"bench/mean_{call}@test"].value == pytest.approx(
        (by_hand["Nodule"][call] + by_hand["Emphysema"][call]) / 2, rel=1e-12)
  assert not any("@valid" in name or "@half" in name for name in found)


def test_thresholds_of_another_split_stand_beside():
  context = _context(_spec(), threshold_split="valid")
  evaluator, table, found = _run(context)
  other = context.other("valid")
  threshold = metrics.roc_threshold(
      other.known["tcsim"]["emphysema"].astype(float), other.labels[:, 1])
  assert found["bench/threshold@valid/Emphysema"].value == threshold
  assert threshold != found["bench/threshold@test/Emphysema"].value
  want = metrics.at_threshold(table["tcsim/Emphysema"],
                              table["label/Emphysema"], threshold)
  for call in resampled.CALLS:
    assert found[f"bench/{call}@valid/Emphysema"].value == pytest.approx(
        want[call], rel=1e-12)
  assert evaluator.meta()["threshold_split"] == "valid"


def test_a_task_without_threshold_is_not_in_the_mean_of_its_calls():
  context = _context(_spec(), threshold_split="valid")
  context.other("valid").labels[:, 1] = 0              # no positive
  *_, found = _run(context)
  assert np.isnan(found["bench/threshold@valid/Emphysema"].value)
  assert np.isnan(found["bench/accuracy@valid/Emphysema"].value)
  mean = found["bench/mean_accuracy@valid"]
  assert mean.value == found["bench/accuracy@valid/Nodule"].value
  assert mean.n == 1 and found["bench/mean_tcsim"].n == 2


def test_calls_are_averaged_over_the_tasks_whose_aucs_are():
  context = _context(_spec(min_positives=2))
  context.studies.labels[:, 1] = 0
  context.studies.labels[0, 1] = 1
  *_, found = _run(context)
  assert not np.isnan(found["bench/accuracy@test/Emphysema"].value)
  for call in resampled.CALLS:
    mean = found[f"bench/mean_{call}@test"]
    assert mean.value == found[f"bench/{call}@test/Nodule"].value
    assert mean.n == 1


def _pairs(**settings):
  return _spec({"Nodule": Task(label="Lung nodule",
                               prompts=("a nodule", "node"),
                               negatives=("no nodule", "no node"))},
               kind="pair", **settings)


def test_a_pair_is_a_softmax_over_no_and_yes():
  context = _context(_pairs())
  evaluator, table, found = _run(context)
  assert set(evaluator.prompts) == {"a nodule", "node", "no nodule", "no node"}
  for kind, x in (("tcsim", "tcsim"), ("global", "cosine")):
    x = context.studies.known[x]
    yes = [np.exp(2.0 * x[t].astype(float)) for t in ("a nodule", "node")]
    no = [np.exp(2.0 * x[t].astype(float)) for t in ("no nodule", "no node")]
    want = (yes[0] / (yes[0] + no[0]) + yes[1] / (yes[1] + no[1])) / 2
    np.testing.assert_allclose(table[f"{kind}/Nodule"], want, rtol=1e-10)
  called = table["tcsim/Nodule"] > 0.5
  labels = table["label/Nodule"]
  assert found["bench/accuracy@half/Nodule"].value == pytest.approx(
      np.mean(called[labels >= 0] == labels[labels >= 0]))
  assert "bench/threshold@half/Nodule" not in found


def test_the_best_prompt_counts_and_the_average_stands_beside():
  context = _context(_spec(combine="best"), threshold_split="valid")
  labels = context.studies.labels
  x = context.studies.known["tcsim"]
  x["a nodule"] = -x["a nodule"]                       # the second is better
  evaluator, table, found = _run(context)
  assert "tcsim/Nodule" not in table and "tcsim/Nodule#1" in table
  second = _auc(labels[:, 0], x["node"])
  assert second > _auc(labels[:, 0], x["a nodule"])
  assert found["bench/tcsim/Nodule"].value == pytest.approx(second, rel=1e-12)
  average = _auc(labels[:, 0], (x["a nodule"].astype(float) + x["node"]) / 2)
  assert found["bench/average/tcsim/Nodule"].value == pytest.approx(
      average, rel=1e-12)
  y = context.studies.known["cosine"]
  assert found["bench/mean_global"].value == pytest.approx(np.mean([
      max(_auc(labels[:, 0], y[t]) for t in ("a nodule", "node")),
      _auc(labels[:, 1], y["emphysema"])]), rel=1e-12)
  valid = evaluator.meta()["valid_thresholds"]
  assert (found["bench/threshold@valid/Nodule"].value
          == valid["tcsim/Nodule#1"])
  drawn = {e.text for e in evaluator.examples(table)}
  assert "a nodule" not in drawn and "node" in drawn


def test_labels_are_taken_by_name_and_a_missing_one_is_said(capsys):
  turned = dict(reversed(FINDINGS.items()))
  context = _context(_spec({
      "Nodule": Task(label="Lung nodule", prompts=("a nodule",)),
      "Hernia": Task(label="Hiatal hernia", prompts=("node",))}),
                     findings=turned)
  _, table, found = _run(context)
  np.testing.assert_array_equal(table["label/Nodule"],
                                context.studies.labels[:, 1])
  assert "no label Hiatal hernia" in capsys.readouterr().out
  missing = found["bench/tcsim/Hernia"]
  assert np.isnan(missing.value) and missing.n == 0 and missing.unlabeled == 40
  assert found["bench/mean_tcsim"].n == 1
  assert found["bench/mean_tcsim"].value == found["bench/tcsim/Nodule"].value


def test_labels_of_no_task_are_an_error():
  context = _context(_spec({
      "A": Task(label="Gout", prompts=("node",)),
      "B": Task(label="Flu", prompts=("node",))}))
  with pytest.raises(UserError, match="none of the labels of bench: Gout, Flu. "
                     "It has Lung nodule, Emphysema"):
    zeroshot_auc.Evaluator(context)


def test_vectors_are_not_combined_here():
  with pytest.raises(UserError, match="use 'mean' or 'best'"):
    zeroshot_auc.Evaluator(_context(_spec(combine="vector")))


def test_examples_are_the_studies_that_the_table_says():
  context = _context()
  evaluator, table, _ = _run(context)
  examples = evaluator.examples(table)
  assert {e.group for e in examples} == {
      "Surest hits", "Worst misses", "Worst false alarms"}
  for e in examples:
    task = e.caption.split(" is ")[0]
    assert e.text == FINDINGS[task]["prompts"][0]
    assert e.score == table[f"tcsim/{task}"][e.row]
    present = table[f"label/{task}"][e.row] == 1
    assert ("present" in e.caption) == present
    assert present == (e.group != "Worst false alarms")


def test_the_order_of_studies_changes_no_number():
  context = _context(_spec(combine="best"))
  evaluator = zeroshot_auc.Evaluator(context)
  table, meta = evaluator.collect(), evaluator.meta()
  order = np.random.default_rng(0).permutation(40)
  one, two = (measures.results(
      zeroshot_auc.measure("bench", t, meta), t, num_resamples=20, seed=0)
              for t in (table, {k: v[order] for k, v in table.items()}))
  for name, result in one.items():
    np.testing.assert_allclose(
        [two[name].value, *(two[name].ci95 or [])],
        [result.value, *(result.ci95 or [])], rtol=1e-12, err_msg=name)


def test_copies_of_a_study_belong_to_its_patient():
  """Another reconstruction of a study moves with it in every resample."""
  context = _context()
  evaluator = zeroshot_auc.Evaluator(context)
  table, meta = evaluator.collect(), evaluator.meta()
  twice = {k: np.concatenate([v, v]) for k, v in table.items()}
  one, two = (measures.results(
      zeroshot_auc.measure("z", t, meta), t, num_resamples=20, seed=0)
              for t in (table, twice))
  for name, result in one.items():
    np.testing.assert_allclose(two[name].ci95, result.ci95, rtol=1e-12)
