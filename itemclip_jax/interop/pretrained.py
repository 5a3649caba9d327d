"""The initial parameters of a run that starts from public weights."""

import jax

from itemclip_jax.config import schema
from itemclip_jax.interop import hf_text, inflate, mapping, picture_towers
from itemclip_jax.models.dual_encoder import make_vision

_FROM_MAE = {"hlip": inflate.hlip_from_mae, "vit3d": inflate.vit3d_from_mae}
_TEXT = {"bert": hf_text.params, "clip": picture_towers.clip_text}


def lay_over(params: dict, config: schema.Config) -> dict:
  """Replaces what `text.pretrained` and `vision.pretrained` determine.

  Everything else stays as it is: the projections, the item attention, the
  organ queries, the series names.

  Args:
    params: of `DualEncoder(config)`, laid out over a mesh.
    config: names the files, read by every process.

  Returns:
    Parameters of the same shapes, types and layout; `params` themselves where
    no file is named.

  Raises:
    UserError: a file is missing, damaged, or of another model.
  """
  flat = mapping.flatten(params)
  for path, value in mapping.flatten(read(config)).items():
    old = flat[path]
    flat[path] = jax.make_array_from_callback(
        old.shape, old.sharding,
        lambda index, v=value.astype(old.dtype): v[index])
  return mapping.unflatten(flat)


def read(config: schema.Config) -> dict:
  """The parameters that public weights determine, float32, named as ours."""
  found, text, vision = {}, config.text, config.vision
  if text.pretrained:
    found["text_tower"] = _TEXT[text.tower](text.pretrained, text)
  if vision.pretrained and vision.tower in _FROM_MAE:
    found["vision"] = _FROM_MAE[vision.tower](
        inflate.read_mae(vision.pretrained), make_vision(vision, None))
  elif vision.pretrained:
    found["vision"] = picture_towers.vision(vision.pretrained, vision)
  return found
