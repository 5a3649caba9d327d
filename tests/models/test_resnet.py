"""ResNet against plain NumPy, its size, and what a picture may depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.interop import mapping
from itemclip_jax.interop.rules import resnet as rules
from itemclip_jax.models.resnet import Resnet
from itemclip_jax.train import optimizer
from tests.models import plain_towers
from tests.parity.compile import jit

B, STAGES, WIDTH = 3, (2, 1), 8
PRESENT = np.array([[True], [True], [False]])
MODELS = {norm: Resnet(STAGES, WIDTH, norm)
          for norm in ("group", "frozen_batch")}
STATE = plain_towers.random_state(plain_towers.resnet_shapes(STAGES, WIDTH))


def params_of(norm: str) -> dict:
  """`STATE` as parameters; a GroupNorm has no statistics."""
  state = mapping.drop(STATE, rules.UNUSED)
  if norm == "group":
    state = mapping.drop(state, (r".*\.running_.*",))
  shapes = mapping.init_shapes(
      MODELS[norm], np.zeros((1, 1, 3, 16, 16), np.float32), PRESENT[:1])
  entries = mapping.expand(rules.rules(len(STAGES)), shapes, norm)
  return mapping.to_params(state, entries, norm)


@pytest.fixture(name="pictures", scope="module")
def _pictures():
  return np.random.default_rng(0).normal(
      size=(B, 1, 3, 16, 24)).astype(np.float32)


def apply(norm, pictures, present=PRESENT):
  return jit(MODELS[norm].apply)({"params": params_of(norm)}, pictures, present)


@pytest.mark.parametrize("norm, groups", [
    ("frozen_batch", None), ("group", lambda channels: min(32, channels // 2))])
def test_the_tower_is_the_plain_one(pictures, norm, groups):
  out = apply(norm, pictures)
  assert out.tokens.shape == (B, 2 * 3, 64) and out.cls.shape == (B, 64)
  for i in range(2):
    plain = plain_towers.resnet(STATE, pictures[i, 0], STAGES, groups=groups)
    np.testing.assert_allclose(  # float32, ten convolutions
        out.tokens[i].T, plain.reshape(64, -1), rtol=1e-4,
        atol=1e-5 * plain.max())
    np.testing.assert_allclose(out.cls[i], plain.mean((1, 2)), rtol=1e-4,
                               atol=1e-5 * plain.max())


@pytest.mark.parametrize("norm", MODELS)
def test_a_missing_picture_changes_no_output_and_no_gradient(pictures, norm):
  poisoned = pictures.copy()
  poisoned[2] = np.nan
  ours = apply(norm, pictures)
  jax.tree.map(np.testing.assert_array_equal, ours, apply(norm, poisoned))
  np.testing.assert_array_equal(ours.token_mask, PRESENT.repeat(6, 1))
  np.testing.assert_array_equal(ours.tokens[2], 0.0)

  @jit
  def gradients(params, pictures):
    def total(params, pictures):
      out = MODELS[norm].apply({"params": params}, pictures, PRESENT)
      return jnp.sum(out.cls ** 2, where=PRESENT) + jnp.sum(out.tokens ** 2)
    return jax.grad(total, (0, 1))(params, pictures)

  (clean, _), (dirty, pixels) = (gradients(params_of(norm), x)
                                 for x in (pictures, poisoned))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)
  np.testing.assert_array_equal(pixels[2], 0.0)
  assert np.isfinite(pixels).all() and np.abs(pixels[:2]).max() > 0
  for path, value in mapping.flatten(clean).items():
    fixed = path.endswith(("mean", "var"))  # constants of the file
    assert (np.abs(value).max() > 0) != fixed, path


def test_statistics_and_norms_are_not_decayed_but_kernels_are():
  labels = mapping.flatten(optimizer.labels(
      {"vision": params_of("frozen_batch")}))
  for path, label in labels.items():
    assert label == ("decay" if "kernel" in path else "no_decay"), path


@pytest.mark.parametrize("norm", MODELS)
def test_a_picture_does_not_depend_on_its_batch(pictures, norm):
  whole, alone = (apply(norm, x, np.ones((len(x), 1), bool))
                  for x in (pictures, pictures[1:2]))
  np.testing.assert_allclose(whole.cls[1], alone.cls[0], rtol=1e-4,
                             atol=1e-5)  # float32, by other routines


def test_recomputing_blocks_changes_nothing(pictures):
  def gradient(model):
    total = lambda params: jnp.sum(
        model.apply({"params": params}, pictures, PRESENT).cls ** 2)
    return jit(jax.grad(total))(params_of("group"))

  model = MODELS["group"]
  jax.tree.map(  # float32
      lambda a, b: np.testing.assert_allclose(
          a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max()),
      gradient(model), gradient(model.clone(remat=True)))


@pytest.mark.parametrize("norm, extra", [
    ("group", 0), ("frozen_batch", 2 * 26_560)])  # statistics, two a channel
def test_full_size_has_the_parameters_of_resnet_50(norm, extra):
  out, variables = jax.eval_shape(
      lambda x: Resnet(norm=norm).init_with_output(
          jax.random.key(0), x, jnp.ones((1, 1), bool)),
      jax.ShapeDtypeStruct((1, 1, 3, 448, 448), jnp.float32))
  assert out.tokens.shape == (1, 14 * 14, 2048)
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  assert count == 25_557_032 - 2048 * 1000 - 1000 + extra  # less its classifier


def test_activations_keep_their_size_at_the_start(pictures):
  model = Resnet((1, 1, 1, 1), 16)
  out, _ = jit(lambda x: model.init_with_output(
      jax.random.key(0), x, jnp.ones((B, 1), bool)))(
          jnp.tile(pictures, (1, 1, 1, 4, 4))[..., :64])
  assert out.tokens.shape == (B, 4, 512)
  assert 0.1 < np.std(out.tokens) < 10


@pytest.mark.parametrize("norm", MODELS)
def test_half_precision_is_near_single(pictures, norm):
  half = MODELS[norm].clone(dtype=jnp.bfloat16)
  out = jit(half.apply)({"params": params_of(norm)},
                        pictures.astype(jnp.bfloat16), PRESENT)
  assert out.tokens.dtype == out.cls.dtype == jnp.bfloat16
  exact = apply(norm, pictures).cls
  assert np.abs(out.cls - exact).max() < 0.05 * np.abs(exact).max()


def test_what_is_no_single_whole_picture_is_refused(pictures):
  params = {"params": params_of("group")}
  with pytest.raises(ValueError, match="got 2 series; set data.max_series=1"):
    MODELS["group"].apply(params, pictures.repeat(2, 1), PRESENT.repeat(2, 1))
  with pytest.raises(ValueError, match="16 x 20 pixels is no whole number of "
                                       "tokens of 8 x 8"):
    MODELS["group"].apply(params, pictures[..., :20], PRESENT)
