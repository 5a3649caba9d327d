"""Which organ a finding of the chest is told of, and what is said of each.

As in the organ-wise prompts for CT-RATE (Shui et al. 2025,
https://arxiv.org/abs/2501.14548), a hernia is told of the oesophagus, fluid
around the heart of the heart and pleural fluid of the lung. Masks are those of
the anatomy: a hernia is stomach in them, the fluid around the heart nothing,
pleural fluid still lung. Its neighbours' tokens see it all the same.
"""

from collections.abc import Sequence
from typing import Any

from data_pipelines.organs import grouping
from data_pipelines.organs import texts
from data_pipelines.phantom import chest_normal

GROUPING = grouping.grouping("phantom_chest")

# Kind of chest_findings.py -> organ.
ORGAN = {
    "cardiomegaly": "heart", "pericardial effusion": "heart",
    "coronary artery wall calcification": "heart",
    "hiatal hernia": "esophagus", "arterial wall calcification": "aorta",
    "pleural effusion": "lung", "emphysema": "lung", "lung opacity": "lung",
    "consolidation": "lung", "lung nodule": "lung",
}


# How normal organs are told of: by the default sentence, or by chest_normal.py.
NORMAL_TEXTS = ("default", "varied")


def describe(
    items: Sequence[str],
    findings: Sequence[dict[str, Any]],   # of entry.json
    *,
    normal_texts: str,                    # of NORMAL_TEXTS
    key: Sequence[int],                   # that the subject is drawn from
) -> texts.Texts:
  """The items that tell of each organ, in order; the others are normal."""
  about = {organ: set() for organ in GROUPING.names}
  for found in findings:
    kind = found["finding"].partition(",")[0]
    about[ORGAN[kind]].add(found["item"])
  said = {organ: texts.told(organ, " ".join(items[k] for k in sorted(own)))
          for organ, own in about.items()}
  if normal_texts == "default":
    return said
  return {organ: texts.OrganText(chest_normal.describe(key, organ), True)
          if one.normal else one for organ, one in said.items()}
