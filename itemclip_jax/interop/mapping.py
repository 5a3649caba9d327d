"""Layers of a torch state dict in the layout of our modules.

A state is a plain mapping from torch names to arrays. A torch `Linear` holds
[out, in]; our kernels are [in, out], or with heads [C, A, F] and [A, F, C].
"""

from collections.abc import Mapping

import numpy as np

from itemclip_jax.errors import UserError

State = Mapping[str, np.ndarray]
Shape = tuple[int | None, ...]  # None: any size


def check(state: State, wanted: Mapping[str, Shape], what: str):
  """Accepts exactly the names of `wanted`, each of its shape.

  Raises:
    UserError: a name is missing or unexpected, or a shape does not fit.
  """
  if missing := sorted(wanted.keys() - state.keys()):
    raise UserError(f"{what} lacks {_some(missing)}; give a state that holds "
                    "every layer of the tower.")
  if unexpected := sorted(state.keys() - wanted.keys()):
    raise UserError(f"{what} has unexpected {_some(unexpected)}; drop what is "
                    "no part of the tower, or make the tower deeper.")
  for name, shape in wanted.items():
    have = np.shape(state[name])
    if len(have) != len(shape) or any(
        w not in (None, h) for h, w in zip(have, shape)):
      shown = ", ".join("any" if w is None else str(w) for w in shape)
      raise UserError(f"{what}: {name} has shape {have}, wanted ({shown}); "
                      "give the tower the sizes of the state.")


def _some(names: list[str]) -> str:
  """All of a few names, the first of many."""
  more = f" and {len(names) - 4} more" if len(names) > 4 else ""
  return ", ".join(names[:4]) + more


def norm(state: State, name: str) -> dict:
  return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}


def dense(state: State, name: str) -> dict:
  return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}


def packed_heads(state: State, name: str, num_heads: int) -> dict:
  """Rows of query, key and value, stacked: [3 A F, C] -> three [C, A, F]."""
  weight = state[f"{name}.weight"]
  kernels = np.einsum("qafc->qcaf", weight.reshape(
      3, num_heads, -1, weight.shape[1]))
  biases = state[f"{name}.bias"].reshape(3, num_heads, -1)
  return {q: {"kernel": kernels[i], "bias": biases[i]}
          for i, q in enumerate(("query", "key", "value"))}


def merge_heads(state: State, name: str, num_heads: int) -> dict:
  """A projection out of heads: [C, A F] -> [A, F, C]."""
  weight = state[f"{name}.weight"]
  return {"kernel": weight.T.reshape(num_heads, -1, len(weight)),
          "bias": state[f"{name}.bias"]}
