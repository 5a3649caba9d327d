"""What the compiler's text says that a step does, and how long it takes.

    time = cycles / clock + sum over custom calls of max(flops / peak,
                                                         bytes / bandwidth)

Cycles are the compiler's `estimated_cycles` of every scheduled operation, each
as often as its loop turns; a fusion has one number for all that it holds.
Custom calls (kernels) have none: their flops and bytes are those that their
author states in `cost_estimate`, else the bytes of their operands and results.
Of the branches of a conditional the dearest runs. Collectives have no cycles;
they count nothing here, as if all of them hid behind computation.
"""

from collections.abc import Iterator
import dataclasses
import functools
import re

from itemclip_jax.train.ahead import chips, hlo, loops, work

_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all",
                "collective-permute", "collective-broadcast",
                "ragged-all-to-all")
# Custom calls that only say something to the compiler: a buffer to be filled,
# slices that lie side by side already.
_NO_WORK = ("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast",
            "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape")


@dataclasses.dataclass(frozen=True)
class Visit:
  """An operation, where it stands, and how often a step runs it.

  inside: it is a part of a fusion, whose cycles hold its own.
  """
  op: hlo.Op
  computation: hlo.Computation
  turns: int
  inside: bool = False

  @property
  def scope(self) -> str:
    """Where it comes from; of a nameless copy, "~" and whom it is made for."""
    if self.op.scope:
      return self.op.scope
    found = self.computation.named_neighbour(self.op)
    return f"~{found}" if found else ""


class Schedule:
  """All that runs in one step of a compiled program.

  Attributes:
    visits: every operation that runs.
    unknown_loops: names of loops whose length nothing tells; one turn counts.
  """

  def __init__(self, text: str):
    self._module = hlo.parse(text)
    self.unknown_loops: list[str] = []
    self.visits = list(self._walk(self._module.entry, 1, False))

  def _walk(self, name: str, times: int, inside: bool) -> Iterator[Visit]:
    computation = self._module.computations[name]
    for op in computation.ops.values():
      yield Visit(op, computation, times, inside)
      for called in op.called():
        yield from self._walk(called, times, inside or op.opcode == "fusion")
      if branches := op.branches():
        dearest = max(branches, key=self._cost)
        yield from self._walk(dearest, times, inside)
      if op.opcode == "while":
        count = loops.turns(self._module, computation, op)
        if count is None:
          self.unknown_loops.append(op.name)
          count = 1
        yield from self._walk(op.attribute("condition"), times * (count + 1),
                              inside)
        yield from self._walk(op.attribute("body"), times * count, inside)

  @functools.cache
  def _cost(self, name: str) -> int:
    return sum(_cycles(v) for v in self._walk(name, 1, False))

  @property
  def cycles(self) -> int:
    return sum(map(_cycles, self.visits))

  def seconds(self, chip: chips.Chip) -> Iterator[tuple[Visit, float]]:
    """Time of every operation that has any."""
    for v in self.visits:
      if cycles := _cycles(v):
        yield v, cycles / chip.clock
      elif _is_kernel(v):
        yield v, v.turns * _kernel(v, chip)[-1]

  @property
  def product_flops(self) -> int:
    return sum(v.turns * work.flops(v.computation, v.op) for v in self.visits)

  @property
  def bytes_accessed(self) -> int:
    return sum(v.turns * work.moved(self._module, v.computation, v.op)
               for v in self.visits if not v.inside)

  def custom_calls(self, chip: chips.Chip) -> list[dict]:
    """Kernels that have no cycles: one entry for each kind."""
    found = {}
    for v in filter(_is_kernel, self.visits):
      key = (_target(v), general(v.scope))
      entry = found.setdefault(key, {
          "target": key[0], "scope": key[1], "count": 0, "flops": 0,
          "bytes": 0, "seconds": 0.0, "cost_stated": True})
      flops, size, stated, seconds = _kernel(v, chip)
      entry["count"] += v.turns
      entry["flops"] += v.turns * flops
      entry["bytes"] += v.turns * size
      entry["seconds"] += v.turns * seconds
      entry["cost_stated"] &= stated
    return list(found.values())

  def collectives(self) -> list[dict]:
    """One entry for each kind and shape; bytes are of the results.

    Those that other work goes on beside are `overlapped`.
    """
    found = {}
    for v in self.visits:
      kind = v.op.opcode.removesuffix("-start")
      if kind not in _COLLECTIVES or _goes_on(v):
        continue
      result = _result(v)
      beside = v.op.opcode.endswith("-start") or _begins(v)
      key = (kind, _plain(result), general(v.scope), beside)
      entry = found.setdefault(key, {
          "kind": kind, "shape": key[1], "scope": key[2],
          "overlapped": beside, "count": 0, "bytes": 0})
      entry["count"] += v.turns
      entry["bytes"] += v.turns * hlo.num_bytes(result)
    return sorted(found.values(), key=lambda e: (-e["bytes"], e["scope"]))


def _cycles(visit: Visit) -> int:
  """Of the schedule: not of what stands inside of a fusion."""
  if visit.inside or visit.op.cycles is None:
    return 0
  return visit.turns * visit.op.cycles


def _target(visit: Visit) -> str:
  return re.search(r'custom_call_target="([^"]*)"', visit.op.rest)[1]


def _is_kernel(visit: Visit) -> bool:
  """Whether it is a custom call that works and has no cycles."""
  return (visit.op.opcode == "custom-call" and visit.op.cycles is None
          and not visit.inside and _target(visit) not in _NO_WORK)


def _kernel(visit: Visit, chip: chips.Chip) -> tuple[int, int, bool, float]:
  """Flops, bytes, whether its author states them, and seconds of a kernel."""
  if found := re.search(r'"cost_estimate":\{([^}]*)\}', visit.op.rest):
    numbers = dict(re.findall(r'"(\w+)":"?(\d+)"?', found[1]))
    flops = int(numbers.get("flops", 0))
    size = int(numbers.get("bytes_accessed", 0))
  else:
    ops = visit.computation.ops
    flops, size = 0, hlo.num_bytes(visit.op.shape) + sum(
        hlo.num_bytes(ops[o].shape) for o in visit.op.operands)
  seconds = max(flops / chip.peak, size / chip.bandwidth)
  return flops, size, bool(found), seconds


def _begins(visit: Visit) -> bool:
  """Whether a collective inside of a fusion is only begun there."""
  return visit.inside and any(
      o.opcode == "custom-call" and '"AsyncCollectiveStart"' in o.rest
      for o in visit.computation.ops.values())


def _goes_on(visit: Visit) -> bool:
  """Whether it is one that began in an earlier fusion: they repeat it."""
  return (visit.inside and "async_collective_fusion_config" in visit.op.rest
          and not _begins(visit))


def _result(visit: Visit) -> str:
  """Shape of what a collective gives; its start repeats the operands."""
  shape = visit.op.shape
  if not visit.op.opcode.endswith("-start") or not shape.startswith("("):
    return shape
  if visit.op.opcode == "all-reduce-start":
    return shape
  all_of = hlo.arrays(shape)
  count = len(visit.op.operands)
  return ", ".join(f"{kind}[{','.join(map(str, sizes))}]"
                   for kind, sizes in all_of[count:2 * count])


def _plain(shape: str) -> str:
  """Without layouts."""
  return " ".join(f"{kind}[{','.join(map(str, sizes))}]"
                  for kind, sizes in hlo.arrays(shape))


def general(scope: str) -> str:
  """A scope whose numbered parts are one: block7 and block8 are block*."""
  return re.sub(r"(?<=[a-z_])\d+(?=/|$)", "*", scope)
