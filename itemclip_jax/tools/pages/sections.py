"""results.json -> one section for each evaluator, and its headline numbers.

A number is called "<evaluator>/<metric>" or "<evaluator>/<family>/<task>"; one
of the untrained model ends in "_untrained". Grouped by these parts, and put in
words by `report_kinds`, every number of every evaluator has its place; nothing
here knows an evaluator by its name.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from itemclip_jax.evaluators import prompts
from itemclip_jax.evaluators import published
from itemclip_jax.tools.pages import kinds as report_kinds
from itemclip_jax.tools.pages import words
from itemclip_jax.tools.figures.style import is_number

MAX_MODELS = 3                    # published ones beside ours, the best
UNTRAINED = "_untrained"

Entry = dict                      # of results.json, all keys of NO_ENTRY

# results.json leaves out what is 0.
NO_ENTRY = {"value": None, "ci95": None, "n": None, "unlabeled": 0,
            "undefined_resamples": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """One evaluator's numbers, and what is needed to explain them.

  Attributes:
    name: of the evaluator.
    kind: words for it.
    numbers: metric, the name without its first part -> entry.
    keys: metric -> full name.
    published: metric -> model -> published.Number.
    about: what results.json says of the evaluator, {} in old ones.
    checkpoint: what results.json says of the checkpoint.
    table: reads its predictions; None where a run has kept none.
  """
  name: str
  kind: report_kinds.Kind
  numbers: dict[str, Entry]
  keys: dict[str, str]
  published: dict[str, dict[str, published.Number]]
  about: dict
  checkpoint: dict
  table: Callable[[], dict[str, np.ndarray] | None]

  @property
  def title(self) -> str:
    """A heading for people."""
    return words.TITLES.get(
        self.name, self.name.replace("_", " ").capitalize())

  @property
  def spec(self) -> prompts.PromptSet | None:
    """The prompt set that comes with the code under this name."""
    return (prompts.load(self.name) if self.name in prompts.names() else None)

  def family(self, family: str) -> dict[str, Entry]:
    """Task -> entry of "<family>/<task>"."""
    parts = {metric: split(metric) for metric in self.numbers}
    return {task: self.numbers[metric]
            for metric, (found, task) in parts.items()
            if found == family and task}

  def models(self, family: str) -> dict[str, dict[str, float]]:
    """Published model -> task -> value, the best few by their mean."""
    found = {}
    for task in self.family(family):
      for model, number in self.published.get(f"{family}/{task}", {}).items():
        found.setdefault(model, {})[task] = number.value
    best = sorted(found, key=lambda m: -np.mean(list(found[m].values())))
    return {model: found[model] for model in best[:MAX_MODELS]}

  def best(self, metric: str) -> dict[str, published.Number]:
    """Model -> published value of one number, the best few; low ranks win."""
    sign = 1 if metric.endswith("rank") else -1
    found = self.published.get(metric, {}).items()
    return dict(sorted(found, key=lambda m: sign * m[1].value)[:MAX_MODELS])


def sections(
    results: dict,
    *,
    dataset: str,
    table_of: Callable[[str], dict[str, np.ndarray] | None],
) -> list[Section]:
  """One per evaluator, in the order of results.json."""
  about = results.get("about", {})
  known = published.load(dataset)
  groups = {}
  for key, entry in results.items():
    if "/" in key:
      first, metric = key.split("/", 1)
      owner = words.OWNERS.get(first, first)
      groups.setdefault(owner, {})[_by_family(metric)] = (key, entry)
  made = []
  for name, found in groups.items():
    own = about.get("evaluators", {}).get(name, {})
    made.append(Section(
        name=name,
        kind=report_kinds.KINDS.get(own.get("module", name),
                                    report_kinds.UNKNOWN),
        numbers={m: NO_ENTRY | entry for m, (_, entry) in found.items()},
        keys={metric: key for metric, (key, _) in found.items()},
        published={metric: known[key] for metric, (key, _) in found.items()
                   if key in known},
        about=own, checkpoint=about.get("checkpoint", {}),
        table=lambda name=name: table_of(name)))
  return made


def split(metric: str) -> tuple[str, str]:
  """("tcsim", task) of "tcsim/<task>"; the task is "" where there is none."""
  prefix = next((p for p in words.VARIANTS if metric.startswith(p)), "")
  family, _, task = metric.removeprefix(prefix).partition("/")
  return prefix + family, task


def _by_family(metric: str) -> str:
  """Moves "_untrained" from the task to the family."""
  if metric.startswith("untrained/"):                # as old files have it
    return "tcsim_untrained/" + metric.removeprefix("untrained/")
  family, task = split(metric)
  return (f"{family}{UNTRAINED}/{task.removesuffix(UNTRAINED)}"
          if task.endswith(UNTRAINED) else metric)


def cards(section: Section) -> list[dict]:
  """Headline numbers that were measured, with marks on a scale from 0 to 1."""
  made = []
  for card in section.kind.cards:
    if card.metric not in section.numbers:
      continue
    entry = section.numbers[card.metric]
    others = [dict(section.numbers[metric], what=what)
              for what, name in card.compared()
              if (metric := _by_family(name)) in section.numbers]
    others += [dict(NO_ENTRY, value=number.value, what=f"{model}, published")
               for model, number in section.best(card.metric).items()]
    made.append(dict(
        entry, title=card.title, meaning=card.meaning, unit=card.unit,
        others=others, scale=_scale(entry), marks=[
            dict(what=o["what"], x=_position(o["value"]))
            for o in others if is_number(o["value"])]))
  return made


def cautions(section: Section) -> list[str]:
  """Why published numbers may not be comparable, each said once."""
  said = {}
  for metric, models in section.published.items():
    for number in models.values():
      if number.caution:
        said.setdefault(number.caution, {})[metric.split("/")[-1]] = None
  return [f"{', '.join(metrics)}: {caution}"
          for caution, metrics in said.items()]


def sources(section: Section) -> list[str]:
  """Where the published numbers that are shown stand."""
  return list(dict.fromkeys(n.source for models in section.published.values()
                            for n in models.values()))


def _position(value: float) -> float:
  """Place on a scale from 0 to 1, in per cent."""
  return round(100 * min(1.0, max(0.0, value)), 2)


def _scale(entry: Entry) -> dict | None:
  """Where value and interval lie; None if undefined or not from 0 to 1."""
  value, ends = entry["value"], entry.get("ci95") or []
  if not is_number(value) or not 0 <= value <= 1:
    return None
  low, high = map(_position, ends) if len(ends) == 2 and all(
      map(is_number, ends)) else (0, 0)
  return dict(x=_position(value), low=low, width=round(high - low, 2))
