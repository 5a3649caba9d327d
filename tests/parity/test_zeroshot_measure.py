"""What `--mode=eval` would write for recorded chest CT scores."""

import numpy as np

from itemclip_jax.evaluators import measures
from itemclip_jax.evaluators import zeroshot_auc
from tests.parity.compare import assert_close

FAMILY = "zeroshot_ct_rate"

# Theirs -> ours; what they call balanced is plain accuracy.
NAMES = {"acc_balanced": "accuracy", "f1_weighted": "f1_weighted",
         "recall": "recall", "precision": "precision"}


def _measured(data) -> tuple[list[str], dict[str, measures.Result]]:
  tasks = [str(name) for name in data["cfg.classnames"]]
  scores, labels = data["out.similarity"], data["in.labels"]
  table = {"patient_id": np.arange(len(labels)).astype(str)}
  for t, task in enumerate(tasks):
    table |= {f"tcsim/{task}": scores[:, t], f"global/{task}": scores[:, t],
              f"label/{task}": labels[:, t]}
  meta = {"tasks": {task: {"label": task, "prompts": [str(p)], "negatives": []}
                    for task, p in zip(tasks, data["cfg.prompts"])},
          "pair": False, "best": False, "min_positives": 1,
          "threshold_points": 1000, "valid_thresholds": None}
  return tasks, measures.results(
      zeroshot_auc.measure("ct_rate", table, meta), table, num_resamples=10,
      seed=0)


def test_numbers_of_every_task_agree(data):
  tasks, found = _measured(data)
  of = lambda metric: np.array(
      [found[f"ct_rate/{metric}/{task}"].value for task in tasks])
  assert_close(of("tcsim"), data["out.per_class.auc"], "AUC")
  assert_close(of("threshold@test"), data["out.threshold"], "threshold")
  assert_close(of("balanced_accuracy@test"),
               data["out.extra.true_balanced_accuracy_per_class"],
               "balanced accuracy")
  for theirs, ours in NAMES.items():
    values = of(f"{ours}@test")
    if ours == "precision":  # where nothing is called, theirs is 0
      values = np.nan_to_num(values)
    assert_close(values, data[f"out.per_class.{theirs}"], theirs)


def test_means_over_tasks_agree(data):
  _, found = _measured(data)
  assert_close(found["ct_rate/mean_tcsim"].value, data["out.mean.auc"], "AUC")
  assert_close(
      found["ct_rate/mean_balanced_accuracy@test"].value,
      data["out.extra.true_balanced_accuracy_per_class"].mean(),
      "balanced accuracy")
  for theirs, ours in NAMES.items():
    if ours == "precision" and not data["out.per_class.precision"].all():
      continue  # theirs averages a made-up 0 where nothing is called
    assert_close(found[f"ct_rate/mean_{ours}@test"].value,
                 data[f"out.mean.{theirs}"], f"mean {theirs}")
