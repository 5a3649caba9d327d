"""Which part of the model a step's time goes to, by the names of operations.

The compiler keeps the path of modules that an operation comes from, such as
jit(step)/transpose(jvp(DualEncoder))/vision/block3/attention/dot_general.
"""

import re

from itemclip_jax.config import schema
from itemclip_jax.train.ahead import chips, schedule

# A block by its number, or any of a loop over blocks; then its sub-module.
_BLOCK = re.compile(r"\b(?:block(\d+)|Block)/(\w+)")
_UNNAMED = "without a name"


def part(scope: str, config: schema.Config) -> str:
  """The part of the model that a scope belongs to."""
  if not scope:
    return _UNNAMED
  inner = scope.partition("/vision/")[2]
  if block := _BLOCK.search(inner):
    if block[2] == "attention":
      return f"attention, {_level(inner, block[1], config.vision)}"
    return "mlp" if block[2] == "mlp" else "rest of blocks"
  for word, name in (
      ("/patch/", "patch embedding"), ("/vision/", "rest of vision tower"),
      ("/text_tower/", "text tower"), ("_proj/", "projections")):
    if word in scope:
      return name
  if "jvp(" in scope:
    return "losses"
  return "optimiser and the rest"


def _level(inner: str, number: str, vision: schema.Vision) -> str:
  """Of an HLIP block: as its scope says, else by its number."""
  if told := re.search(r"\b(slice|series|study)_level\b", inner):
    return told[1]
  if vision.tower != "hlip" or not number:
    return "whole image" if number else "any level"
  return ("slice" if int(number) in vision.slice_blocks else
          "study" if int(number) in vision.study_blocks else "series")


def direction(scope: str) -> str:
  """forward, again (recomputed for the backward pass) or backward."""
  if "rematted_computation" in scope:
    return "again"
  return "backward" if "transpose(" in scope else "forward"


def table(steps: schedule.Schedule, config: schema.Config, chip: chips.Chip
          ) -> dict[str, dict[str, float]]:
  """Part -> milliseconds by direction, share of the whole; largest first."""
  rows = {}
  for scope, seconds in _seconds(steps, chip):
    row = rows.setdefault(part(scope, config), {
        "forward": 0.0, "again": 0.0, "backward": 0.0})
    row[direction(scope)] += 1e3 * seconds
  total = sum(sum(row.values()) for row in rows.values()) or 1.0
  rows = {name: {k: round(v, 3) for k, v in row.items()}
          | {"share": round(sum(row.values()) / total, 4)}
          for name, row in rows.items()}
  return dict(sorted(rows.items(), key=lambda item: -item[1]["share"]))


def scopes(steps: schedule.Schedule, chip: chips.Chip, most: int = 40
           ) -> list[dict]:
  """The dearest kinds of operations: numbered scopes and opcodes as one."""
  found = {}
  for visit, seconds in steps.seconds(chip):
    key = (schedule.general(visit.scope), visit.op.opcode)
    entry = found.setdefault(key, {"scope": key[0], "opcode": key[1],
                                   "count": 0, "ms": 0.0})
    entry["count"] += visit.turns
    entry["ms"] += 1e3 * seconds
  dearest = sorted(found.values(), key=lambda e: -e["ms"])[:most]
  return [e | {"ms": round(e["ms"], 3)} for e in dearest]


def _seconds(steps, chip):
  return ((visit.scope, seconds) for visit, seconds in steps.seconds(chip))
