"""HLIP <-> `models.hlip.Hlip`, with or without series names; timm's blocks.

Published names of the levels: "scan" or "sequence" is our series. The fixed
codes that a state may hold are compared with ours and written by us.

Reference: Zhao et al. 2025, https://arxiv.org/abs/2505.21862 (HLIP).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import LEADING, MERGED, Rule
from itemclip_jax.models import layers

# Blocks and last norm of timm's vision transformer, so of an MAE too.
TIMM = (
    *mapping.under("blocks.{i}.", "block{i}/", (
        *mapping.affine("norm1", "norm1"),
        mapping.stacked("attn.qkv.weight", "attention", "kernel"),
        mapping.stacked("attn.qkv.bias", "attention", "bias"),
        *mapping.dense("attn.proj", "attention/out", MERGED),
        *mapping.affine("norm2", "norm2"),
        *mapping.dense("mlp.fc1", "mlp/fc1"),
        *mapping.dense("mlp.fc2", "mlp/fc2"))),
    *mapping.affine("norm", "norm"),
)

SERIES_NAME = (
    Rule("embed.weight", "letters/embedding"),
    *mapping.under("transformer.layers.{i}.", "layer{i}", (
        *mapping.affine("0.norm", "_norm1"),
        mapping.stacked("0.fn.to_qkv.weight", "_attention", "kernel"),
        *mapping.dense("0.fn.to_out.0", "_attention/out", MERGED),
        *mapping.affine("1.norm", "_norm2"),
        *mapping.dense("1.fn.net.0", "_mlp/fc1"),
        *mapping.dense("1.fn.net.3", "_mlp/fc2"))),
)

# Order of the series in a study; the second is the name of the newer code.
_ORDER = ("sequential_posemb", "series_posemb")
_NAME_CODE = "serienameencoder.p_enc_table"
_LEVELS = {"slice": "slice", "scan": "series", "sequence": "series",
           "study": "study"}


def rules(patch: tuple[int, int, int]) -> mapping.Rules:
  """The trunk with patches of `patch` voxels."""
  return (
      Rule("cls_token", "cls_token"),
      Rule("spatial_posemb", "spatial_position", LEADING),
      *mapping.dense("patch_embed.proj", "patch",
                     mapping.convolution(1, *patch)),
      *TIMM,
      *mapping.under("serienameencoder.", "series_name/", SERIES_NAME),
      *mapping.dense("sne_proj", "series_proj"))


def split_fixed(
    state: mapping.State, vision: schema.Vision, what: str
) -> dict[str, np.ndarray]:
  """The trunk's state without its fixed codes, which must be ours.

  Raises:
    UserError: a code is another one than ours, or has no use in this tower.
  """
  rest = dict(state)
  for name, code in _codes(vision).items():
    names = _ORDER if name in _ORDER else (name,)
    for theirs in (rest.pop(n) for n in names if n in rest):
      if theirs.size != code.size or not np.allclose(
          np.reshape(theirs, code.shape), code, atol=2e-3):  # half precision
        raise UserError(
            f"{what} has another {name} than the sines and cosines of "
            f"{code.shape} that this software computes, so its features would "
            "differ; use a checkpoint with the published table.")
  return rest


def buffers(vision: schema.Vision) -> dict[str, np.ndarray]:
  """The fixed codes that a published state of such a trunk holds, float32."""
  return {name: code[None].astype(np.float32)
          for name, code in _codes(vision).items() if name in _ORDER}


def _codes(vision: schema.Vision) -> dict[str, np.ndarray]:
  """Torch name -> table, of the codes that are no parameters here."""
  if vision.series_embedding == "order":
    return {_ORDER[0]: layers.sincos_1d(range(schema.MAX_ORDER), vision.width)}
  if vision.series_embedding == "name":
    return {_NAME_CODE: layers.interleaved_sincos(200, 10)}
  return {}


def attention_levels(
    lists: Mapping[str, Iterable[int]], *, depth: int, single_series: bool
) -> dict[str, tuple[int, ...]]:
  """The published lists of blocks as `vision.slice_blocks` and `study_blocks`.

  A block in no list is a series block. For studies of one series, "slice and
  study" and "slice and scan" are the same tower, and both names were published;
  the answer is then the latter.

  Args:
    lists: {"slice": ..., "scan" or "sequence": ..., "study": ...}, each also
      under its full name such as "scan_attn_indexes"; any may be absent.
    depth: number of blocks.
    single_series: every study has one series.

  Raises:
    UserError: a list has another name, a block is in two lists, or beyond
      `depth`.
  """
  level_of = {}
  for name, blocks in lists.items():
    short = name.removesuffix("_attn_indexes")
    if short not in _LEVELS:
      raise UserError(f"{name!r} is no list of attention blocks; want "
                      f"{', '.join(_LEVELS)}.")
    for block in blocks:
      if block in level_of or not 0 <= block < depth:
        raise UserError(f"Block {block} of {name} stands in another list too, "
                        f"or beyond the {depth} blocks; give each one level.")
      level_of[int(block)] = _LEVELS[short]
  chosen = lambda level: tuple(
      sorted(b for b, found in level_of.items() if found == level))
  return {"slice_blocks": chosen("slice"),
          "study_blocks": () if single_series else chosen("study")}
