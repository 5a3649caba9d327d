"""Texts joined at random to longer ones, on pictures and on MRI.

    ./run.sh study --name=diverse_sampling --budget=small
"""

from configs import demo
from configs.study import objectives
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Number, Published, Row

_ON = {"text.diverse_max_merge": 3, "text.diverse_prob": 0.5,
       "text.diverse_count": "to_max"}
_TABLE = "Lyu et al. 2025, supplement, Table 16"

_RETRIEVAL = tuple(
    Number(title=title, result=f"retrieval/{name}", better=better)
    for title, name, better in (
        ("text to image R@1", "text_to_image/r@1", "higher"),
        ("image to text R@1", "image_to_text/r@1", "higher"),
        ("text to image R@10", "text_to_image/r@10", "higher"),
        ("mean rank of the image", "text_to_image/mean_rank", "lower")))


def _scenes():
  """The demo's text tower and losses with a small ViT for 64 x 64 pixels."""
  config = demo.get_config()
  config.data.dataset = "digit_scenes"
  config.data.max_series = 1
  config.vision.update(
      tower="vit", volume_shape=(3, 64, 64), patch=(3, 8, 8), width=64, depth=3,
      num_heads=4, study_blocks=(), series_embedding="none")
  config.text.max_tokens = 72    # of three captions joined
  config.loss.normal_check = False
  config.eval.evaluators = ("retrieval",)
  config.eval.untrained = False
  return config


def _brain():
  config = objectives.base()
  config.text.max_tokens = 72
  return config


def get_study() -> comparison.Study:
  return comparison.Study(
      place=4, title="Diverse sampling",
      question="Does joining up to three texts at random help on pictures and "
               "hurt on medical images, as the paper found?",
      effort="none: one set of settings, found without diverse sampling.",
      parts={
          "scenes": comparison.Part(
              dataset="digit_scenes", base=_scenes, numbers=_RETRIEVAL,
              published=(
                  Published(title="MSCOCO I@1 %", beside="text to image R@1",
                            source=_TABLE,
                            values={"scenes_off": 4.5, "scenes_on": 6.1}),
                  Published(title="MSCOCO T@1 %", beside="image to text R@1",
                            source=_TABLE,
                            values={"scenes_off": 6.0, "scenes_on": 8.1}))),
          "brain": comparison.Part(
              dataset="phantom_brain", base=_brain,
              numbers=objectives.NUMBERS[1:],
              published=(Published(
                  title="CT-RATE mean AUC %", beside="AUC by TCSim",
                  source=_TABLE,
                  values={"brain_off": 83.2, "brain_on": 81.6}),)),
      },
      rows={
          "scenes_off": Row(title="pictures, off", part="scenes"),
          "scenes_on": Row(title="pictures, on", part="scenes", changes=_ON,
                           against="scenes_off"),
          "brain_off": Row(title="MRI, off", part="brain"),
          "brain_on": Row(title="MRI, on", part="brain", changes=_ON,
                          against="brain_off"),
      },
      budgets={"small": comparison.Budget(steps=400, seeds=(0,)),
               "full": comparison.Budget(steps=2400, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
