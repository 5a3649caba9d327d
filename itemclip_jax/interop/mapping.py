"""Checkpoint exchange as data: one table of renames, read in both directions.

A state is a plain mapping from torch names to arrays. A rule pairs one of its
names with one path of our parameters, or with several whose arrays the state
holds stacked; `{i}` stands for a number and is carried to the other side:

    Rule("blocks.{i}.attn.qkv.weight", ("block{i}/attention/query/kernel",
         "block{i}/attention/key/kernel", "block{i}/attention/value/kernel"),
         HEADS)

The shapes of the state follow from those of the model, so a table has no sizes.
What is left over on either side is an error.
"""

from collections.abc import Callable, Iterable, Mapping
import math
import re
from typing import NamedTuple

import flax.traverse_util
import jax
import numpy as np

from itemclip_jax.errors import UserError

State = Mapping[str, np.ndarray]
Shape = tuple[int | None, ...]  # None: any size


class Layout(NamedTuple):
  """How the state holds an array of ours.

  Attributes:
    shape: our shape -> the shape in the state.
    transposed: the state has the outputs first, we have them last.
    axes: ours in the order in which the state has them; () = the same order.
  """
  shape: Callable[[tuple[int, ...]], tuple[int, ...]]
  transposed: bool = False
  axes: tuple[int, ...] = ()


SAME = Layout(lambda s: s)
FLAT = Layout(lambda s: (math.prod(s),))               # bias of heads [A, F]
LEADING = Layout(lambda s: (1, *s))
# A torch `Linear` holds [out, in]; our kernels are [in, out], into heads
# [C, A, F], out of heads [A, F, C].
LINEAR = Layout(lambda s: (math.prod(s[1:]), s[0]), transposed=True)
MERGED = Layout(lambda s: (s[-1], math.prod(s[:-1])), transposed=True)
# A torch `Conv2d` holds [out, in, h, w]; ours is [h, w, in, out].
CONV2D = Layout(lambda s: (s[3], s[2], *s[:2]), axes=(3, 2, 0, 1))


def convolution(channels: int, *patch: int) -> Layout:
  """A convolution whose stride is its kernel; ours is [voxels, C]."""
  return Layout(lambda s: (s[1], channels, *patch), transposed=True)


class Rule(NamedTuple):
  """One name of the state, and the path or paths of ours that it stands for."""
  torch: str
  jax: str | tuple[str, ...]
  layout: Layout = SAME


Rules = tuple[Rule, ...]


class Entry(NamedTuple):
  """A rule for one layer of one model: no numbers are left open."""
  torch: str
  torch_shape: tuple[int, ...]
  paths: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  layout: Layout


def affine(torch: str, jax_path: str) -> Rules:
  """The scale and bias of a norm."""
  return (Rule(f"{torch}.weight", f"{jax_path}/scale"),
          Rule(f"{torch}.bias", f"{jax_path}/bias"))


def dense(torch: str, jax_path: str, layout: Layout = LINEAR) -> Rules:
  """The kernel, laid out as given, and the bias of a linear map."""
  return (Rule(f"{torch}.weight", f"{jax_path}/kernel", layout),
          Rule(f"{torch}.bias", f"{jax_path}/bias", FLAT))


def stacked(torch: str, jax_path: str, leaf: str) -> Rule:
  """Query, key and value in the rows of one array; `leaf`: kernel or bias."""
  paths = tuple(f"{jax_path}/{q}/{leaf}" for q in ("query", "key", "value"))
  return Rule(torch, paths, LINEAR if leaf == "kernel" else FLAT)


def under(torch: str, jax_path: str, rules: Rules) -> Rules:
  """Rules of a part as rules of the whole; prefixes: "visual.", "vision/"."""
  paths = lambda p: f"{jax_path}{p}" if isinstance(p, str) else (
      tuple(f"{jax_path}{x}" for x in p))
  return tuple(Rule(f"{torch}{r.torch}", paths(r.jax), r.layout) for r in rules)


def expand(rules: Rules, shapes: Mapping[str, tuple[int, ...]],
           what: str) -> list[Entry]:
  """The rules for every parameter of a model; rules without one are passed by.

  Args:
    rules: of the model's family.
    shapes: path -> shape of each parameter.
    what: names the model in errors.

  Raises:
    UserError: a parameter has no rule.
  """
  entries, left = [], dict(shapes)
  for rule in rules:
    paths = (rule.jax,) if isinstance(rule.jax, str) else rule.jax
    pattern = re.escape(paths[0]).replace(r"\{i\}", r"(?P<i>\d+)")
    for found in filter(None, (re.fullmatch(pattern, p) for p in shapes)):
      named = tuple(p.format(**found.groupdict()) for p in paths)
      inner = tuple(tuple(left.pop(p)) for p in named)
      shape = rule.layout.shape(inner[0])
      if len(named) > 1:
        shape = (shape[0] * len(named), *shape[1:])
      entries.append(Entry(rule.torch.format(**found.groupdict()), shape, named,
                           inner, rule.layout))
  if left:
    raise UserError(f"{what} has no place for {some(sorted(left))}; choose the "
                    "family of checkpoints that the model belongs to.")
  return entries


def to_params(state: State, entries: Iterable[Entry], what: str) -> dict:
  """The arrays of a state as our parameters, nested, float32.

  Args:
    state: exactly the names of `entries`.
    entries: see `expand`.
    what: names the state in errors.

  Raises:
    UserError: a name is missing or unexpected, or a shape does not fit.
  """
  check(state, {e.torch: e.torch_shape for e in entries}, what)
  flat = {}
  for entry in entries:
    value = np.asarray(state[entry.torch]).astype(np.float32)
    parts = np.split(value, len(entry.paths)) if len(entry.paths) > 1 else (
        [value])
    for path, shape, part in zip(entry.paths, entry.shapes, parts):
      if entry.layout.transposed:
        part = part.reshape(len(part), -1).T
      if entry.layout.axes:
        part = part.transpose(np.argsort(entry.layout.axes))
      flat[path] = np.asarray(part.reshape(shape), order="C")
  return unflatten(flat)


def to_state(params: dict, entries: Iterable[Entry]) -> dict[str, np.ndarray]:
  """Our parameters under the names and in the layout of the state."""
  flat, state = flatten(params), {}
  for entry in entries:
    parts = [np.asarray(flat[path]) for path in entry.paths]
    if entry.layout.transposed:
      outputs = entry.torch_shape[0] // len(parts)
      parts = [p.reshape(-1, outputs).T for p in parts]
    if entry.layout.axes:
      parts = [p.transpose(entry.layout.axes) for p in parts]
    value = np.concatenate(parts) if len(parts) > 1 else parts[0]
    state[entry.torch] = np.asarray(
        value.reshape(entry.torch_shape), order="C")
  return state


def flatten(tree: dict) -> dict:
  """Nested parameters -> path "a/b/c" -> leaf."""
  return flax.traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict) -> dict:
  """The inverse of `flatten`."""
  return flax.traverse_util.unflatten_dict(flat, sep="/")


def shapes(tree: dict) -> dict[str, tuple[int, ...]]:
  """Path -> shape of nested parameters, real or abstract."""
  return {path: tuple(leaf.shape) for path, leaf in flatten(tree).items()}


def init_shapes(module, *args, **kwargs) -> dict[str, tuple[int, ...]]:
  """Path -> shape of what `module.init(key, *args, **kwargs)` would make."""
  make = lambda: module.init(jax.random.key(0), *args, **kwargs)["params"]
  return shapes(jax.eval_shape(make))


def drop(state: State, patterns: Iterable[str]) -> dict[str, np.ndarray]:
  """The state without the names that a regular expression matches whole."""
  unused = re.compile("|".join(f"(?:{p})" for p in patterns))
  return {k: v for k, v in state.items() if not unused.fullmatch(k)}


def check(state: State, wanted: Mapping[str, Shape], what: str):
  """Accepts exactly the names of `wanted`, each of its shape.

  Raises:
    UserError: a name is missing or unexpected, or a shape does not fit.
  """
  if missing := sorted(wanted.keys() - state.keys()):
    raise UserError(f"{what} lacks {some(missing)}; give a state that holds "
                    "every layer of the tower.")
  if unexpected := sorted(state.keys() - wanted.keys()):
    raise UserError(f"{what} has unexpected {some(unexpected)}; drop what is "
                    "no part of the tower, or make the tower deeper.")
  for name, shape in wanted.items():
    have = np.shape(state[name])
    if len(have) != len(shape) or any(
        w not in (None, h) for h, w in zip(have, shape)):
      shown = ", ".join("any" if w is None else str(w) for w in shape)
      raise UserError(f"{what}: {name} has shape {have}, wanted ({shown}); "
                      "give the tower the sizes of the state.")


def some(names: list[str]) -> str:
  """All of a few names, the first of many."""
  more = f" and {len(names) - 4} more" if len(names) > 4 else ""
  return ", ".join(names[:4]) + more
