"""Model flops of a function: its matrix products, counted in the jaxpr.

    flops = 2 sum over products of (elements of the result) x (contracted size)

A product inside a scan counts once a turn, of the branches of a conditional the
dearest counts. What runs again in the backward pass (`jax.checkpoint`) counts
again: for model flops, count a model that recomputes nothing. All else that a
function does is no model flop.
"""

import collections
from collections.abc import Callable
import math

import jax
import jax.extend


def matmul_flops(fn: Callable, *abstract_args) -> int:
  """Flops of the matrix products and convolutions of `fn(*abstract_args)`.

  Args:
    fn: what is counted; it is traced, not run, and need not be jitted.
    *abstract_args: arrays, or their shapes and types.

  Raises:
    ValueError: a product stands in a loop whose length is known only at run
      time.
  """
  return sum(matmul_flops_by_scope(fn, *abstract_args).values())


def matmul_flops_by_scope(fn: Callable, *abstract_args) -> dict[str, int]:
  """The same by the path of names that the products stand under.

  Names are of modules, of `jax.named_scope` and of what JAX makes of them:
  "transpose(jvp(Model))/block0/mlp/fc1" in a gradient.
  """
  return dict(_count(jax.make_jaxpr(fn)(*abstract_args).jaxpr))


def _count(jaxpr) -> collections.Counter:
  """Flops by scope, from this jaxpr on."""
  total = collections.Counter()
  for equation in jaxpr.eqns:
    here = str(equation.source_info.name_stack)
    for below, flops in _count_equation(equation).items():
      total["/".join(filter(None, (here, below)))] += flops
  return total


def _count_equation(equation) -> dict[str, int]:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    return {"": _product(equation)}
  if name == "conv_general_dilated":
    return {"": _convolution(equation)}
  inner = list(filter(None, map(
      _count, jax.extend.core.jaxprs_in_params(params))))
  if inner and name == "while":
    raise ValueError("A matrix product stands in a while loop, whose length is "
                     "not known; use jax.lax.scan, or a fori_loop whose bounds "
                     "are numbers.")
  if name == "cond":
    return max(inner, key=lambda branch: branch.total(), default={})
  total = sum(inner, collections.Counter())
  repeats = _repeats(name, params) if inner else 0
  return {scope: flops * repeats for scope, flops in total.items()}


def _product(equation) -> int:
  left = equation.invars[0].aval.shape
  (contracted, _), _ = equation.params["dimension_numbers"]
  size = math.prod(left[i] for i in contracted)
  return 2 * size * math.prod(equation.outvars[0].aval.shape)


def _convolution(equation) -> int:
  """Every element of the result meets the kernel of its channel once.

  Zeros that a dilation puts between inputs (gradients of strides) are no work.
  """
  params = equation.params
  kernel = equation.invars[1].aval.shape
  channels = params["dimension_numbers"].rhs_spec[0]  # of the result
  met = math.prod(kernel) // kernel[channels]
  result = math.prod(equation.outvars[0].aval.shape)
  return 2 * met * result // math.prod(params["lhs_dilation"])


def _repeats(name: str, params: dict) -> int:
  """How often what stands inside of an equation runs."""
  if name == "scan":
    return params["length"]
  if name == "shard_map":
    axes = params["newly_manual_axes"]
    return math.prod(params["mesh"].shape[axis] for axis in axes)
  if name == "pallas_call":
    return math.prod(params["grid_mapping"].grid)
  return 1
