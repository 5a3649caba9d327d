"""ItemizedCLIP, one term after the other, in the order of the paper.

    ./run.sh study --name=ladder --budget=small
"""

from configs.study import objectives
from itemclip_jax.config import comparison
from itemclip_jax.config.comparison import Published, Row

_SOURCE = ("Lyu et al. 2025, ablation of brain MRI, as noted by a third party; "
           "before TCS stands FLAIR: 78.7, 31.12 and 11.4")

# Each row keeps what the rows above it added.
_STEPS = {
    "tcs": ("TCS", {"loss.iis_weight": 0.0, "loss.mps_weight": 0.0,
                    "loss.uwp_factor": 1.0, "loss.kta_weight": 0.0,
                    "loss.token_drop_rate": 0.0}),
    "iis": ("+ IIS", ("loss.iis_weight",)),
    "mps": ("+ MPS", ("loss.mps_weight",)),
    "uwp": ("+ UWP", ("loss.uwp_factor",)),
    "kta": ("+ KTA", ("loss.kta_weight",)),
    "mask": ("+ mask", ("loss.token_drop_rate",)),
}


def _rows() -> dict[str, Row]:
  rows, before, off = {}, "", {}
  for name, (title, step) in _STEPS.items():
    off = step if isinstance(step, dict) else {
        k: v for k, v in off.items() if k not in step}
    rows[name] = Row(title=title, changes=off, against=before)
    before = name
  return rows


def get_study() -> comparison.Study:
  published = lambda title, beside, *values: Published(
      title=title, beside=beside, source=_SOURCE,
      values=dict(zip(_STEPS, values)))
  return comparison.Study(
      place=2, title="The ladder of losses",
      question="What does each term of ItemizedCLIP add to the row above it?",
      effort="the weights are the demo's, found for all terms together; no row "
             "was tuned on its own.",
      parts={"brain": comparison.Part(
          dataset="phantom_brain", base=objectives.base,
          numbers=objectives.NUMBERS[1:],
          published=(
              published("Pub-Brain-5 bACC %", "AUC by TCSim",
                        79.9, 81.2, 81.9, 81.6, 82.7, 83.6),
              published("BraTS IoU %", "IoU", 9.1, 6.5, 16.1, 18.1, 15.9, 17.5),
              published("MRI MLL x 100", "worst item, MLL",
                        38.56, 40.29, 39.43, 42.96, 42.46, 43.83)))},
      rows=_rows(),
      budgets={"small": comparison.Budget(steps=400, seeds=(0,)),
               "full": comparison.Budget(steps=2400, seeds=(0, 1, 2))})


def get_config(row: str):
  """The settings of one row."""
  return get_study().config(row)
