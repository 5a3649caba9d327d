"""What the families share: item attention, scale and bias, the conversion.

HLIP and CLIP have no item attention and, where they were trained by softmax, no
bias: those parameters are not in the tree that such a state gives.
"""

import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.interop import mapping, model_shapes
from itemclip_jax.interop.mapping import FLAT, LINEAR, MERGED, Rule

_STACK = ("query", "key", "value")

# The item attention is called visual_proj; torch's MultiheadAttention in it.
RULES = (
    *mapping.under("visual_proj.", "item_attention/", (
        *(rule for q in _STACK
          for rule in mapping.affine(f"ln_{q[0]}", f"ln_{q}")),
        Rule("attn.in_proj_weight", tuple(f"{q}/kernel" for q in _STACK),
             LINEAR),
        Rule("attn.in_proj_bias", tuple(f"{q}/bias" for q in _STACK), FLAT),
        *mapping.dense("attn.out_proj", "out", MERGED))),
    Rule("logit_scale", "logit_scale"),
    Rule("logit_bias", "logit_bias"),
)


def to_params(state: mapping.State, rules: mapping.Rules,
              config: schema.Config) -> dict:
  """Our parameters of a state without its unused names.

  Raises:
    UserError: names are left over on either side, or a shape does not fit.
  """
  shapes, absent = model_shapes.of(config), []
  if not any(name.startswith("visual_proj.") for name in state):
    absent = ["item_attention/"] + ["logit_bias"] * ("logit_bias" not in state)
  shapes = {path: shape for path, shape in shapes.items()
            if not path.startswith(tuple(absent))}
  # Scalars are stored as [] or as [1].
  state = {k: np.reshape(v, ()) if k in ("logit_scale", "logit_bias")
           and np.size(v) == 1 else v for k, v in state.items()}
  what = "The checkpoint"
  return mapping.to_params(state, mapping.expand(rules, shapes, what), what)


def from_params(params: dict, rules: mapping.Rules) -> dict[str, np.ndarray]:
  """The state of parameters, whole or without the item attention."""
  return mapping.to_state(params, mapping.expand(
      rules, mapping.shapes(params), "A checkpoint of this family"))
