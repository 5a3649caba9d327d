"""MedFILIP's prompt sets are its dictionary, word for word."""

import pytest

from data_pipelines.phantom import radiograph_findings
from itemclip_jax.config import schema
from itemclip_jax.data import knowledge, triplets
from itemclip_jax.evaluators import prompts

SETTINGS = schema.Medfilip()
FIVE = ("edema", "pneumonia", "atelectasis", "effusion", "pneumothorax")
KINDS = radiograph_findings.KINDS


def said(category, severity="") -> tuple[str, ...]:
  """What training would say of such a label, as one prompt."""
  label = triplets.Label(severity, "", category, 0)
  return (triplets.text(label, SETTINGS),)


def grades(kinds, knowledge_of=said):
  return {f"{grade} {name}": (f"{name}, {grade}", knowledge_of(name, grade))
          for name, all_three in kinds for grade in all_three}


WANTED = {
    "medfilip_16": {c: (c, said(c)) for c in knowledge.evaluated()},
    "medfilip_16_category": {c: (c, (f"This is an X-ray image of {c}.",))
                             for c in knowledge.evaluated()},
    "medfilip_fg": grades((c, ("mild", "moderate", "severe")) for c in FIVE),
    "medfilip_covid": {
        "category": ("covid-19", ("This is an X-ray image of pneumonia.",)),
        "explanation": ("covid-19", said("covid-19"))},
    "medfilip_phantom": {k.name: (k.name, said(k.name)) for k in KINDS},
    "medfilip_phantom_category": {k.name: (k.name, (k.name,)) for k in KINDS},
    "medfilip_phantom_fg": grades((k.name, k.grades) for k in KINDS),
    "medfilip_phantom_fg_category": grades(
        ((k.name, k.grades) for k in KINDS),
        lambda name, grade: (f"{grade} {name}",)),
}


def test_all_of_them_are_here():
  assert WANTED.keys() == {n for n in prompts.names() if "medfilip" in n}


@pytest.mark.parametrize("name", WANTED)
def test_it_asks_what_the_dictionary_says(name):
  spec = prompts.load(name)
  assert (spec.evaluator, spec.threshold_rule, spec.kind) == (
      "zeroshot_auc", "best_f1", "single")
  assert {task: (t.label, t.prompts) for task, t in spec.tasks.items()} == (
      WANTED[name])
  assert "MedFILIP" in spec.source


def test_the_five_are_the_last_of_the_list():
  assert knowledge.trained()[-5:] == FIVE
