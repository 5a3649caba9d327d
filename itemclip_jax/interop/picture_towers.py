"""Public weights of one tower for pictures -> its parameters.

    tower                    file
    resnet, frozen_batch     torchvision's or timm's resnet50
    resnet, group            timm's resnet50_gn
    swin                     the published Swin-T, or timm's
    vit, family "imagenet"   timm's vit_small_patch16_224, vit_base_patch16_224
    vit, family "clip"       the image tower of an open_clip model
    text: clip               the text tower of an open_clip model

The file is named, or the folder that it stands in under one of `FILES`; nothing
is fetched. Classifiers, projections and what follows from the sizes are left
out; anything else that is left over is an error. OpenAI's own CLIP was trained
with another activation than the towers compute, see `rules.itemized_2d`.
"""

from collections.abc import Callable
import pathlib
import re
from typing import NamedTuple

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.interop import mapping, torch_io
from itemclip_jax.interop.rules import itemized_2d, resnet, swin, timm_vit
from itemclip_jax.models.dual_encoder import make_text, make_vision

FILES = ("model.safetensors", "open_clip_model.safetensors",
         "pytorch_model.bin", "open_clip_pytorch_model.bin")


class _Family(NamedTuple):
  """Where a tower's weights come from.

  Attributes:
    wanted: the file, in words.
    select: the state of the file -> the tower's own.
    rules: of the tower that the settings describe.
  """
  wanted: str
  select: Callable[[mapping.State], mapping.State]
  rules: Callable[[schema.Vision], mapping.Rules]


def vision(path: str | pathlib.Path, settings: schema.Vision) -> dict:
  """The parameters of a tower for pictures, float32.

  Args:
    path: a file or folder, see the head of this file.
    settings: of the tower that is to be filled.

  Raises:
    UserError: the file is missing, damaged, or of another model.
  """
  family = _VISION[_kind(settings)]
  file = _find(path, family.wanted)
  state = family.select(torch_io.read_state(file))
  if settings.tower == "resnet":
    _check_norm(state, settings, file)
  shapes = mapping.init_shapes(
      make_vision(settings, None),
      np.zeros((1, 1, *settings.volume_shape), np.float32),
      np.ones((1, 1), bool))
  entries = mapping.expand(family.rules(settings), shapes, family.wanted)
  return mapping.to_params(state, entries, str(file))


def clip_text(path: str | pathlib.Path, settings: schema.Text) -> dict:
  """The parameters of a CLIP text tower, float32.

  Of a longer table of positions the first `text.max_tokens` are taken: the
  tower is causal, so a text computes the same.

  Raises:
    UserError: as `vision`.
  """
  file = _find(path, _OPEN_CLIP)
  state = _text_part(torch_io.read_state(file))
  if "positional_embedding" in state:
    state["positional_embedding"] = (
        state["positional_embedding"][:settings.max_tokens])
  shapes = mapping.init_shapes(make_text(settings, None),
                               np.zeros((1, settings.max_tokens), np.int32))
  entries = mapping.expand(itemized_2d.TEXT, shapes, _OPEN_CLIP)
  return mapping.to_params(state, entries, str(file))


def _find(path: str | pathlib.Path, wanted: str) -> pathlib.Path:
  """The file itself, or the one in the folder."""
  path = pathlib.Path(path)
  files = [path / name for name in FILES] if path.is_dir() else [path]
  for file in files:
    if file.is_file():
      return file
  inside = f" (a folder holds one of {', '.join(FILES)})" * path.is_dir()
  raise UserError(f"There are no weights at {path}{inside}; give {wanted}, as "
                  ".safetensors or as torch wrote it. Nothing is fetched.")


def _kind(settings: schema.Vision) -> str:
  return f"vit {settings.family}" if settings.tower == "vit" else settings.tower


def _check_norm(state, settings: schema.Vision, file: pathlib.Path):
  """The norm of a ResNet is not in the shapes, but in its statistics."""
  kept = any(name.endswith(".running_mean") for name in state)
  wanted = "frozen_batch" if kept else "group"
  if settings.norm != wanted:
    raise UserError(f"{file} holds a ResNet "
                    f"{'with' if kept else 'without'} the statistics of batch "
                    f"normalisation; set vision.norm={wanted!r}.")


def _without(patterns) -> Callable[[mapping.State], mapping.State]:
  return lambda state: mapping.drop(state, patterns)


def _image_part(state: mapping.State) -> mapping.State:
  """Of a CLIP, without the projection."""
  return {name.removeprefix("visual."): value for name, value in state.items()
          if name.startswith("visual.") and name != "visual.proj"}


def _text_part(state: mapping.State) -> dict[str, np.ndarray]:
  """Of a CLIP, without the projection; newer ones have it under `text.`."""
  rest = mapping.drop(state, (
      *itemized_2d.UNUSED, r"visual\..*", "logit_scale", "logit_bias",
      r"(text\.)?text_projection"))
  return {re.sub(r"^text\.", "", name): value for name, value in rest.items()}


_OPEN_CLIP = "the weights of an open_clip model"

_VISION = {
    "resnet": _Family(
        "the weights of torchvision's resnet50, or of timm's resnet50_gn",
        _without(resnet.UNUSED), lambda v: resnet.rules(len(v.stages))),
    "swin": _Family(
        "the weights of timm's swin_tiny_patch4_window7_224",
        lambda state: swin.first_names(mapping.drop(state, swin.UNUSED)),
        lambda v: swin.rules(v.patch[1] >> (len(v.stages) - 1),
                             len(v.stages))),
    "vit imagenet": _Family(
        "the weights of timm's vit_small_patch16_224 or vit_base_patch16_224",
        _without(timm_vit.UNUSED), lambda v: timm_vit.rules(v.patch)),
    "vit clip": _Family(_OPEN_CLIP, _image_part,
                        lambda v: itemized_2d.vision(v.patch)),
}
