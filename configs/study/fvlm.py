"""fVLM with its three parts on and off, on the chest phantom.

    ./run.sh study --name=fvlm --budget=small

FGA: organs instead of whole volumes; FNCN: two normal organs are a pair; CoT:
two models teach each other.
"""

from configs import fvlm
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Number, Published, Row

_TABLE = "Shui et al. 2025, Table 4, validation set of MedVL-CT69K"
_ROWS = ("clip", "fga", "fncn", "cot", "all")

# The released rule that equal texts are a pair would bring FNCN in by the back
# door, where two normal organs have the same text.
_NO_FNCN = {"fvlm.normal_pairs": "different", "fvlm.equal_texts": "different"}
_COT = {"fvlm.co_teaching": "on", "fvlm.burn_in_steps": 100}


def _base():
  """The phantom of fVLM, asked by organ and as a whole."""
  config = fvlm.get_config("phantom")
  config.eval.evaluators = ("phantom_chest_organs", "phantom_chest_whole")
  config.eval.untrained = False
  return config


def get_study() -> comparison.Study:
  own = lambda title, changes, **more: Row(
      title=title, prompts="phantom_chest_organs", against="clip",
      changes=changes, **more)
  return comparison.Study(
      place=5, title="fVLM",
      question="What do fine-grained alignment (FGA), the correction of normal "
               "pairs (FNCN) and co-teaching (CoT) add to CLIP?",
      effort="none: one set of settings, found for FGA with FNCN. With CoT two "
             "models take turns, so these rows have twice the steps: each of "
             "the two is updated as often as the others' one. The first is "
             "measured.",
      parts={"chest": comparison.Part(
          dataset="phantom_chest", base=_base,
          # Where all normal organs have one text, FNCN changes no gradient.
          options={"num_train": 800, "num_test": 240,
                   "normal_texts": "varied"},
          # CLIP learns no organ vectors, and fVLM no global one.
          numbers=(Number(title="AUC, own rule", result="{prompts}/mean_tcsim",
                          result_global="{prompts}/mean_global"),),
          published=tuple(Published(
              title=f"MedVL {metric} %", source=_TABLE, beside="AUC, own rule",
              values=dict(zip(_ROWS, values))) for metric, values in (
                  ("AUC", (70.9, 76.0, 78.7, 77.5, 79.8)),
                  ("ACC", (69.3, 74.0, 75.3, 74.6, 75.9)))))},
      rows={
          "clip": Row(title="CLIP", rule="global",
                      prompts="phantom_chest_whole", changes={
                          "objective": "clip", "text.form": "report",
                          "text.max_items": 1, "text.max_tokens": 144}),
          "fga": own("+ FGA", _NO_FNCN),
          "fncn": own("+ FGA + FNCN", {}),
          "cot": own("+ FGA + CoT", _NO_FNCN | _COT, share=2.0),
          "all": own("+ FGA + FNCN + CoT", _COT, share=2.0),
      },
      budgets={"small": comparison.Budget(steps=240, seeds=(0,)),
               "full": comparison.Budget(steps=1200, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
