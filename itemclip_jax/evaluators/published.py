"""The papers' numbers, in our units and under the names of ours.

`published.json` is a list of tables: "source", the "datasets" that the numbers
are of, "numbers" { "<evaluator>/<metric>": {"<model>": value} } and, optional,
"cautions" { "<evaluator>/<metric>": "why it may not be comparable" }.
"""

import dataclasses
import functools
import json
import pathlib

_FILE = pathlib.Path(__file__).with_name("published.json")


@dataclasses.dataclass(frozen=True)
class Number:
  """One published value.

  Attributes:
    value: an AUC of 0.832, not of 83.2.
    source: paper and table.
    caution: why it may not be comparable; "" where nothing is known.
  """
  value: float
  source: str
  caution: str = ""


def load(dataset: str) -> dict[str, dict[str, Number]]:
  """Full name of a number -> model -> what was published, on this data set."""
  found = {}
  for table in _tables():
    if dataset not in table["datasets"]:
      continue
    cautions = table.get("cautions", {})
    for name, models in table["numbers"].items():
      found.setdefault(name, {}).update({
          model: Number(value, table["source"], cautions.get(name, ""))
          for model, value in models.items()})
  return found


@functools.cache
def _tables() -> list[dict]:
  return json.loads(_FILE.read_text())
