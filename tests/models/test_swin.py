"""Swin against plain NumPy, padding of the map, and its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.interop import mapping
from itemclip_jax.interop.rules import swin as rules
from itemclip_jax.models import swin
from itemclip_jax.models.swin import Swin, SwinBlock
from itemclip_jax.train import optimizer
from tests.models import plain_towers
from tests.parity.compile import jit

B, SIZES = 3, {"stages": (2, 2), "width": 8, "num_heads": 2, "patch": 2,
               "window": 3}
MODEL = Swin(**SIZES, drop_path=0.5)
STATE = plain_towers.random_state(plain_towers.swin_shapes(**SIZES))
PRESENT = np.array([[True], [True], [False]])


def params_of(model, state):
  shapes = mapping.init_shapes(
      model, np.zeros((1, 1, 3, 12, 12), np.float32), PRESENT[:1])
  entries = mapping.expand(rules.rules(2, len(model.stages)), shapes, "Swin")
  return mapping.to_params(mapping.drop(state, rules.UNUSED), entries, "Swin")


@pytest.fixture(name="params", scope="module")
def _params():
  return params_of(MODEL, STATE)


@pytest.fixture(name="short", scope="module")
def _short():
  """A tower of one stage, and its parameters."""
  sizes = SIZES | {"stages": (2,)}
  state = plain_towers.random_state(plain_towers.swin_shapes(**sizes))
  model = Swin(**sizes, drop_path=0.5)
  return model, params_of(model, state)


def pictures(height, width):
  return np.random.default_rng(0).normal(
      size=(B, 1, 3, height, width)).astype(np.float32)


def apply(params, x, present=PRESENT):
  return jit(MODEL.apply)({"params": params}, x, present)


# Tokens of the two stages: tiled by windows of 3; padded; a small map.
@pytest.mark.parametrize("size", [(24, 12), (20, 28), (4, 16)])
def test_the_tower_is_the_plain_one(params, size):
  x = pictures(*size)
  out = apply(params, x)
  for i in range(2):
    plain = plain_towers.swin(STATE, x[i, 0], stages=(2, 2), num_heads=2,
                              window=3)
    np.testing.assert_allclose(out.tokens[i], plain, rtol=1e-4,
                               atol=1e-5)  # float32, four blocks
    np.testing.assert_allclose(out.cls[i], plain.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(6, 9), (7, 5), (2, 8), (3, 3), (1, 1)])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_token_sees_its_own_window_and_no_padding(grid, shift):
  moved = tuple(shift if n > 3 else 0 for n in grid)
  mask = swin.neighbours(grid, 3, moved)
  padded = tuple(-(-n // 3) * 3 for n in grid)
  at = np.roll(np.arange(padded[0] * padded[1]).reshape(padded),
               (-moved[0], -moved[1]), (0, 1))
  at = swin.cut(at[None, ..., None], 3)[0, ..., 0]
  seen = np.zeros((at.size, at.size), bool)
  for window, inside in zip(at, mask):
    seen[np.ix_(window, window)] = inside
  real = np.zeros(padded, bool)
  real[:grid[0], :grid[1]] = True
  real = real.ravel()
  together = np.isfinite(plain_towers.window_bias(
      np.zeros((25, 1)), grid, 3, shift)[0])
  np.testing.assert_array_equal(seen[np.ix_(real, real)], together)
  assert not seen[:, ~real].any()


def test_cutting_into_windows_and_joining_are_inverse():
  x = np.arange(2 * 6 * 9 * 2).reshape(2, 6, 9, 2)
  windows = swin.cut(x, 3)
  np.testing.assert_array_equal(windows[0, 4].reshape(3, 3, 2), x[0, 3:, 3:6])
  np.testing.assert_array_equal(swin.join(windows, 6, 9), x)


def test_the_bias_of_an_offset_by_hand():
  index = swin.relative_index(2)  # tokens (0,0) (0,1) (1,0) (1,1); table 3 x 3
  np.testing.assert_array_equal(
      index, [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])


def test_padding_of_the_map_never_leaks():
  """What norms and projections make of padded places is seen by nobody."""
  block = SwinBlock(2, 3, 1, 16)
  x = np.random.default_rng(1).normal(size=(1, 5, 4, 8)).astype(np.float32)
  params = jit(block.init)(jax.random.key(0), x)["params"]
  shifted = jax.tree.map(jnp.copy, params)
  # Padding enters the projections as zeros, so that this is its key; a common
  # shift of all keys changes no softmax, unless padding has a part in it.
  shifted["attention"]["key"]["bias"] += 30.0
  np.testing.assert_allclose(
      jit(block.apply)({"params": params}, x),
      jit(block.apply)({"params": shifted}, x),
      rtol=1e-4, atol=1e-4)  # logits of about 100 in float32


def test_a_missing_picture_changes_no_output_and_no_gradient(params):
  x = pictures(20, 12)
  poisoned = x.copy()
  poisoned[2] = np.nan
  ours = apply(params, x)
  jax.tree.map(np.testing.assert_array_equal, ours, apply(params, poisoned))
  np.testing.assert_array_equal(ours.token_mask, PRESENT.repeat(15, 1))
  np.testing.assert_array_equal(ours.tokens[2], 0.0)

  @jit
  def gradients(params, x):
    def total(params, x):
      out = MODEL.apply({"params": params}, x, PRESENT)
      weight = jnp.arange(out.tokens.size).reshape(out.tokens.shape) % 7
      return (jnp.sum(out.cls ** 2, where=PRESENT)
              + jnp.sum(out.tokens ** 2 * weight))
    return jax.grad(total, (0, 1))(params, x)

  (clean, _), (dirty, pixels) = (gradients(params, a) for a in (x, poisoned))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)
  np.testing.assert_array_equal(pixels[2], 0.0)
  assert np.isfinite(pixels).all() and np.abs(pixels[:2]).max() > 0
  for path, value in mapping.flatten(clean).items():
    assert np.isfinite(value).all() and np.abs(value).max() > 0, path


def test_recomputing_blocks_changes_nothing(short):
  model, params = short
  x = pictures(8, 6)

  def gradient(model):
    def total(params):
      out = model.apply({"params": params}, x, PRESENT, train=True,
                        rngs={"dropout": jax.random.key(3)})
      return jnp.sum(out.cls) + jnp.sum(out.tokens ** 3)
    return jit(jax.grad(total))(params)

  jax.tree.map(  # float32; gradients sum 24 tokens
      lambda a, b: np.testing.assert_allclose(
          a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(a).max())),
      gradient(model), gradient(model.clone(remat=True)))


def test_branches_are_skipped_in_training_only(short):
  model, params = short
  x = pictures(8, 6)
  apply = lambda model, **more: jit(lambda: model.apply(
      {"params": params}, x, PRESENT, **more).cls)()
  first, second = (apply(model, train=True, rngs={"dropout": jax.random.key(i)})
                   for i in range(2))
  assert np.abs(first - second).max() > 1e-3
  np.testing.assert_allclose(
      apply(model), apply(model.clone(drop_path=0.0), train=True),
      rtol=1e-5, atol=1e-5)  # float32, compiled apart


def test_tables_of_offsets_and_norms_are_not_decayed(params):
  labels = mapping.flatten(optimizer.labels({"vision": params}))
  for path, label in labels.items():
    assert label == ("decay" if "kernel" in path else "no_decay"), path


def test_full_size_has_the_parameters_of_swin_t():
  picture = jax.ShapeDtypeStruct((1, 1, 3, 224, 224), jnp.float32)
  out, variables = jax.eval_shape(
      lambda x: Swin().init_with_output(jax.random.key(0), x,
                                        jnp.ones((1, 1), bool)), picture)
  assert out.tokens.shape == (1, 49, 768)
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  assert count == 28_288_354 - 768 * 1000 - 1000  # less its classifier


def test_what_is_no_single_whole_picture_is_refused(params):
  with pytest.raises(ValueError, match="got 2 series; set data.max_series=1"):
    apply(params, pictures(12, 12).repeat(2, 1), PRESENT.repeat(2, 1))
  with pytest.raises(ValueError, match="12 x 10 pixels is no whole number of "
                                       "tokens of 4 x 4"):
    apply(params, pictures(12, 10))
