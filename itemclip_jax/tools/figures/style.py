"""How every chart of a report looks: colours, type sizes, quiet axes."""

from collections.abc import Iterator
import math

COLOURS = ("#1f5fa8", "#c2571a", "#2e7d57", "#8a4fa3", "#a8871f", "#5b6770")
INK, MUTED, RULE = "#1f2933", "#52606d", "#d9dee4"


def dress(axes, title: str):
  """Title on the left, a faint grid, no frame but the foot."""
  axes.set_title(title, fontsize=9.5, loc="left", weight="bold", color=INK)
  axes.grid(color=RULE, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(labelsize=7.5, colors=MUTED, length=0)
  for side, spine in axes.spines.items():
    spine.set_visible(side == "bottom")
    spine.set_color(RULE)


def cycle() -> Iterator[str]:
  """Endless colours; line or level number 7 takes the first again."""
  while True:
    yield from COLOURS


def is_number(value) -> bool:
  """False for what is undefined: None or NaN."""
  return isinstance(value, (int, float)) and math.isfinite(value)
