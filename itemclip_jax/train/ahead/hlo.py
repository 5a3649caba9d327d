"""The compiler's text of a program -> its computations and operations.

    %name = shape opcode(%operand, ...), attribute=..., metadata={...}

Only what is read elsewhere is taken apart; no operation is left out.
"""

import collections
import dataclasses
import functools
import math
import re

_BYTES = {"pred": 1, "bf16": 2, "token": 0}
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ASSIGNED = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_LAID_OUT = re.compile(
    r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?)?")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True, eq=False)
class Op:
  """One operation.

  Attributes:
    name: unique in its computation.
    opcode: such as "fusion".
    shape: of the result, as text.
    inside: the text between its parentheses.
    rest: what follows them.
    is_root: whether its computation returns it.
  """
  name: str
  opcode: str
  shape: str
  inside: str
  rest: str
  is_root: bool

  @functools.cached_property
  def operands(self) -> list[str]:
    return _NAME.findall(self.inside)

  @functools.cached_property
  def cycles(self) -> int | None:
    """The compiler's estimate; None where it makes none."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
    return int(found[1]) if found else None

  @functools.cached_property
  def scope(self) -> str:
    """Where in the program it comes from; "" where nothing says it."""
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found[1] if found else ""

  def attribute(self, name: str) -> str | None:
    """A word such as the computation in `calls=%name`."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
    return found[1] if found else None

  def called(self) -> list[str]:
    """Computations that run once where this operation runs once."""
    if self.opcode in ("fusion", "async-start"):
      return [self.attribute("calls")]
    if self.opcode == "call":
      return [self.attribute("to_apply")]
    return []

  def branches(self) -> list[str]:
    """Computations of which one runs."""
    if self.opcode != "conditional":
      return []
    if listed := re.search(r"branch_computations=\{([^}]*)\}", self.rest):
      return _NAME.findall(listed[1])
    return [self.attribute(f"{word}_computation") for word in ("true", "false")]


@dataclasses.dataclass(frozen=True, eq=False)
class Computation:
  """Operations in the order of the schedule, by name."""
  name: str
  ops: dict[str, Op]

  @functools.cached_property
  def root(self) -> Op:
    return next(op for op in self.ops.values() if op.is_root)

  @functools.cached_property
  def _users(self) -> dict[str, list[Op]]:
    users = collections.defaultdict(list)
    for op in self.ops.values():
      for operand in op.operands:
        users[operand].append(op)
    return users

  def named_neighbour(self, op: Op, far: int = 4) -> str:
    """The scope of what uses `op` or, where that has none, of what it uses."""
    for step in (lambda o: self._users[o.name],
                 lambda o: [self.ops[n] for n in o.operands if n in self.ops]):
      reached = [op]
      for _ in range(far):
        reached = [n for o in reached[:8] for n in step(o)]
        for near in reached:
          if near.scope:
            return near.scope
    return ""

  @functools.cached_property
  def parameters(self) -> list[Op]:
    found = [op for op in self.ops.values() if op.opcode == "parameter"]
    return sorted(found, key=lambda op: int(op.inside))


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
  """A program: its computations by name, and which of them it begins with."""
  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Module:
  """Reads a scheduled program.

  Raises:
    ValueError: it is none.
  """
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    if current is None:
      if header := _HEADER.match(line):
        current = Computation(header[2], {})
        entry = header[2] if header[1] else entry
    elif line.rstrip() == "}":   # metadata of kernels begins lines so, too
      computations[current.name], current = current, None
    elif op := _operation(line):
      current.ops[op.name] = op
  if entry is None:
    raise ValueError("The text holds no ENTRY computation; want that of "
                     "compiled.as_text().")
  return Module(computations, entry)


def _operation(line: str) -> Op | None:
  found = _ASSIGNED.match(line)
  if not found:
    return None
  start = found.end()
  end = _closed(line, start) if line[start] == "(" else line.index(" ", start)
  opening = line.index("(", end)
  close = _closed(line, opening)
  return Op(name=found[2], opcode=line[end:opening].strip(),
            shape=line[start:end], inside=line[opening + 1:close - 1],
            rest=line[close:], is_root=bool(found[1]))


def _closed(line: str, start: int) -> int:
  """Behind the parenthesis that closes the one at `start`."""
  depth = 0
  for place in range(start, len(line)):
    depth += {"(": 1, ")": -1}.get(line[place], 0)
    if not depth:
      return place + 1
  raise ValueError(f"A parenthesis is never closed: {line[start:start + 80]!r}")


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
  """Element type and sizes of every array of a shape, several of a tuple."""
  return [(kind, tuple(map(int, filter(None, sizes.split(",")))))
          for kind, sizes in _ARRAY.findall(shape)]


def num_bytes(shape: str) -> int:
  """Of all arrays of a shape in memory: whole tiles, where it has a layout."""
  total = 0.0
  for kind, sizes, order, tile in _LAID_OUT.findall(shape):
    sizes = [int(n) for n in sizes.split(",") if n]
    if tile:
      # Minor axes first, as the tile's last axis.
      minor = [int(axis) for axis in order.split(",") if axis]
      for axis, length in zip(minor, reversed(tile.split(","))):
        sizes[axis] = -(-sizes[axis] // int(length)) * int(length)
    total += _item_bytes(kind) * math.prod(sizes)
  return math.ceil(total)


def _item_bytes(kind: str) -> float:
  if kind in _BYTES:
    return _BYTES[kind]
  bits = re.search(r"\d+", kind)   # s32, f8e4m3fn, u4
  return int(bits[0]) / 8 if bits else 0

