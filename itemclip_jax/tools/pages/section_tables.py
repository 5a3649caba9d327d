"""The tables of one evaluator: every number that no card shows, and more.

Numbers of tasks stand in one table, a row a task. Calls at a threshold,
"<quality>@<rule>", have tables of their own: their means by rule, with what is
published, and one folded table per rule. The rest follows by name.
"""

import dataclasses
import re

from itemclip_jax.tools.pages import words
from itemclip_jax.tools.pages.sections import (
    NO_ENTRY, UNTRAINED, Entry, Section, split)

MAX_ROWS = 24                     # longer tables are folded
_RULE = re.compile(
    f"(.+)@((?:{'|'.join(words.RULES)})(?:{UNTRAINED})?)")

Families = dict[str, dict[str, Entry]]  # family -> task -> entry


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of (name, cells); a cell is an Entry, a text or None."""
  title: str
  head: list[str]
  rows: list[tuple[str, list]]
  note: str = ""
  folded: bool = False


def tables(section: Section) -> list[Table]:
  """Every number stands in one of them or on a card."""
  families, scalars = {}, {}
  for metric, entry in section.numbers.items():
    family, task = split(metric)
    if task:
      families.setdefault(family, {})[task] = entry
    else:
      scalars[metric] = entry
  means = {m: found.groups() for m in scalars
           if (found := _RULE.fullmatch(m)) and m.startswith("mean_")}
  shown = set(means)
  for card in section.kind.cards:
    if card.metric in scalars:
      shown |= {card.metric, *(m for _, m in card.compared())}
  plain = {f: e for f, e in families.items() if not _RULE.fullmatch(f)}
  made = [_tasks(section, plain)] if plain else []
  made += [_thresholds(section, means)] if means else []
  rules = {found[2]: None for f in families if (found := _RULE.fullmatch(f))}
  made += [_at_rule(rule, families) for rule in rules]
  if left := {m: e for m, e in scalars.items() if m not in shown}:
    title = "Other numbers" if shown or made else "Numbers"
    made.append(_scalars(section, title, left))
  return made


def _tasks(section: Section, families: Families) -> Table:
  """One row per task, largest n first; a column per family."""
  entries = {}
  for family in families.values():
    entries = family | entries        # n is that of the first that has it
  names = sorted(entries, key=lambda t: -(entries[t].get("n") or 0))
  first, *others = families         # what is published is of the first
  models = section.models(first)
  labels, counts = _counts(section.kind.n, entries.values())
  return Table(
      "Task by task",
      ["Task", *labels, _heading(first), *map(_published, models),
       *map(_heading, others)],
      [(words.COLUMNS.get(task, task), [
          *counts(entries[task]), families[first].get(task),
          *(_value(values.get(task)) for values in models.values()),
          *(families[f].get(task) for f in others)])
       for task in names], folded=len(names) > MAX_ROWS)


def _thresholds(
    section: Section, means: dict[str, tuple[str, str]]) -> Table:
  """Mean qualities of calls: a row per rule, then what is published of it."""
  qualities = list(dict.fromkeys(q for q, _ in means.values()))
  rows = []
  for rule in dict.fromkeys(r for _, r in means.values()):
    metrics = [f"{q}@{rule}" for q in qualities]
    rows.append((_rule(rule), [section.numbers.get(m) for m in metrics]))
    theirs = [section.published.get(m, {}) for m in metrics]
    for model in dict.fromkeys(m for found in theirs for m in found):
      rows.append((f"{_published(model)}, @{rule}",
                   [_value(found[model].value if model in found else None)
                    for found in theirs]))
  return Table(
      "Calls at a threshold, mean over tasks",
      ["Threshold", *(_heading(q.removeprefix("mean_")) for q in qualities)],
      rows, note=words.THRESHOLDS)


def _at_rule(rule: str, families: Families) -> Table:
  columns = {found[1]: entries for f, entries in families.items()
             if (found := _RULE.fullmatch(f)) and found[2] == rule}
  tasks = dict.fromkeys(t for entries in columns.values() for t in entries)
  return Table(
      f"Calls task by task, {_rule(rule)}", ["Task", *map(_heading, columns)],
      [(t, [entries.get(t) for entries in columns.values()]) for t in tasks],
      folded=True)


def _scalars(section: Section, title: str, left: dict[str, Entry]) -> Table:
  best = {metric: section.best(metric) for metric in left}
  models = dict.fromkeys(m for found in best.values() for m in found)
  labels, counts = _counts("n", left.values())
  return Table(
      title,
      ["Measure", "Value", *labels, *map(_published, models),
       "Name in results.json"],
      [(_heading(metric), [
          entry, *counts(entry),
          *(_value(best[metric][m].value if m in best[metric] else None)
            for m in models), section.keys[metric]])
       for metric, entry in left.items()], folded=len(left) > MAX_ROWS)


def _counts(label: str, entries):
  """Headings and cells of how many; what was dropped only if anything was."""
  text = lambda n: "—" if n is None else str(n)
  if any(e.get("unlabeled") for e in entries):
    return [label, "Not annotated"], lambda e: [
        text(e.get("n")), text(e.get("unlabeled", 0))]
  return [label], lambda e: [text(e.get("n"))]


def _rule(rule: str) -> str:
  """A rule for a threshold in words."""
  base = rule.removesuffix(UNTRAINED)
  return f"@{base}: {words.RULES[base]}" + (
      ", untrained" if rule != base else "")


def _heading(metric: str) -> str:
  """A number or a family of them in words."""
  variant = next((v for v in words.VARIANTS if metric.startswith(v)), "")
  base, said = metric.removeprefix(variant), [words.VARIANTS.get(variant)]
  for ending, what in ((UNTRAINED, "untrained"), ("_chance", "by chance")):
    if base.endswith(ending):
      base = base.removesuffix(ending)
      said.append(what)
  plain = words.COLUMNS.get(base, base.replace("_", " ").capitalize())
  if (of := base.removeprefix("mean_")) != base and base not in words.COLUMNS:
    plain = f"{_heading(of)}, mean"
  return ", ".join(filter(None, [plain, *said]))


def _published(model: str) -> str:
  return f"{model}, published"


def _value(value: float | None) -> Entry | None:
  """A number that comes without interval."""
  return None if value is None else NO_ENTRY | {"value": value}
