"""Choices among findings of the chest: their prompts, and macro-F1."""

import numpy as np
import pytest
from sklearn import metrics

from itemclip_jax.evaluators import confusion, prompts


@pytest.mark.parametrize("name, classes", [
    ("eclip_5x200", 5), ("eclip_rsna", 2), ("eclip_cxr14", 14)])
def test_prompts_are_distinct_and_averaged_to_one_text(name, classes):
  found = prompts.load(name)
  assert found.combine == "vector" and found.evaluator == "classify"
  entries = found.options["classes"].values()
  assert len(entries) == classes == len({e["label"] for e in entries})
  texts = [p for e in entries for p in e["prompts"]]
  assert len(texts) == len(set(texts))
  assert all(p == " ".join(p.split()) for p in texts)


def test_macro_f1_and_accuracy_are_scikit_learns():
  rng = np.random.default_rng(0)
  truth, scores = rng.integers(0, 4, 60), rng.normal(size=(60, 4))
  scores[:, 3] -= 9  # a class that is never called
  called = scores.argmax(1)
  got = confusion.statistic(scores, truth, ("f1_macro", "accuracy"),
                            positive=0)(np.ones((1, 60)))
  np.testing.assert_allclose(got[0], [
      metrics.f1_score(truth, called, average="macro", zero_division=0),
      metrics.accuracy_score(truth, called)])
