"""Binary metrics against recorded numbers."""

import numpy as np

from itemclip_jax.evaluators import metrics
from tests.parity.compare import assert_close

FAMILY = "metrics_binary"


def at_best_threshold(scores, labels) -> dict[str, float]:
  """All metrics, with the threshold that they belong to."""
  threshold = metrics.roc_threshold(scores, labels)
  values = metrics.at_threshold(scores, labels, threshold) | {
      "auc": metrics.roc_auc(scores, labels), "threshold": threshold}
  # Where nothing is called, ours is undefined and theirs 0.
  return values | {"precision": np.nan_to_num(values["precision"])}


def test_metrics_agree(data):
  cases = [k.split(".")[1] for k in data if k.endswith(".scores")]
  assert cases
  for case in cases:
    scores, labels = data[f"in.{case}.scores"], data[f"in.{case}.labels"]
    ours = at_best_threshold(scores, labels)
    for name, value in ours.items():
      assert_close(value, data[f"out.{case}.{name}"], f"{case}.{name}")
    np.testing.assert_array_equal(scores > ours["threshold"],
                                  data[f"out.{case}.predictions"])
