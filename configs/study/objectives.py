"""Whole reports, sentences or items: six objectives on the demo's MRI phantoms.

    ./run.sh study --name=objectives --budget=small
"""

from configs import demo
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Number, Published, Row

EFFORT = (
    "one set of settings for all rows, the demo's. They were found for "
    "ItemizedCLIP; nothing was tuned for any other row, which favours "
    "ItemizedCLIP.")
_NOTES = ("Lyu et al. 2025, ablation and baselines of brain MRI, as noted by a "
          "third party; its other cells could not be retrieved")

NUMBERS = (
    Number(title="AUC, own rule", result="zeroshot_auc/mean_tcsim",
           result_global="zeroshot_auc/mean_global"),
    Number(title="AUC by TCSim", result="zeroshot_auc/mean_tcsim"),
    Number(title="AUC by global vector", result="zeroshot_auc/mean_global"),
    Number(title="pointing", result="pointing/top1"),
    Number(title="IoU", result="segmentation/iou"),
    Number(title="item overlap, mAMS", result="item_overlap/mams",
           better="lower"),
    Number(title="worst item, MLL", result="item_overlap/mll"))

# All items in one text, as many word pieces as they have together.
_REPORT = {"text.form": "report", "text.max_items": 1, "text.max_tokens": 144,
           "joint.pooling": "similarity"}
_ITEMS = {"joint.pooling": "similarity"}

_PUBLISHED = (
    Published(title="Pub-Brain-5 bACC %", beside="AUC, own rule", source=_NOTES,
              values={"hlip": 76.5, "flair": 78.7, "itemized": 83.6}),
    Published(title="RSICD top-1 %", beside="AUC, own rule",
              source="Lyu et al. 2025, zero-shot on RSICD, likewise",
              values={"multi_positive": 46.3, "itemized": 46.2}),
    Published(title="BraTS IoU %", beside="IoU", source=_NOTES,
              values={"flair": 11.4, "itemized": 17.5}),
    Published(title="MRI MLL x 100", beside="worst item, MLL", source=_NOTES,
              values={"flair": 31.12, "itemized": 43.83}))


def base():
  """The demo, measured in what the paper reports."""
  config = demo.get_config()
  config.eval.evaluators = ("zeroshot_auc", "segmentation", "item_overlap")
  config.eval.untrained = False
  return config


def get_study() -> comparison.Study:
  row = lambda title, objective, rule, text, **more: Row(
      title=title, rule=rule, against="itemized",
      changes={"objective": objective} | text, **more)
  return comparison.Study(
      place=1, title="Objectives",
      question="Of the same tower, data and steps: what does it matter how the "
               "objective reads a list of findings?",
      effort=EFFORT,
      parts={"brain": comparison.Part(
          dataset="phantom_brain", base=base, numbers=NUMBERS,
          published=_PUBLISHED)},
      rows={
          "clip": row("CLIP", "clip", "global", _REPORT),
          "siglip": row("SigLIP", "siglip", "global", _REPORT),
          "hlip": row("HLIP, dual contrast", "hlip", "global", {
              **_REPORT, "text.form": "report_and_sentence",
              "text.max_items": 2, "vision.class_tokens": 2},
              budgets=("full",)),
          "multi_positive": row("multi-positive SigLIP", "multi_positive",
                                "global", _ITEMS),
          "dreamlip": row("DreamLIP", "dreamlip", "global", _ITEMS),
          "flair": row("FLAIR", "flair", "tcsim", {}),
          "itemized": Row(title="ItemizedCLIP"),
      },
      budgets={"small": comparison.Budget(steps=600, seeds=(0,)),
               "full": comparison.Budget(steps=2400, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
