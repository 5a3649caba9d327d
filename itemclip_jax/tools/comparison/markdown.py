"""Markdown tables that are aligned as text, too, and the numbers in them."""

import math

UNDEFINED = "undefined"


def table(columns: dict[str, list[str]], *, num_left: int = 1) -> str:
  """Head -> cells; the first `num_left` columns are set to the left."""
  widths = [max(map(len, (head, *cells))) for head, cells in columns.items()]
  line = lambda cells: "| " + " | ".join(
      c.ljust(w) if i < num_left else c.rjust(w)
      for i, (c, w) in enumerate(zip(cells, widths))) + " |"
  rule = "|" + "|".join("-" * (w + 1) + ("-" if i < num_left else ":")
                        for i, w in enumerate(widths)) + "|"
  return "\n".join([line(columns), rule, *map(line, zip(*columns.values()))])


def number(value: float | None, sign: str = "") -> str:
  """Three decimals, one if large; `sign` "+" shows it always."""
  if value is None or math.isnan(value):
    return UNDEFINED
  return f"{value:{sign}.1f}" if abs(value) >= 10 else f"{value:{sign}.3f}"


def interval(ends: list[float] | None, sign: str = "") -> str:
  """` [low, high]`, or nothing where there is none."""
  if ends is None:
    return ""
  return f" [{number(ends[0], sign)}, {number(ends[1], sign)}]"
