"""Torch parameters (and their gradients) of the golden files in our layout.

Every function is linear in every array, so gradients convert like parameters.
"""

import re

import numpy as np


def under(data, prefix: str) -> dict[str, np.ndarray]:
  """The entries below `prefix.`, without it."""
  return {k[len(prefix) + 1:]: np.asarray(data[k]) for k in data
          if k.startswith(prefix + ".")}


def item_attention(torch: dict, num_heads: int) -> dict:
  """The published cross-attention layer -> `ItemAttention`."""
  params = {}
  for q in ("query", "key", "value"):
    params[f"ln_{q}"] = _norm(torch, f"ln_{q[0]}")
  packed = _packed(torch, "attn.in_proj_weight", "attn.in_proj_bias", num_heads)
  return params | packed | {"out": _merge(torch, "attn.out_proj", num_heads)}


def hlip(torch: dict, *, num_heads: int, name_heads: int = 1) -> dict:
  """The trunk, with a series-name encoder where there is one -> `Hlip`.

  The fixed position table is left out where `torch` lacks it (gradients).
  """
  params = {"cls_token": torch["cls_token"], "norm": _norm(torch, "norm"),
            "patch": _patch(torch, "patch_embed.proj")}
  if "spatial_posemb" in torch:
    params["spatial_position"] = torch["spatial_posemb"][0]
  for i in _numbers(torch, r"blocks\.(\d+)\."):
    block = under(torch, f"blocks.{i}")
    params[f"block{i}"] = {
        "norm1": _norm(block, "norm1"), "norm2": _norm(block, "norm2"),
        "attention": _packed(block, "attn.qkv.weight", "attn.qkv.bias",
                             num_heads)
        | {"out": _merge(block, "attn.proj", num_heads)},
        "mlp": {"fc1": _dense(block, "mlp.fc1"),
                "fc2": _dense(block, "mlp.fc2")}}
  if "sne_proj.weight" in torch:
    params["series_proj"] = _dense(torch, "sne_proj")
    params["series_name"] = series_name(
        under(torch, "serienameencoder"), name_heads)
  return params


def series_name(torch: dict, num_heads: int) -> dict:
  """The series-name encoder -> `SeriesNameEncoder`."""
  params = {"letters": {"embedding": torch["embed.weight"]}}
  for i in _numbers(torch, r"transformer\.layers\.(\d+)\."):
    layer = under(torch, f"transformer.layers.{i}")
    params |= {
        f"layer{i}_norm1": _norm(layer, "0.norm"),
        f"layer{i}_attention": _packed(layer, "0.fn.to_qkv.weight", None,
                                       num_heads)
        | {"out": _merge(layer, "0.fn.to_out.0", num_heads)},
        f"layer{i}_norm2": _norm(layer, "1.norm"),
        f"layer{i}_mlp": {"fc1": _dense(layer, "1.fn.net.0"),
                          "fc2": _dense(layer, "1.fn.net.3")}}
  return params


def bert(torch: dict, num_heads: int) -> dict:
  """A Hugging Face BERT, without its unused pooler -> `Bert`."""
  table = lambda name: {
      "embedding": torch[f"embeddings.{name}_embeddings.weight"]}
  params = {"word": table("word"), "position": table("position"),
            "type": table("token_type"),
            "norm": _norm(torch, "embeddings.LayerNorm")}
  for i in _numbers(torch, r"encoder\.layer\.(\d+)\."):
    layer = under(torch, f"encoder.layer.{i}")
    attention = {q: _split(layer, f"attention.self.{q}", num_heads)
                 for q in ("query", "key", "value")}
    params |= {
        f"layer{i}_attention": attention | {
            "out": _merge(layer, "attention.output.dense", num_heads)},
        f"layer{i}_norm1": _norm(layer, "attention.output.LayerNorm"),
        f"layer{i}_mlp": {"fc1": _dense(layer, "intermediate.dense"),
                          "fc2": _dense(layer, "output.dense")},
        f"layer{i}_norm2": _norm(layer, "output.LayerNorm")}
  return params


def model2d(torch: dict, *, vision_heads: int, text_heads: int) -> dict:
  """Both towers for pictures and their projections -> `DualEncoder`."""
  visual = under(torch, "visual")
  vision = {"patch": {"kernel": _filters(visual, "conv1")},
            "cls_token": visual["class_embedding"],
            "position": {"embedding": visual["positional_embedding"]},
            "norm_pre": _norm(visual, "ln_pre"),
            "norm": _norm(visual, "ln_post")}
  text = {"word": {"embedding": torch["token_embedding.weight"]},
          "position": {"embedding": torch["positional_embedding"]},
          "norm": _norm(torch, "ln_final")}
  return {
      "vision": vision | _resblocks(visual, vision_heads),
      "vision_proj": {"kernel": torch["image_post.proj"]},
      "text_tower": text | _resblocks(torch, text_heads),
      "text_proj": {"kernel": torch["text_post.proj"]}}


def _resblocks(torch: dict, num_heads: int) -> dict:
  """The layers of an open_clip transformer -> `Block`s."""
  params = {}
  for i in _numbers(torch, r"transformer\.resblocks\.(\d+)\."):
    block = under(torch, f"transformer.resblocks.{i}")
    attention = _packed(block, "attn.in_proj_weight", "attn.in_proj_bias",
                        num_heads)
    params[f"block{i}"] = {
        "norm1": _norm(block, "ln_1"), "norm2": _norm(block, "ln_2"),
        "attention": attention
        | {"out": _merge(block, "attn.out_proj", num_heads)},
        "mlp": {"fc1": _dense(block, "mlp.c_fc"),
                "fc2": _dense(block, "mlp.c_proj")}}
  return params


def _numbers(torch: dict, pattern: str) -> list[int]:
  """The layers that the names speak of."""
  return sorted({int(m[1]) for k in torch if (m := re.match(pattern, k))})


def _norm(torch: dict, name: str) -> dict:
  return {"scale": torch[f"{name}.weight"], "bias": torch[f"{name}.bias"]}


def _dense(torch: dict, name: str) -> dict:
  return {"kernel": torch[f"{name}.weight"].T, "bias": torch[f"{name}.bias"]}


def _patch(torch: dict, name: str) -> dict:
  """A convolution [C, 1, pd, ph, pw] whose stride is its kernel."""
  return {"kernel": _filters(torch, name), "bias": torch[f"{name}.bias"]}


def _filters(torch: dict, name: str) -> np.ndarray:
  """[C, ...] -> [voxels of a patch, C]."""
  weight = torch[f"{name}.weight"]
  return weight.reshape(len(weight), -1).T


def _split(torch: dict, name: str, num_heads: int) -> dict:
  """A projection into heads: [A F, C] -> [C, A, F]."""
  weight = torch[f"{name}.weight"]
  return {"kernel": weight.T.reshape(weight.shape[1], num_heads, -1),
          "bias": torch[f"{name}.bias"].reshape(num_heads, -1)}


def _packed(torch: dict, weight: str, bias: str | None, num_heads: int) -> dict:
  """Query, key and value rows stacked in one matrix."""
  params = {}
  for i, name in enumerate(("query", "key", "value")):
    rows = np.split(torch[weight], 3)[i]
    kernel = rows.T.reshape(rows.shape[1], num_heads, -1)
    params[name] = {"kernel": kernel}
    if bias is not None:
      params[name]["bias"] = np.split(torch[bias], 3)[i].reshape(num_heads, -1)
  return params


def _merge(torch: dict, name: str, num_heads: int) -> dict:
  """A projection out of heads: [C, A F] -> [A, F, C]."""
  weight = torch[f"{name}.weight"]
  return {"kernel": weight.T.reshape(num_heads, -1, len(weight)),
          "bias": torch[f"{name}.bias"]}
