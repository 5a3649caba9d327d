"""The parameters that a config describes, without making them."""

import jax
import jax.numpy as jnp

from itemclip_jax.config import schema
from itemclip_jax.interop import mapping
from itemclip_jax.models.dual_encoder import DualEncoder


def example(config: schema.Config) -> dict:
  """Shapes and types of a batch of one study, to initialise a model with."""
  shape = jax.ShapeDtypeStruct
  size = config.vision.volume_shape
  more = {}
  if config.joint.organs:
    more["organ_mask"] = shape((1, *size), jnp.uint8)
  if config.vision.heatmap_width:
    more |= {"heatmap": shape((1, *size[1:]), jnp.float32),
             "mix": shape((1,), jnp.float32)}
  return more | {
      "volume": shape((1, 1, *size), jnp.float32),
      "series_mask": shape((1, 1), bool),
      "series_names": shape((1, 1, config.vision.name_length), jnp.int32),
      "item_tokens": shape((1, 1, config.text.max_tokens), jnp.int32)}


def zeros(config: schema.Config) -> dict:
  """A batch as `example` describes it."""
  return {name: jnp.zeros(x.shape, x.dtype)
          for name, x in example(config).items()}


def abstract_params(config: schema.Config) -> dict:
  """Shapes and types of the parameters of `DualEncoder(config)`."""
  return jax.eval_shape(DualEncoder(config).init, jax.random.key(0),
                        example(config))["params"]


def of(config: schema.Config) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every parameter."""
  return mapping.shapes(abstract_params(config))
