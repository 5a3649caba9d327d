"""ItemizedCLIP's 2-D code, FLAIR's and open_clip's <-> `models.dual_encoder`.

The towers are open_clip's in all of them. ItemizedCLIP and FLAIR project by
`image_post` and `text_post` and have the item attention; the projections of
open_clip stand in the towers, and its newer models keep the text tower under
`text.`.

OpenAI's own weights want another activation (sigmoid(1.702 x) x) that no name
tells of: they convert, but do not compute what they were trained for.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141; Xiao et al. 2024,
https://arxiv.org/abs/2412.03561; Radford et al. 2021,
https://arxiv.org/abs/2103.00020.
"""

from typing import Literal

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import MERGED, Rule
from itemclip_jax.interop.rules import whole

Naming = Literal["itemized", "open_clip", "open_clip_text"]

_BLOCKS = mapping.under("transformer.resblocks.{i}.", "block{i}/", (
    *mapping.affine("ln_1", "norm1"),
    mapping.stacked("attn.in_proj_weight", "attention", "kernel"),
    mapping.stacked("attn.in_proj_bias", "attention", "bias"),
    *mapping.dense("attn.out_proj", "attention/out", MERGED),
    *mapping.affine("ln_2", "norm2"),
    *mapping.dense("mlp.c_fc", "mlp/fc1"),
    *mapping.dense("mlp.c_proj", "mlp/fc2")))

TEXT = (
    Rule("token_embedding.weight", "word/embedding"),
    Rule("positional_embedding", "position/embedding"),
    *_BLOCKS,
    *mapping.affine("ln_final", "norm"),
)

# Projection of images, prefix of the text tower, projection of texts.
_NAMES = {"itemized": ("image_post.proj", "", "text_post.proj"),
          "open_clip": ("visual.proj", "", "text_projection"),
          "open_clip_text": ("visual.proj", "text.", "text.text_projection")}

# A constant mask, and numbers that scripted models carry.
UNUSED = (r"(text\.)?attn_mask", "input_resolution", "context_length",
           "vocab_size")


def rules(config: schema.Config, naming: Naming) -> mapping.Rules:
  """Of the whole model.

  Raises:
    UserError: the config has other towers.
  """
  if (config.vision.tower, config.text.tower) != ("vit", "clip"):
    raise UserError(
        f"vision.tower={config.vision.tower!r} and text.tower="
        f"{config.text.tower!r} are not the towers of the 2-D models; want "
        "'vit' and 'clip'.")
  image, text, projection = _NAMES[naming]
  return (
      *mapping.under("visual.", "vision/", vision(config.vision.patch)),
      Rule(image, "vision_proj/kernel"),
      *mapping.under(text, "text_tower/", TEXT),
      Rule(projection, "text_proj/kernel"),
      *whole.RULES)


def vision(patch: tuple[int, int, int]) -> mapping.Rules:
  """Of the image tower with patches of (3, h, w)."""
  return (
      Rule("class_embedding", "cls_token"),
      Rule("positional_embedding", "position/embedding"),
      Rule("conv1.weight", "patch/kernel", mapping.convolution(*patch)),
      *mapping.affine("ln_pre", "norm_pre"),
      *_BLOCKS,
      *mapping.affine("ln_post", "norm"))


def naming_of(state: mapping.State) -> Naming:
  """Which of the families a state belongs to.

  Raises:
    UserError: none of them.
  """
  for naming, (image, text, projection) in _NAMES.items():
    if {image, f"{text}ln_final.weight", projection} <= state.keys():
      return naming
  raise UserError(
      "The checkpoint has the projections of no 2-D family; want image_post "
      "and text_post, or visual.proj and text_projection.")


def to_params(state: mapping.State, config: schema.Config) -> dict:
  """A published state -> our parameters, float32.

  Without the item attention (and the bias) where the state has none: lay the
  tree over the initial parameters.

  Args:
    state: names of any of the families, see `torch_io.read_state`.
    config: its vision, text and joint sections are those of the state.

  Raises:
    UserError: names are left over on either side, or a shape does not fit.
  """
  state = mapping.drop(state, UNUSED)
  return whole.to_params(state, rules(config, naming_of(state)), config)


def from_params(params: dict, config: schema.Config,
                naming: Naming = "itemized") -> dict[str, np.ndarray]:
  """Our parameters -> a state with the names of one family.

  Raises:
    UserError: the family has no place for a parameter; open_clip has none for
      the item attention.
  """
  if naming != "itemized" and "item_attention" in params:
    raise UserError("open_clip has no item attention; leave it out of the "
                    "parameters, or write the names of ItemizedCLIP.")
  return whole.from_params(params, rules(config, naming))
