"""Are two normal studies negatives of one another?

    ./run.sh study --name=normal_check --budget=small
"""

from configs.study import objectives
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Published, Row


def get_study() -> comparison.Study:
  return comparison.Study(
      place=3, title="Normal check",
      question="Does it help that the sentence of one normal study is no "
               "negative for another one?",
      effort="none: the demo's settings, which were found with the check on.",
      parts={"brain": comparison.Part(
          dataset="phantom_brain", base=objectives.base,
          numbers=objectives.NUMBERS[1:],
          published=(Published(
              title="UM220K mean AUC %", beside="AUC by TCSim",
              source="Lyu et al. 2025, supplement, Table 11",
              values={"on": 90.5, "off": 89.6}),))},
      rows={"on": Row(title="normal check"),
            "off": Row(title="without", against="on",
                       changes={"loss.normal_check": False})},
      budgets={"small": comparison.Budget(steps=400, seeds=(0, 1)),
               "full": comparison.Budget(steps=2400, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
