"""The probe against Newton's method, and what it may and may not learn from."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import linear_probe
from tests.evaluators import embedded

FINDINGS = ("mass", "bleed", "rare")


def _studies(size, seed, known=0.9):
  """Findings are noisy linear functions of the vectors; two studies a patient.

  "rare" has a single positive.
  """
  rng = np.random.default_rng(seed)
  image = 3 + 2 * rng.normal(size=(size, 8))
  image[:, 7] = 5.0                                 # tells nothing
  signal = (image - 3) @ np.random.default_rng(0).normal(size=(8, 3))
  labels = (signal + 4 * rng.normal(size=signal.shape) > 0).astype(np.int8)
  labels[:, 2] = np.arange(size) == 0
  labels[rng.random(labels.shape) > known] = -1
  labels[0] = 1
  return embedded.Studies(
      image.astype(np.float32), labels, FINDINGS,
      patient_id=np.array([f"{seed}-{i // 2}" for i in range(size)]))


def _newton(x, y):
  """Weights [E + 1] of the objective in the module's head, the bias last."""
  x = np.column_stack([x, np.ones(len(x))])
  free = np.append(np.ones(x.shape[1] - 1), 0)      # no penalty on the bias
  C, w = 1 / (x.shape[1] - 1), np.zeros(x.shape[1])
  for _ in range(50):
    p = 1 / (1 + np.exp(-x @ w))
    gradient = free * w + C * x.T @ (p - y)
    w -= np.linalg.solve(np.diag(free) + C * (x.T * p * (1 - p)) @ x, gradient)
  return w


def _evaluator(train, test, **changes):
  return linear_probe.Evaluator(embedded.context(
      "linear_probe", test, other={"train": train}.__getitem__, **changes))


def test_logits_are_those_of_the_stated_objective():
  train, test = _studies(80, 1), _studies(30, 2)
  got = linear_probe.probes(train.image, train.labels, test.image)
  mean, deviation = train.image.mean(0), train.image.std(0)
  deviation[7] = 1
  for finding in range(3):
    known = train.labels[:, finding] >= 0
    w = _newton((train.image[known] - mean) / deviation,
                train.labels[known, finding])
    want = (test.image - mean) / deviation @ w[:-1] + w[-1]
    # lbfgs stops where the gradient is 1e-4.
    np.testing.assert_allclose(got[:, finding], want, atol=5e-3)


def test_scale_and_shift_of_the_vectors_change_nothing():
  train, test = _studies(80, 1), _studies(30, 2)
  moved = lambda x: 100 * x - 7
  got = linear_probe.probes(moved(train.image), train.labels, moved(test.image))
  want = linear_probe.probes(train.image, train.labels, test.image)
  np.testing.assert_allclose(got, want, atol=5e-3)


def test_one_class_has_no_probe():
  labels = np.array([[0, 1, -1, 1], [0, 1, -1, 0], [-1, -1, -1, 1]])
  got = linear_probe.probes(np.eye(3), labels, np.eye(3))
  np.testing.assert_array_equal(np.isnan(got).all(0), [True, True, True, False])


def test_shares_are_nested_whole_patients():
  train = _studies(400, 1, known=0.5)
  train.labels[10:20] = -1                          # patients 5 to 9
  order = linear_probe._shuffled_patients(train, 0)
  assert len(order) < 200 and set(order) <= set(train.patient_id)
  assert not set(order) & {f"1-{i}" for i in range(5, 10)}
  assert (order == linear_probe._shuffled_patients(train, 0)).all()
  assert (order != linear_probe._shuffled_patients(train, 1)).any()

  seen = {}
  probes = linear_probe.probes
  def spy(x, *args, **kwargs):
    seen[len(seen)] = {tuple(row) for row in x}
    return probes(x, *args, **kwargs)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(linear_probe, "probes", spy)
    evaluator = _evaluator(train, _studies(30, 2))
    evaluator.collect()
  assert evaluator.meta()["patients"] == {
      "1%": 2, "10%": round(len(order) / 10), "100%": len(order)}
  assert [len(seen[i]) for i in range(3)] == [
      2 * n for n in evaluator.meta()["patients"].values()]
  assert seen[0] < seen[1] < seen[2]


def test_numbers_agree_with_scikit_learn(capsys):
  train, test = _studies(300, 1), _studies(100, 2)
  evaluator = _evaluator(train, test, min_positives=5)
  table = evaluator.collect()
  meta = json.loads(json.dumps(evaluator.meta()))
  found = linear_probe.measure("lp", table, meta)
  got = embedded.once(found, 100)
  aucs = []
  for f, name in enumerate(FINDINGS):
    known = test.labels[:, f] >= 0
    np.testing.assert_array_equal(table[f"label/{name}"], test.labels[:, f])
    aucs.append(sk.roc_auc_score(test.labels[known, f],
                                 table[f"100%/{name}"][known]))
    assert got[f"lp/100%/auc/{name}"] == pytest.approx(aucs[-1])
  # One positive is reported, but not averaged.
  assert got["lp/100%/mean_auc"] == pytest.approx(np.mean(aucs[:2]))
  assert 0.6 < got["lp/10%/mean_auc"] < got["lp/100%/mean_auc"]
  # The only patient with the rare finding is not in the first hundredth.
  assert np.isnan(got["lp/1%/auc/rare"])
  assert "of 3 findings, such as" in capsys.readouterr().out
  n = dict(zip(found.names, found.support))
  unlabeled = dict(zip(found.names, found.unlabeled))
  assert n["lp/100%/mean_auc"] == 2
  assert n["lp/100%/auc/rare"] == 1
  assert unlabeled["lp/1%/auc/mass"] == (test.labels[:, 0] < 0).sum()


def test_counts_equal_repeated_rows():
  evaluator = _evaluator(_studies(300, 1), _studies(60, 2))
  table, meta = evaluator.collect(), evaluator.meta()
  counts = np.random.default_rng(1).integers(0, 4, (4, 60))
  got = embedded.values(linear_probe.measure("lp", table, meta), counts)
  for r, times in enumerate(counts):
    copied = {k: np.repeat(v, times) for k, v in table.items()}
    want = embedded.once(linear_probe.measure("lp", copied, meta), times.sum())
    for f in FINDINGS:
      name = f"lp/10%/auc/{f}"
      np.testing.assert_allclose(got[name][r], want[name], rtol=1e-12)


def test_a_train_split_without_labels_is_refused():
  train = _studies(20, 1)
  train.labels[:] = -1
  with pytest.raises(UserError, match="'train' holds no label"):
    _evaluator(train, _studies(20, 2)).collect()
