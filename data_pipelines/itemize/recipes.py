"""The recipes: what each reads, what it makes, and how that is checked.

Results made by two versions of a recipe may differ; a change of the rules, of
a template or of the lexicon that changes items is a new version.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (ctrate_abnormal,
verify2, dedup); Zhao et al. 2025, https://arxiv.org/abs/2505.21862
(summary_list); Shui et al. 2025, https://arxiv.org/abs/2501.14548 (anatomy);
Liang et al., IEEE JBHI 2025 (triplet).
"""

import dataclasses
from typing import Literal

from data_pipelines.errors import PrepareError

# What the readers of the training files know a normal study by: see
# data_pipelines/volumes/study.py and data_pipelines/reports.py.
NORMAL_STUDY = "Study is unremarkable"
NORMAL_CHEST_CT = "no significant abnormalities"


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A way to take texts apart.

  Attributes:
    reads: the sections of a report, or the captions of a picture.
    gives: which field of a Draft it fills.
    normal: the only item of a study in which nothing was found, if it has one.
    checks: functions of checks.py that its drafts pass through, in order.
  """
  name: str
  version: str
  about: str
  reads: Literal["sections", "captions"]
  gives: Literal["items", "anatomies", "triplets"]
  normal: str | None = None
  checks: tuple[str, ...] = ()


_REPORT = ("identifiers", "grounding", "polarity", "length",
           "normal_consistency", "coverage", "independence")

RECIPES = {recipe.name: recipe for recipe in (
    Recipe("ctrate_abnormal", "1",
           "the abnormal sentences of a report, unchanged",
           reads="sections", gives="items", normal=NORMAL_CHEST_CT,
           checks=_REPORT),
    Recipe("summary_list", "1",
           "the distinct abnormal findings of a report, short",
           reads="sections", gives="items", normal=NORMAL_STUDY,
           checks=_REPORT),
    Recipe("verify2", "1",
           "what at least two captions of a picture say",
           reads="captions", gives="items",
           checks=("identifiers", "support", "length", "independence")),
    Recipe("dedup", "1",
           "the captions of a picture without their duplicates",
           reads="captions", gives="items", checks=("identifiers", "length")),
    Recipe("anatomy", "1",
           "what a report says of each anatomy, and whether it is normal",
           reads="sections", gives="anatomies", checks=("identifiers",)),
    Recipe("triplet", "1",
           "severity, location and category of each finding of a report",
           reads="sections", gives="triplets", checks=("grounding",
                                                       "polarity")),
)}


def get(name: str) -> Recipe:
  """Raises PrepareError where there is no such recipe."""
  if name not in RECIPES:
    raise PrepareError(f"There is no recipe {name!r}; use one of "
                       f"{', '.join(RECIPES)}.")
  return RECIPES[name]
