"""The initial parameters of a run that starts from public weights."""

import jax

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.interop import hf_text, inflate, mapping
from itemclip_jax.models.dual_encoder import make_vision


def lay_over(params: dict, config: schema.Config) -> dict:
  """Replaces what `text.pretrained` and `vision.pretrained` determine.

  Everything else stays as it is: the projections, the item attention, the
  series names.

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
  found = {}
  if config.text.pretrained:
    if config.text.tower != "bert":
      raise UserError("text.pretrained is a BERT for text.tower='bert', got "
                      f"tower {config.text.tower!r}; leave it empty.")
    found["text_tower"] = hf_text.params(config.text.pretrained, config.text)
  if config.vision.pretrained:
    if config.vision.tower != "hlip":
      raise UserError("vision.pretrained is an MAE for vision.tower='hlip', "
                      f"got tower {config.vision.tower!r}; leave it empty.")
    found["vision"] = inflate.hlip_from_mae(
        inflate.read_mae(config.vision.pretrained),
        make_vision(config.vision, None))
  return found
