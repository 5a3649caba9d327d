"""ItemizedCLIP's radiology code and HLIP's <-> `models.dual_encoder`.

Both are open_clip models: the trunk of timm under `visual.trunk`, a Hugging
Face text tower under `text.transformer`.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141; Zhao et al. 2025,
https://arxiv.org/abs/2505.21862.
"""

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.interop import mapping
from itemclip_jax.interop.mapping import LINEAR, Rule
from itemclip_jax.interop.rules import bert, hlip, whole

_TRUNK, _TEXT = "visual.trunk.", "text.transformer."


def rules(config: schema.Config) -> mapping.Rules:
  """Of the whole model.

  Raises:
    UserError: the config has other towers.
  """
  if (config.vision.tower, config.text.tower) != ("hlip", "bert"):
    raise UserError(
        f"vision.tower={config.vision.tower!r} and text.tower="
        f"{config.text.tower!r} are not the towers of the radiology models; "
        "want 'hlip' and 'bert'.")
  return (
      *mapping.under(_TRUNK, "vision/", hlip.rules(config.vision.patch)),
      Rule("visual.head.proj.weight", "vision_proj/kernel", LINEAR),
      *mapping.under(_TEXT, "text_tower/", bert.RULES),
      Rule("text.proj.weight", "text_proj/kernel", LINEAR),
      *whole.RULES)


def to_params(state: mapping.State, config: schema.Config) -> dict:
  """A published state -> our parameters, float32.

  Without the item attention (and the bias) where the state has none, as HLIP's
  have not: lay the tree over the initial parameters.

  Args:
    state: names of the published model, see `torch_io.read_state`.
    config: its vision, text and joint sections are those of the state.

  Raises:
    UserError: names are left over on either side, or a shape does not fit.
  """
  is_trunk = lambda name: name.startswith(_TRUNK)
  trunk = hlip.split_fixed(
      {k.removeprefix(_TRUNK): v for k, v in state.items() if is_trunk(k)},
      config.vision, "The checkpoint")
  rest = {k: v for k, v in state.items() if not is_trunk(k)}
  state = rest | {_TRUNK + k: v for k, v in trunk.items()}
  return whole.to_params(mapping.drop(state, _unused()), rules(config), config)


def from_params(params: dict, config: schema.Config) -> dict[str, np.ndarray]:
  """Our parameters -> a state with the names of the published model.

  Its fixed codes are written too; what `unused` lists is not.
  """
  codes = {_TRUNK + k: v for k, v in hlip.buffers(config.vision).items()}
  return whole.from_params(params, rules(config)) | codes


def unused(state: mapping.State) -> dict[str, np.ndarray]:
  """The arrays of a published state that the model never reads.

  Lay them over what `from_params` gives to have the original state whole.
  """
  return {k: state[k] for k in state.keys() - mapping.drop(state, _unused())}


def _unused() -> list[str]:
  return [_TEXT.replace(".", r"\.") + pattern for pattern in bert.UNUSED]
