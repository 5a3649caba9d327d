"""The model for pictures against the published one: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.models.dual_encoder import DualEncoder
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close
from tests.parity.compile import jit

FAMILY = "model2d_"
ITEM_HEADS = 2  # the file holds no number, and no output depends on it


def _config(data) -> schema.Config:
  number = lambda name: int(data[f"cfg.{name}"])
  hidden = lambda tower: len(
      data[f"param.{tower}.resblocks.0.mlp.c_fc.bias"])
  return schema.Config(
      data=schema.Data(max_series=1),
      vision=schema.Vision(
          tower="vit", volume_shape=(3, number("img"), number("img")),
          patch=(3, number("patch"), number("patch")), width=number("vw"),
          depth=number("vl"), num_heads=number("vh"), drop_path=0.0,
          mlp_ratio=hidden("visual.transformer") / number("vw"),
          series_embedding="none", study_blocks=()),
      text=schema.Text(
          tower="clip", max_tokens=number("ctx"), vocab_size=number("V"),
          width=number("tw"), depth=number("tl"), num_heads=number("th"),
          mlp_width=hidden("transformer"), dropout=0.0),
      joint=schema.Joint(width=number("ed"), num_heads=ITEM_HEADS))


def _params(data, prefix: str) -> dict:
  return torch_names.model2d(
      torch_names.under(data, prefix), vision_heads=int(data["cfg.vh"]),
      text_heads=int(data["cfg.th"]))


@functools.partial(jit, static_argnums=0)
def _run(model, params, rest, batch, toward):
  """Gradients by `params`, the outputs, and those of every last norm."""
  def total(params):
    out, state = model.apply(
        {"params": params | rest}, batch, mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name in (
            "norm", "text_tower"))
    parts = (out.image, out.tokens, out.items.reshape(toward[2].shape))
    return sum(jnp.sum(x * t) for x, t in zip(parts, toward)), (
        out, state["intermediates"])
  return jax.grad(total, has_aux=True)(params)


def test_model_and_gradients_agree(data):
  image = data["in.image"]
  batch = {"volume": image[:, None],
           "series_mask": np.ones((len(image), 1), bool), "series_names": None,
           "item_tokens": data["in.text_ids"].astype(np.int32)}
  rest = {"logit_scale": data["param.logit_scale"],
          "logit_bias": data["param.logit_bias"],
          "item_attention": torch_names.item_attention(
              torch_names.under(data, "param.visual_proj"), ITEM_HEADS)}
  toward = [data[f"in.cotangent_{name}"] for name in (
      "image_features", "image_tokens", "text_features")]
  grads, (out, seen) = _run(DualEncoder(_config(data)), _params(data, "param"),
                            rest, batch, toward)

  vision = seen["vision"]["norm"]["__call__"][0]
  assert_close(vision[:, 0], data["out.visual_global_preproj"], "vision cls")
  assert_close(vision[:, 1:], data["out.visual_tokens_preproj"],
               "vision tokens")
  text = seen["text_tower"]["norm"]["__call__"][0]
  assert_close(text, data["out.text_tokens_preproj"], "text tokens")
  assert_close(seen["text_tower"]["__call__"][0],
               data["out.text_global_preproj"], "text end")
  assert_close(out.image, data["out.image_features"], "image_features")
  assert_close(out.tokens, data["out.image_tokens"], "image_tokens")
  theirs = data["out.text_features"]
  assert_close(out.items.reshape(theirs.shape), theirs, "text_features")
  assert_close(out.logit_scale, data["out.logit_scale"], "logit_scale")
  assert_close(out.logit_bias, data["out.logit_bias"], "logit_bias")
  assert_trees_close(grads, _params(data, "grad"), "grad")
