"""The published Swin, and timm's <-> `models.swin.Swin`.

timm moved the merging of tokens from the end of a stage to the start of the
next, in its names too; the names here are the first ones.
"""

import re

import numpy as np

from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import LINEAR, MERGED, Rule

_BLOCK = (
    *mapping.affine("norm1", "norm1"),
    mapping.stacked("attn.qkv.weight", "attention", "kernel"),
    mapping.stacked("attn.qkv.bias", "attention", "bias"),
    Rule("attn.relative_position_bias_table", "attention/relative_bias"),
    *mapping.dense("attn.proj", "attention/out", MERGED),
    *mapping.affine("norm2", "norm2"),
    *mapping.dense("mlp.fc1", "mlp/fc1"),
    *mapping.dense("mlp.fc2", "mlp/fc2"),
)

# The classifier, and tables that follow from the sizes.
UNUSED = (r"head\..*", r".*\.relative_position_index", r".*\.attn_mask")

_MERGE = re.compile(r"layers\.(\d+)\.downsample\.(.*)")


def rules(patch: int, num_stages: int) -> mapping.Rules:
  """Of a tower of so many stages, with patches of `patch` pixels a side."""
  return (
      *mapping.dense("patch_embed.proj", "patch",
                     mapping.convolution(3, patch, patch)),
      *mapping.affine("patch_embed.norm", "patch_norm"),
      *(rule for i in range(num_stages) for rule in _stage(i)),
      *mapping.affine("norm", "norm"))


def _stage(i: int) -> mapping.Rules:
  """Blocks of a stage, and what leads to the next one."""
  return (
      *mapping.under(f"layers.{i}.blocks.{{i}}.", f"stage{i}_block{{i}}/",
                     _BLOCK),
      *mapping.under(f"layers.{i}.downsample.", f"stage{i + 1}_merge/", (
          *mapping.affine("norm", "norm"),
          Rule("reduction.weight", "reduction/kernel", LINEAR))))


def first_names(state: mapping.State) -> dict[str, np.ndarray]:
  """The state under the first names, whichever it has."""
  if any(name.startswith("layers.0.downsample.") for name in state):
    return dict(state)
  earlier = lambda m: f"layers.{int(m[1]) - 1}.downsample.{m[2]}"
  return {_MERGE.sub(earlier, name): value for name, value in state.items()}
