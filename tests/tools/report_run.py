"""A made-up run directory with something for every part of a report."""

import json
import math
import pathlib

from matplotlib.figure import Figure
import numpy as np

from itemclip_jax.evaluators import predictions

FINDINGS = {"cyst": (0.91, 30), "cyst in the pons": (0.62, 12),
            "mass in the <left> lobe": (None, 0), "rare": (math.nan, 1)}
CLASSES = ("Normal", "Stroke", "Glioma")
# Attention 2, training 1, and by evaluator: zeroshot_auc 1, ct_rate 3,
# pub_brain_5 3, retrieval 1, linear_probe 1.
NUM_IMAGES = 12


def entry(value, n, width=0.0313, **rare) -> dict:
  """One number of results.json."""
  known = value is not None and math.isfinite(value)
  return {"value": value, "n": n,
          "ci95": [value - width, value + width] if known else None} | rare


def results() -> dict:
  """Numbers of nine evaluators, hardly two alike, and what they are of."""
  values = {
      "zeroshot_auc/mean_tcsim": 0.8412, "zeroshot_auc/mean_global": 0.7923,
      "zeroshot_auc/mean_untrained": 0.5034, "pointing/top1": 0.6145,
      "pointing/chance": 0.0056, "pointing/untrained": 0.0167,
      "pointing/series_top1": 0.7278, "pointing/series_chance": 0.3389,
      "pointing/series_top1_untrained": 0.3391,
      "segmentation/iou": 0.1491, "segmentation/iou_chance": 0.0152,
      "segmentation/dice": 0.2591, "ct_rate/mean_tcsim": 0.8011,
      "ct_rate/mean_untrained": 0.5077, "ct_rate/mean_global": 0.7031,
      "ct_rate/mean_accuracy@test": 0.7541,
      "ct_rate/mean_balanced_accuracy@test": 0.7342,
      "ct_rate/mean_accuracy@valid": 0.7143,
      "ct_rate/mean_balanced_accuracy@valid": 0.6944,
      "ct_rate/mean_accuracy@test_untrained": 0.5145,
      "pub_brain_5/mean_balanced_accuracy": 0.7551,
      "pub_brain_5/global/mean_balanced_accuracy": 0.6552,
      "retrieval/text_to_image/r@1": 0.2161,
      "retrieval/image_to_text/r@1": 0.2262,
      "retrieval/image_to_text/r@1_untrained": 0.0163,
      "retrieval/global/text_to_image/r@1": 0.1164,
      "retrieval/image_to_text/mean_rank": 12.3456,
      "linear_probe/1%/mean_auc": 0.6171, "linear_probe/100%/mean_auc": 0.8172,
      "linear_probe/100%/auc/lipoma": 0.8273,
      "item_overlap/mams": 0.3281, "item_overlap/mll": 0.4282,
      "my_own/what_it_is": 4321.75}
  for i, task in enumerate(("Emphysema", "Atelectasis", "Lung nodule")):
    values[f"ct_rate/tcsim/{task}"] = 0.7211 + i / 50
    values[f"ct_rate/tcsim/{task}_untrained"] = 0.4911 + i / 50
    values[f"ct_rate/accuracy@test/{task}"] = 0.7711 + i / 50
    values[f"ct_rate/threshold@test/{task}"] = 0.1311 + i / 50
  for i, task in enumerate(("stroke", "glioma", "disease")):
    values[f"pub_brain_5/balanced_accuracy/{task}"] = 0.6651 + i / 40
  made = {key: entry(v, 77, 0.0023) for key, v in values.items()}
  for name, (value, n) in FINDINGS.items():
    made[f"zeroshot_auc/tcsim/{name}"] = entry(value, n)
    made[f"zeroshot_auc/untrained/{name}"] = entry(0.4871, n)
  made["ct_rate/tcsim/Emphysema"] |= {"unlabeled": 41,
                                         "undefined_resamples": 13}
  return made | {"about": about()}


def about() -> dict:
  """What results.json says of a model, a data set and evaluators."""
  asked = lambda name: {"name": name, "version": "7b", "sha256": "c3" * 32}
  made = lambda module, spec=None, **meta: {
      "module": module, "prompt_set": spec, "meta": meta}
  return {
      "software": "itemclip_jax 0.9.9",
      "checkpoint": {"folder": "a/release", "step": 4200,
                     "params_sha256": "9f" * 32, "logit_scale": 12.0,
                     "logit_bias": -2.0},
      "data": {"root": "/d", "dataset": "ct_rate", "split": "held_out",
               "studies": 3039, "sha256": "7b" * 32},
      "evaluators": {
          "zeroshot_auc": made("zeroshot_auc"),
          "ct_rate": made("zeroshot_auc", asked("ct_rate"), pair=False,
                          best=False),
          "pub_brain_5": made("classify", asked("pub_brain_5"),
                              classes=list(CLASSES)),
          "my_own": made("not_known_here")}}


def make_run(folder: pathlib.Path) -> pathlib.Path:
  """A run directory with a part for everything that the page can show."""
  folder.mkdir(exist_ok=True)
  write = lambda name, data: (folder / name).write_text(data)
  write("results.json", json.dumps(results()))
  write("metrics.jsonl", "\n".join(
      json.dumps({"step": s, "loss/total": 9.0 / (s + 1), "loss/ila": 1.0,
                  "logit_scale": 14.3,
                  "logit/positive": None if s < 9 else 0.7})
      for s in range(60)))
  write("final.json", json.dumps({
      "step": 2000, "loss": 12.0434, "params_sha256": "8e" * 32}))
  write("config.json", json.dumps({
      "seed": 17, "objective": "itemized_clip",
      "data": {"dataset": "ct_rate"},
      "vision": {"patch": [8, 16, 16]}, "loss": {"mps_weight": 0.1}}))
  (folder / "figures").mkdir()
  for i in range(2):
    figure = Figure((1, 1))
    figure.add_subplot()
    figure.savefig(folder / f"figures/attention_{i}.png", dpi=20)
  write("figures/captions.json", json.dumps({
      "attention_0.png": {"group": "Worst misses", "caption": "A <cyst> & so."},
      "attention_1.png": {"group": "Best of all", "caption": "A mass."}}))
  _write_predictions(folder / "predictions")
  return folder


def _write_predictions(folder):
  rng = np.random.default_rng(0)
  ids = {"study_id": np.array([f"s{i}" for i in range(40)]),
         "patient_id": np.array([f"p{i}" for i in range(40)])}
  scores = {f"tcsim/{t}": rng.normal(size=40) / 4 for t in "ab"}
  labels = {f"label/{t}": rng.integers(-1, 2, 40) for t in "ab"}
  predictions.write(folder / "ct_rate.csv", ids | scores | labels)
  predictions.write(folder / "pub_brain_5.csv", ids | {
      "truth": rng.choice(CLASSES, 40), "predicted": rng.integers(0, 3, 40)})
