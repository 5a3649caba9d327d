"""Phantoms whose items come out of free text, by the rules of itemisation."""

import json
import pathlib
from typing import Any

import numpy as np

from data_pipelines.itemize import engine
from data_pipelines.itemize import similarity
from data_pipelines.phantom import free_text

Entry = dict[str, Any]    # of <split>.json, see volumes/study.py
RECIPE = "summary_list"


def itemised(path: pathlib.Path, seed: list[int],
             entries: dict[str, Entry]) -> dict[str, Entry]:
  """The studies with items of their own free text.

  Args:
    path: where the free text goes, JSON Lines as data_pipelines.itemize reads.
    seed: of the split; a report depends on it and on the study's number only.
    entries: of a split, in the order of their numbers.
  """
  lines, out = [], {}
  for number, (study, entry) in enumerate(entries.items()):
    rng = np.random.default_rng([*seed, number, 1])  # 1: not the images' draws
    about = {lesion["item"]: lesion["finding"] for lesion in entry["lesions"]}
    line = {"id": study,
            "sections": free_text.write(rng, entry["report"], about)}
    items = [item.text for item in engine.itemize(line, RECIPE).items]
    lines.append(json.dumps(line) + "\n")
    out[study] = entry | {"report": items, "lesions": _outlined(entry, items)}
  path.write_text("".join(lines))
  return out


def _outlined(entry: Entry, items: list[str]) -> list[dict[str, Any]]:
  """The lesions by the numbers of other items; those of none are left out.

  An item that speaks of a lesion has the generator's words; in the lesion map
  it keeps its old number.
  """
  folded = [similarity.fold(item) for item in items]
  lesions = []
  for lesion in entry["lesions"]:
    said = similarity.fold(entry["report"][lesion["item"]])
    where = next((k for k, item in enumerate(folded) if said in item), None)
    if where is not None:
      lesions.append(lesion | {"item": where, "values": [lesion["item"] + 1]})
  return lesions
