"""Seconds of every operation of a compiled program, from XLA's own profiler.

The profiler says when an operation of the scheduled program began and ended,
and the program's text says of which line of ours it was made (`op_name`, a path
of module names) and whether it multiplies matrices. At every moment the time
counts in equal parts for the operations that run; what only runs others (loops,
calls) counts nothing itself.
"""

import collections
from collections.abc import Callable
import pathlib
import tempfile
from typing import NamedTuple

import jax

from itemclip_jax.train.ahead import hlo

_CONTAINERS = ("while", "call", "conditional")
_PRODUCTS = ("dot", "convolution")
# Inside of a fusion: what costs next to nothing beside a product.
_LIGHT = ("parameter", "constant", "bitcast", "broadcast", "transpose",
          "reshape", "copy", "convert", "tuple", "get-tuple-element")


class Op(NamedTuple):
  """One operation.

  scope: path of names; kind: "product", a matrix product alone; "fused", one
  that the compiler did together with other work; "other", none.
  """
  scope: str
  kind: str


def measure(run: Callable[[], object], program: str, *, repeats: int
            ) -> dict[Op, float]:
  """Seconds of one call by operation.

  Args:
    run: calls the compiled program and waits for it; called once more before.
    program: its text, `compiled.as_text()`.
    repeats: calls whose mean is taken.
  """
  run()
  with tempfile.TemporaryDirectory() as folder:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
      for _ in range(repeats):
        run()
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    profile = jax.profiler.ProfileData.from_file(str(path))
  ops, seconds = operations(program), collections.Counter()
  for name, time in shared_time(_intervals(profile, ops)).items():
    seconds[ops[name]] += time / repeats
  return dict(seconds)


def operations(program: str) -> dict[str, Op]:
  """Name in the program -> operation, for all that are run by themselves."""
  module = hlo.parse(program)
  return {op.name: _operation(op, module)
          for part in module.computations.values() for op in part.ops.values()
          if op.opcode not in _CONTAINERS}


def _operation(op: hlo.Op, module: hlo.Module) -> Op:
  """A fusion is named after its product, where it holds one."""
  if op.opcode in _PRODUCTS:
    return Op(op.scope, "product")
  if op.opcode != "fusion":
    return Op(op.scope, "other")
  inside = list(module.computations[op.called()[0]].ops.values())
  products = [part for part in inside if part.opcode in _PRODUCTS]
  if not products:
    return Op(op.scope, "other")
  alone = all(part.opcode in _PRODUCTS + _LIGHT for part in inside)
  return Op(products[0].scope or op.scope, "product" if alone else "fused")


def _intervals(profile, ops: dict[str, Op]) -> list[tuple[str, float, float]]:
  """(operation, begin, end) in nanoseconds.

  An operation that hands its work to other threads returns before it is done;
  when it was, a second event says that bears its number.
  """
  began, ended = [], {}
  for plane in profile.planes:
    for line in plane.lines:
      for event in line.events:
        if event.name.startswith("end: "):
          ended[dict(event.stats).get("_c")] = event.start_ns
        elif event.name in ops:
          began.append((event.name, event.start_ns, event.end_ns,
                        dict(event.stats).get("_p")))
  return [(name, start, max(end, ended.get(number, end)))
          for name, start, end, number in began]


def shared_time(intervals: list[tuple[str, float, float]]) -> dict[str, float]:
  """Seconds by name: at every moment equal parts for those that run then.

  Args:
    intervals: (name, begin, end) in nanoseconds.
  """
  changes = sorted((time, change, name) for name, begin, end in intervals
                   for time, change in ((begin, 1), (end, -1)))
  running, total = collections.Counter(), collections.Counter()
  last = 0.0
  for time, change, name in changes:
    count = running.total()
    for other, times in running.items():
      total[other] += (time - last) * times / count / 1e9
    running[name] += change
    if not running[name]:
      del running[name]
    last = time
  return dict(total)
