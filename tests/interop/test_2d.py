"""Published 2-D checkpoints: in, out, and what they then compute."""

import pathlib

import jax
import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.interop import model_shapes
from itemclip_jax.interop.rules import itemized_2d, itemized_radiology
from itemclip_jax.models.dual_encoder import DualEncoder
from tests.parity import torch_names

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/model2d_clip.npz"
CONFIG = schema.Config(
    data=schema.Data(max_series=1),
    vision=schema.Vision(
        tower="vit", volume_shape=(3, 24, 24), patch=(3, 8, 8), width=48,
        depth=3, num_heads=4, series_embedding="none", study_blocks=()),
    text=schema.Text(tower="clip", vocab_size=61, width=32, depth=3,
                     num_heads=4, mlp_width=128, max_tokens=10, dropout=0.0),
    joint=schema.Joint(width=32, num_heads=8))


@pytest.fixture(name="golden", scope="module")
def _golden():
  with np.load(GOLDEN) as file:
    return dict(file)


@pytest.fixture(name="state", scope="module")
def _state(golden):
  return torch_names.under(golden, "param")


@pytest.fixture(name="params", scope="module")
def _params(state):
  return itemized_2d.to_params(state, CONFIG)


def open_clip_names(state, text: str) -> dict:
  """The same arrays as a plain CLIP, its text tower under a prefix."""
  names = {"image_post.proj": "visual.proj",
           "text_post.proj": f"{text}text_projection"}
  towers = ("visual.", "logit_scale", *names.values())
  state = {names.get(k, k): v for k, v in state.items()
           if not k.startswith("visual_proj.") and k != "logit_bias"}
  return {k if k.startswith(towers) else text + k: v for k, v in state.items()}


def test_converted_model_reproduces_the_golden_activations(golden, params):
  apply = lambda *args, method: DualEncoder(CONFIG).apply(
      {"params": params}, *args, method=method)
  image, tokens, _ = apply(golden["in.image"][:, None], np.ones((3, 1), bool),
                           None, method="image")
  items = apply(golden["in.text_ids"].reshape(6, -1), method="text")
  for ours, name in ((image, "image_features"), (tokens, "image_tokens"),
                     (items, "text_features")):
    theirs = golden[f"out.{name}"]
    np.testing.assert_allclose(  # float32, three blocks
        ours, theirs, rtol=1e-4, atol=1e-4 * abs(theirs).max(), err_msg=name)
  assert params["logit_scale"] == golden["param.logit_scale"]
  assert params["logit_bias"] == golden["param.logit_bias"]


def test_the_tree_is_the_one_that_the_model_makes(params):
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
  assert kinds(params) == kinds(model_shapes.abstract_params(CONFIG))


def test_there_and_back_is_exact(state, params):
  back = itemized_2d.from_params(params, CONFIG)
  assert back.keys() == state.keys()
  for name, value in back.items():
    np.testing.assert_array_equal(value, state[name], err_msg=name)
    assert value.shape == state[name].shape, name
  jax.tree.map(np.testing.assert_array_equal, params,
               itemized_2d.to_params(back, CONFIG))


@pytest.mark.parametrize("text, naming", [("", "open_clip"),
                                          ("text.", "open_clip_text")])
def test_plain_clip_fills_the_towers_and_comes_back(
    state, params, text, naming):
  plain = open_clip_names(state, text)
  ours = itemized_2d.to_params(
      plain | {f"{text}attn_mask": np.zeros((10, 10))}, CONFIG)
  assert ours.keys() == params.keys() - {"item_attention", "logit_bias"}
  for name in ours:
    jax.tree.map(np.testing.assert_array_equal, ours[name], params[name])
  back = itemized_2d.from_params(ours, CONFIG, naming)
  assert back.keys() == plain.keys()
  for name, value in back.items():
    np.testing.assert_array_equal(value, plain[name], err_msg=name)


def test_open_clip_has_no_place_for_the_item_attention(params):
  with pytest.raises(ValueError, match="open_clip has no item attention"):
    itemized_2d.from_params(params, CONFIG, "open_clip")


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("visual.ln_pre.bias"), "lacks visual.ln_pre.bias;"),
    (lambda s: s.update({"visual.proj": 0}), "unexpected visual.proj;"),
    (lambda s: s.pop("text_post.proj"), "projections of no 2-D family"),
    (lambda s: s.update({"image_post.proj": np.zeros((32, 48))}),
     r"image_post.proj has shape \(32, 48\), wanted \(48, 32\);"),
    (lambda s: s.update({"positional_embedding": np.zeros((77, 32))}),
     r"has shape \(77, 32\), wanted \(10, 32\);")])
def test_what_does_not_fit_is_one_sentence(state, change, message):
  state = dict(state)
  change(state)
  with pytest.raises(ValueError, match=message):
    itemized_2d.to_params(state, CONFIG)


def test_a_family_refuses_the_towers_of_another(state):
  with pytest.raises(ValueError, match="not the towers of the radiology"):
    itemized_radiology.to_params(state, CONFIG)
  with pytest.raises(ValueError, match="not the towers of the 2-D models"):
    itemized_2d.to_params(state, schema.Config())
