"""The tasks of our prompt set for Pub-Brain-5 against recorded numbers."""

import numpy as np

from itemclip_jax.evaluators import classify, confusion, prompts
from tests.evaluators import embedded
from tests.parity.compare import assert_close

FAMILY = "metrics_pub_brain_5"

# As the files call what the prompt set and our metrics call otherwise.
TASKS = {"tumor_classification": "tumour", "disease_classification": "disease"}
METRICS = {"balanced_acc": "balanced_accuracy", "weighted_f1": "f1_weighted"}


def test_the_prompt_set_asks_what_was_asked(data):
  options = prompts.load("pub_brain_5").options
  names = data["cfg.class_order"].tolist()
  assert list(options["classes"]) == names
  assert [c["prompts"] for c in options["classes"].values()] == [
      [p] for p in data["cfg.prompts"].tolist()]


def test_metrics_agree(data):
  options = prompts.load("pub_brain_5").options
  names = data["cfg.class_order"]
  rows = np.arange(len(data["in.logits"])).astype(str)
  table = {"study_id": rows, "patient_id": rows,
           "truth": names[data["in.labels_onehot"].argmax(1)]}
  table |= {f"{family}/{c}": x for family in ("tcsim", "global")
            for c, x in zip(names, data["in.logits"].T, strict=True)}
  found = classify.measure("pub_brain_5", table, {
      "classes": names.tolist(), "tasks": options["tasks"],
      "metrics": confusion.METRICS, "without_class": 0})
  ours = embedded.once(found, len(rows))

  theirs = [key.split(".")[1:] for key in data if key.startswith("out.")]
  assert len(theirs) >= 6
  for task, metric in theirs:
    name = (f"{METRICS.get(metric, metric)}/"
            f"{TASKS.get(task, task.removesuffix('_detection'))}")
    # Where nothing is called, ours is undefined and theirs 0.
    assert_close(np.nan_to_num(ours[f"pub_brain_5/{name}"]),
                 data[f"out.{task}.{metric}"], name)
