"""eCLIP against CLIP, naive use of the heatmaps, DACL and m3-mix.

    ./run.sh study --name=eclip --budget=small
"""

from configs import eclip
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Number, Published, Row

_TABLE = "Kumar and Marttinen 2024, zero-shot macro-F1, {}, mean of three seeds"
_ROWS = ("clip", "naive", "dacl", "m3_mix", "eclip", "continual")


def _base():
  """A small ResNet, and one learning rate for all rows.

  The paper gives eCLIP twice what it gives CLIP. Equal steps and tuning: else
  the rate would be compared, too.
  """
  config = eclip.get_config("clip,phantom")
  # The ViT of `phantom` is at chance when the small budget ends.
  config.vision.update(tower="resnet", patch=(3, 16, 16), width=16,
                       stages=(1, 1, 1))
  config.optimizer.learning_rate = 1e-3
  config.train.warmup_steps = 100
  # Sentences, not whole reports: else a score tells how many findings a study
  # has (docs/study.md, objectives) before it tells which.
  config.text.form = "sentence"
  config.text.max_tokens = 32
  config.eval.checkpoint = "latest"
  config.eval.evaluators = ("zeroshot_auc", "retrieval")
  config.eval.untrained = False
  return config


def get_study() -> comparison.Study:
  experts = {"objective": "eclip", "data.expert_batch": 16}
  row = lambda title, changes, **more: Row(
      title=title, rule="global", against="clip", changes=changes, **more)
  # A tenth of the rate and of the steps, as eCLIP^P: 1000 of 10 000 at 1e-5.
  on = {"start": "clip", "share": 0.1}
  base = _base()
  slower = {"optimizer.learning_rate": base.optimizer.learning_rate / 10,
            "train.warmup_steps": base.train.warmup_steps // 10}
  return comparison.Study(
      place=7, title="eCLIP",
      question="Do heatmaps of where experts looked help CLIP, and does it "
               "take eCLIP to use them?",
      effort="CLIP's alone: tower, rate and steps are from six runs of it, and "
             "hold for all rows. Experts add rows to a batch, so their rows "
             "see more pictures a step; what goes on from CLIP has a tenth "
             "more steps than it.",
      parts={"radiographs": comparison.Part(
          dataset="phantom_radiograph", base=_base,
          numbers=(
              Number(title="AUC by global vector",
                     result="zeroshot_auc/mean_global"),
              Number(title="text to image R@5",
                     result="retrieval/global/text_to_image/r@5"),
              Number(title="image to text R@5",
                     result="retrieval/global/image_to_text/r@5")),
          published=tuple(Published(
              title=f"CheXpert F1, {tower}", source=_TABLE.format(tower),
              beside="AUC by global vector", values=dict(zip(_ROWS, values)))
                          for tower, values in (
                  ("GLoRIA ResNet-50",
                   (0.478, 0.391, 0.506, 0.512, 0.507, 0.507)),
                  ("ViT-S", (0.525, 0.534, 0.475, 0.557, 0.545, 0.559)),
                  ("Swin-T", (0.517, 0.532, 0.465, 0.554, 0.549, 0.558)))))},
      rows={
          "clip": Row(title="CLIP", rule="global"),
          "naive": row("naive", {
              **experts, "eclip.mixing": "none", "eclip.curriculum": "off",
              "eclip.prime_weight": 0.0}),
          "dacl": row("DACL", {"objective": "dacl"}),
          "m3_mix": row("m3-mix", {"objective": "m3_mix", **slower}, **on),
          "eclip": row("eCLIP", experts),
          "continual": row("eCLIP^P", {**experts, **slower}, **on),
      },
      budgets={"small": comparison.Budget(steps=1200, seeds=(0,)),
               "full": comparison.Budget(steps=4000, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
