"""The whole model: shapes, shared projections, what its settings say."""

import jax
import numpy as np
import pytest

from itemclip_jax.interop import model_shapes
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.ops.intensity import RGB, standardise
from tests import tiny
from tests.models import pictures

CONFIG = tiny.config()
MODEL = tiny.model(CONFIG)
E = CONFIG.joint.width


@pytest.fixture(name="batch", scope="module")
def _batch():
  x = tiny.batch(CONFIG)
  return x | {"volume": np.asarray(standardise(x["volume"], 0.0, 255.0))}


@pytest.fixture(name="made", scope="module")
def _made(batch):
  """Outputs and parameters, of one compilation."""
  init = jax.jit(lambda x: MODEL.init_with_output(jax.random.key(0), x))
  outputs, variables = init(batch)
  return outputs, variables["params"]


@pytest.fixture(name="outputs", scope="module")
def _outputs(made):
  return made[0]


@pytest.fixture(name="params", scope="module")
def _params(made):
  return made[1]


def test_outputs_have_the_joint_width(outputs, batch):
  B, K, _ = batch["item_tokens"].shape
  N = 2 * 2 * 3 * 3  # series, then the token grid of 24x48x48 by 12x16x16
  assert outputs.image.shape == (B, E) and outputs.items.shape == (B, K, E)
  assert outputs.tokens.shape == (B, N, E)
  np.testing.assert_array_equal(outputs.token_mask.sum(1), [N, N // 2])
  np.testing.assert_array_equal(
      outputs.tokens[~np.asarray(outputs.token_mask)], 0.0)


def test_scale_is_the_exponential_and_bias_is_as_given(outputs):
  np.testing.assert_allclose(  # float32
      outputs.logit_scale, np.exp(CONFIG.loss.init_logit_scale), rtol=1e-6)
  assert outputs.logit_bias == MODEL.logit_bias


def test_initialising_makes_every_part(params):
  assert set(params) == {"vision", "vision_proj", "text_tower", "text_proj",
                         "item_attention", "logit_scale", "logit_bias"}
  assert set(params["vision_proj"]) == set(params["text_proj"]) == {"kernel"}


def test_parameters_do_not_depend_on_the_number_of_series_or_items(params):
  shapes = jax.eval_shape(lambda: MODEL.init(
      jax.random.key(0), tiny.init_example(CONFIG))["params"])
  shape = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  assert shape(params) == shape(shapes)


def test_text_of_one_item_does_not_depend_on_the_others(
    outputs, batch, params):
  ids = batch["item_tokens"][0]
  text = jax.jit(lambda ids: MODEL.apply(
      {"params": params}, ids, method="text"))(ids)
  # float32: the same sums, in batches of another size.
  np.testing.assert_allclose(text, outputs.items[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["order", "none"])
def test_series_may_be_told_apart_by_order_or_not_at_all(batch, kind):
  model = DualEncoder(tiny.config(vision={"series_embedding": kind}))
  out = jax.eval_shape(
      lambda x: model.init_with_output(
          {"params": jax.random.key(0), "dropout": jax.random.key(1)}, x,
          train=True), batch)
  assert out[0].tokens.shape[-1] == E
  assert "series_name" not in out[1]["params"]["vision"]


def test_pictures_have_towers_of_their_own():
  c = pictures.config()
  batch = tiny.batch(c, num_series=1)
  volume = standardise(batch["volume"], *RGB)
  model = tiny.model(c)
  outputs, variables = jax.jit(lambda x: model.init_with_output(
      jax.random.key(0), x))(batch | {"volume": volume})
  assert outputs.image.shape == (2, E) and outputs.tokens.shape == (2, 9, E)
  assert outputs.token_mask.all() and outputs.items.shape[-1] == E
  params = variables["params"]
  assert set(params["text_tower"]) == {"word", "position", "block0", "norm"}
  assert set(params["vision"]) == {"patch", "cls_token", "position", "norm_pre",
                                   "block0", "block1", "norm"}
  for name, width in (("vision_proj", c.vision.width),
                      ("text_proj", c.text.width)):
    kernel = params[name]["kernel"]
    # N(0, 1 / width): some of 800 draws lie beyond a truncation at 2.
    assert np.abs(kernel).max() > 2.5 * width ** -0.5
    np.testing.assert_allclose(  # five standard errors
        kernel.std(), width ** -0.5, rtol=5 / np.sqrt(2 * kernel.size))


def test_a_model_of_organs_serves_objectives_that_have_none(batch):
  """CLIP on fVLM's tower: validation hands over only what CLIP requires."""
  c = tiny.config(joint={"organs": 3})
  zeros, model = model_shapes.zeros(c), tiny.model(c)
  params = jax.jit(model.init)(jax.random.key(0), zeros)["params"]
  assert "organ_pool" in params
  out = jax.eval_shape(lambda: model.apply({"params": params}, batch))
  assert out.organs is None and out.image.shape == (2, c.joint.width)
