"""Flops and bytes of one operation, by its shapes.

Flops are those of matrix products, as in `train.flops`. Bytes are what it reads
and writes; of an operand that is only sliced, or updated in place, the slice.
"""

import itertools
import math
import re

from itemclip_jax.train.ahead import hlo

# They move nothing, or what they run moves it.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast",
         "while", "conditional", "call", "after-all", "partition-id",
         "replica-id", "async-start", "async-update", "async-done",
         "add-dependency", "opt-barrier")


def flops(computation: hlo.Computation, op: hlo.Op) -> int:
  """Of a product; 0 for all else, and for a fusion, whose parts are asked."""
  if op.opcode == "dot":
    (_, left), = hlo.arrays(computation.ops[op.operands[0]].shape)
    contracted = _numbers(op.rest, "lhs_contracting_dims")
    return 2 * _size(op) * math.prod(left[i] for i in contracted)
  if op.opcode == "convolution":
    return _convolution(computation, op)
  return 0


def _size(op: hlo.Op) -> int:
  return math.prod(hlo.arrays(op.shape)[0][1])


def _numbers(text: str, name: str) -> list[int]:
  found = re.search(name + r"=\{([\d,]*)\}", text)
  return [int(i) for i in found[1].split(",") if i] if found else []


def _convolution(computation, op) -> int:
  """2 x results x inputs that each meets: padding and holes are no work."""
  left, right = (hlo.arrays(computation.ops[o].shape)[0][1]
                 for o in op.operands)
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", op.rest)
  lhs, rhs, out = labels.groups()
  result = hlo.arrays(op.shape)[0][1]
  window = re.search(r"window=\{([^}]*)\}", op.rest)
  window = window[1] if window else ""
  count = 2 * right[rhs.index("i")]
  count *= result[out.index("b")] * result[out.index("f")]
  for axis in filter(str.isdigit, sorted(out)):
    count *= _meetings(left[lhs.index(axis)], right[rhs.index(axis)],
                       result[out.index(axis)], _axis(window, int(axis)))
  groups = re.search(r"batch_group_count=(\d+)", op.rest)
  return count // int(groups[1]) if groups else count


def _axis(window: str, axis: int) -> dict:
  """Of one axis of a window: stride, padding in front, holes on both sides."""
  def value(name, default):
    found = re.search(rf"\b{name}=([\w\-]+)", window)
    return found[1].split("x")[axis] if found else default
  return {"stride": int(value("stride", "1")),
          "pad": int(value("pad", "0_0").split("_")[0]),
          "inputs": int(value("lhs_dilate", "1")),
          "kernel": int(value("rhs_dilate", "1"))}


def _meetings(inputs: int, kernel: int, results: int, axis: dict) -> int:
  """Pairs of a result and a kernel place that fall on an input."""
  count = 0
  for i, k in itertools.product(range(results), range(kernel)):
    place = i * axis["stride"] + k * axis["kernel"] - axis["pad"]
    count += (place % axis["inputs"] == 0
              and 0 <= place < axis["inputs"] * inputs)
  return count


def moved(module: hlo.Module, computation: hlo.Computation, op: hlo.Op) -> int:
  """Bytes that a scheduled operation reads and writes."""
  if op.opcode in _FREE or op.opcode.endswith(("-done", "-update")):
    return 0
  if op.opcode == "custom-call" and not op.operands:
    return 0                               # a buffer, not filled
  sizes = [hlo.num_bytes(computation.ops[o].shape) for o in op.operands]
  written = hlo.num_bytes(op.shape)
  if op.opcode.endswith("-start"):         # its shape repeats its operands
    return sum(sizes) + max(written - sum(sizes), 0)
  if op.opcode in ("dynamic-slice", "slice", "gather"):
    return 2 * written
  if op.opcode == "dynamic-update-slice":
    return 2 * sizes[1]
  if op.opcode != "fusion":
    return sum(sizes) + written
  inner = module.computations[op.attribute("calls")]
  return _fused(inner, sizes, written)


def _fused(inner: hlo.Computation, sizes: list[int], written: int) -> int:
  total = written
  for parameter, size in zip(inner.parameters, sizes):
    users = [o for o in inner.ops.values() if parameter.name in o.operands]
    if users and all(_takes_part(u, parameter) for u in users):
      for user in users:
        if user.opcode == "dynamic-update-slice":
          update = inner.ops[user.operands[1]].shape
          # Read nothing of it; what is written is the update alone.
          total += hlo.num_bytes(update) - hlo.num_bytes(user.shape)
        else:
          total += min(size, hlo.num_bytes(user.shape))
    else:
      total += size
  return max(total, 0)


def _takes_part(user: hlo.Op, parameter: hlo.Op) -> bool:
  """Whether it uses only a part of that operand."""
  return user.operands[0] == parameter.name and user.opcode in (
      "dynamic-slice", "slice", "gather", "dynamic-update-slice")
