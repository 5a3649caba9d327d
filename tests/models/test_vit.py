"""The tower for pictures: what it leaves out, sizes, initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import layers
from itemclip_jax.models.vit import Vit
from itemclip_jax.train import optimizer
from tests.parity.compile import jit

B, WIDTH, TOKENS = 3, 12, 9
MODEL = Vit(patch=(3, 4, 4), width=WIDTH, depth=2, num_heads=2, mlp_ratio=2.0)
PRESENT = np.array([[True], [True], [False]])


@pytest.fixture(name="pictures", scope="module")
def _pictures():
  return np.random.default_rng(0).normal(
      size=(B, 1, 3, 12, 12)).astype(np.float32)


@pytest.fixture(name="params", scope="module")
def _params(pictures):
  """Away from the initial values, where norms would be trivial."""
  shapes = jax.eval_shape(
      lambda: MODEL.init(jax.random.key(0), pictures, PRESENT))
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@jit
def apply(params, pictures):
  return MODEL.apply(params, pictures, PRESENT)


@jit
def gradients(params, pictures):
  """Of a sum of all tokens and of the CLS of pictures that are there."""
  def total(params, pictures):
    out = MODEL.apply(params, pictures, PRESENT)
    return jnp.sum(out.cls ** 2, where=PRESENT) + jnp.sum(out.tokens ** 2)
  return jax.grad(total, (0, 1))(params, pictures)


def test_a_missing_picture_changes_no_output_and_no_gradient(pictures, params):
  poisoned = pictures.copy()
  poisoned[2] = np.nan
  ours = apply(params, pictures)
  jax.tree.map(np.testing.assert_array_equal, ours, apply(params, poisoned))
  np.testing.assert_array_equal(ours.token_mask, PRESENT.repeat(TOKENS, 1))
  np.testing.assert_array_equal(ours.tokens[2], 0.0)
  (clean, _), (dirty, pixels) = (gradients(params, x)
                                 for x in (pictures, poisoned))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)
  np.testing.assert_array_equal(pixels[2], 0.0)
  assert np.isfinite(pixels).all() and np.abs(pixels[:2]).max() > 0


def test_every_channel_and_place_is_told_apart(pictures, params):
  out = np.asarray(apply(params, pictures).cls[0])
  for other in (pictures[:, :, ::-1], pictures[..., ::-1],
                pictures.swapaxes(-1, -2), np.roll(pictures, 4, axis=-1)):
    assert np.abs(apply(params, other).cls[0] - out).max() > 1e-3


def test_two_pictures_a_study_are_refused(params, pictures):
  with pytest.raises(ValueError, match="got 2 series; set data.max_series=1"):
    MODEL.apply(params, pictures.repeat(2, axis=1), PRESENT.repeat(2, axis=1))


@pytest.mark.parametrize("mixture", [0, 3])
def test_filler_rows_change_nothing(pictures, params, mixture, monkeypatch):
  model = MODEL.clone(mixture_tokens=mixture)
  if mixture:
    params = model.init(jax.random.key(4), pictures, PRESENT)
  run = lambda: jax.value_and_grad(lambda params: (
      lambda out: jnp.sum(out.cls) + jnp.sum(out.tokens ** 2))(
          model.apply(params, pictures, PRESENT)))(params)
  without = run()
  monkeypatch.setattr(layers, "filler", lambda rows, dtype: 5)
  jax.tree.map(  # float32; gradients sum 27 tokens
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      run(), without)


def test_recomputing_blocks_changes_nothing(pictures, params):
  def gradient(model):
    def total(params):
      out = model.apply(params, pictures, PRESENT, train=True,
                        rngs={"dropout": jax.random.key(3)})
      return jnp.sum(out.cls) + jnp.sum(out.tokens ** 2)
    return jit(jax.grad(total))(params)

  model = MODEL.clone(drop_path=0.5)
  jax.tree.map(  # float32; gradients sum 27 tokens
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      gradient(model), gradient(model.clone(remat=True)))


def test_full_size_has_the_parameters_of_clip_vit_b_16():
  picture = jax.ShapeDtypeStruct((1, 1, 3, 224, 224), jnp.float32)
  out, variables = jax.eval_shape(
      lambda x: Vit().init_with_output(jax.random.key(0), x,
                                       jnp.ones((1, 1), bool)), picture)
  assert out.tokens.shape == (1, 196, 768)
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  # 86 192 640 of the published tower, less its projection to 512.
  assert count == 86_192_640 - 768 * 512


def test_initial_values_are_those_of_open_clip():
  model = Vit(patch=(3, 8, 8), width=96, depth=1, num_heads=2)
  params = model.init(jax.random.key(0), jnp.zeros((1, 1, 3, 64, 64)),
                      jnp.ones((1, 1), bool))["params"]
  block = params["block0"]
  uniform = lambda fan_in: (3 * fan_in) ** -0.5  # of U(-n^-1/2, n^-1/2)
  expected = [
      (params["cls_token"], 96 ** -0.5),
      (params["position"]["embedding"], 96 ** -0.5),
      (params["patch"]["kernel"], uniform(192)),
      (block["attention"]["query"]["kernel"], (2 * 96) ** -0.5),
      (block["attention"]["out"]["kernel"], uniform(96)),
      (block["mlp"]["fc1"]["kernel"], uniform(96)),
      (block["mlp"]["fc1"]["bias"], uniform(96)),
      (block["mlp"]["fc2"]["kernel"], uniform(384)),
      (block["mlp"]["fc2"]["bias"], uniform(384))]
  for value, std in expected:
    # Five standard errors of the standard deviation of a normal sample.
    np.testing.assert_allclose(np.std(value), std,
                               rtol=5 / np.sqrt(2 * value.size))
    assert abs(np.mean(value)) < 5 * std / np.sqrt(value.size)
  for bias in (block["attention"]["query"]["bias"],
               block["attention"]["out"]["bias"]):
    np.testing.assert_array_equal(bias, 0.0)


def test_the_cls_token_is_not_decayed_but_its_positions_are(params):
  labels = optimizer.labels({"vision": params["params"]})["vision"]
  assert labels["cls_token"] == "no_decay"
  assert labels["position"]["embedding"] == "decay"
