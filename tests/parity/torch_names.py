"""Torch parameters (and their gradients) of the golden files in our layout."""

import numpy as np


def under(data, prefix: str) -> dict[str, np.ndarray]:
  """The entries below `prefix.`, without it."""
  return {k[len(prefix) + 1:]: np.asarray(data[k]) for k in data
          if k.startswith(prefix + ".")}


def item_attention(torch: dict, num_heads: int) -> dict:
  """The published cross-attention layer -> `ItemAttention` parameters.

  Linear in every array, so gradients convert by the same function.
  """
  packed, bias = torch["attn.in_proj_weight"], torch["attn.in_proj_bias"]
  E = packed.shape[1]
  A, F = num_heads, E // num_heads
  params = {}
  for i, name in enumerate(("query", "key", "value")):
    rows = slice(i * E, (i + 1) * E)
    params[name] = {"kernel": packed[rows].T.reshape(E, A, F),
                    "bias": bias[rows].reshape(A, F)}
    short = f"ln_{name[0]}"
    params[f"ln_{name}"] = {"scale": torch[f"{short}.weight"],
                            "bias": torch[f"{short}.bias"]}
  params["out"] = {"kernel": torch["attn.out_proj.weight"].T.reshape(A, F, E),
                   "bias": torch["attn.out_proj.bias"]}
  return params
