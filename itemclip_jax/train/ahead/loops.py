"""How often a loop of the compiler's text runs.

Where the compiler does not say so, its counter is followed from its first value
by the body until the condition fails: scalars only, all else is unknown.
"""

import operator
import re

from itemclip_jax.train.ahead import hlo

_MOST = 1_000_000
_SAME = ("copy", "bitcast", "convert", "copy-done", "copy-start", "reshape",
         "broadcast")
_ARITHMETIC = {"add": operator.add, "subtract": operator.sub,
               "multiply": operator.mul, "and": operator.and_,
               "or": operator.or_, "maximum": max, "minimum": min}
_COMPARE = {"LT": operator.lt, "LE": operator.le, "GT": operator.gt,
            "GE": operator.ge, "EQ": operator.eq, "NE": operator.ne}


def turns(module: hlo.Module, where: hlo.Computation, loop: hlo.Op
          ) -> int | None:
  """Times that the body of a `while` runs; None where nothing tells.

  Args:
    module: the program.
    where: the computation that holds the loop.
    loop: the operation.
  """
  if told := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
    return int(told[1])
  body = module.computations[loop.attribute("body")]
  condition = module.computations[loop.attribute("condition")]
  state = _value(module, where, loop.operands[0], [None] * len(where.ops))
  for count in range(_MOST):
    again = _value(module, condition, condition.root.name, [state])
    if not isinstance(again, (bool, int)):
      return None
    if not again:
      return count
    state = _value(module, body, body.root.name, [state])
  return None


def _value(module, computation, name: str, arguments: list):
  """A number, a list of them for a tuple, or None for what is not known."""
  op = computation.ops[name]
  code = op.opcode
  if code == "parameter":
    return arguments[int(op.inside)]
  if code == "constant":
    return _constant(op.inside)
  if code not in ("tuple", "get-tuple-element", "fusion", "compare",
                  *_SAME, *_ARITHMETIC):
    return None
  if code == "get-tuple-element":
    return _element(module, computation, op, arguments)
  if code != "tuple" and not _scalar(op.shape):
    return None
  inner = [_value(module, computation, o, arguments) for o in op.operands]
  if code == "tuple":
    return inner
  if code == "fusion":
    called = module.computations[op.attribute("calls")]
    return _value(module, called, called.root.name, inner)
  if code in _SAME:
    return inner[0]
  if None in inner:
    return None
  if code == "compare":
    return _COMPARE[op.attribute("direction")](*inner)
  return _ARITHMETIC[code](*inner)


def _element(module, computation, op, arguments):
  """Of a tuple; only that element is worked out where it is made here."""
  index = int(op.attribute("index"))
  source = computation.ops[op.operands[0]]
  if source.opcode == "tuple":
    return _value(module, computation, source.operands[index], arguments)
  whole = _value(module, computation, source.name, arguments)
  return whole[index] if isinstance(whole, list) else None


def _scalar(shape: str) -> bool:
  return all(not sizes for _, sizes in hlo.arrays(shape))


def _constant(text: str):
  if text in ("true", "false"):
    return text == "true"
  try:
    return int(text)
  except ValueError:
    return None
