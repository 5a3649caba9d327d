"""What a chip of each kind can do: the constants of every estimate.

`hbm` is what the compiler lets a program take. All other numbers are from
memory, as vendors print them; clocks were checked as peak over twice the
multipliers. An estimate is as good as they are.
"""

from typing import NamedTuple

from itemclip_jax.errors import UserError

EXAMPLES = ("v5e:2x2", "v5e:4x4", "v6e:2x4", "v6e:4x4", "v5p:2x2x1",
            "v4:2x2x1")


class Chip(NamedTuple):
  """One device.

  peak: flops a second in bfloat16; hbm: bytes that a program may take;
  bandwidth: bytes a second of it; clock: cycles a second; links: bytes a second
  to other chips.
  """
  peak: float
  hbm: int
  bandwidth: float
  clock: float
  links: float


def _gib(number: float) -> int:
  return int(number * 2**30)


CHIPS = {
    "v4": Chip(275e12, _gib(30.75), 1228e9, 1.05e9, 300e9),
    "v5e": Chip(197e12, _gib(15.75), 819e9, 1.5e9, 200e9),
    "v5p": Chip(459e12, _gib(95.74), 2765e9, 1.75e9, 600e9),
    "v6e": Chip(918e12, _gib(31.25), 1640e9, 1.75e9, 448e9),
}


def of(topology: str) -> tuple[str, Chip]:
  """Name and constants of the chip of a topology such as v5e:4x4.

  Raises:
    UserError: there is no such chip.
  """
  name = topology.partition(":")[0]
  if name not in CHIPS:
    raise UserError(f"There is no topology {topology!r}; want a chip of "
                    f"{', '.join(CHIPS)} and its grid, such as "
                    f"{', '.join(EXAMPLES)}.")
  return name, CHIPS[name]
