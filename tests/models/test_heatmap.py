"""The processor of heatmaps: its formula, its scale, what it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from itemclip_jax.models import heatmap
from itemclip_jax.models.hlip import patches

PATCH, GRID, B, C, A = (3, 4, 4), (2, 3), 2, 8, 2
H, W = GRID[0] * PATCH[1], GRID[1] * PATCH[2]


def processor(kind="attention"):
  return heatmap.HeatmapProcessor(PATCH, C, A, kind)


@pytest.fixture(name="inputs", scope="module")
def _inputs():
  rng = np.random.default_rng(0)
  return (rng.normal(size=(B, 1, 3, H, W)).astype(np.float32),
          rng.uniform(size=(B, H, W)).astype(np.float32))


def random_params(kind, inputs):
  """At the initial values some biases are 0."""
  shapes = processor(kind).init(jax.random.key(0), *inputs)["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.3, shapes)


def test_joining_undoes_cutting(inputs):
  cut = patches(jnp.asarray(inputs[0]), PATCH)
  np.testing.assert_array_equal(heatmap.joined(cut[:, 0, 0], PATCH), inputs[0])


def test_it_is_the_formula_of_the_paper(inputs):
  p = random_params("attention", inputs)
  volume, looked = inputs
  def cut(picture):  # [3, H, W] -> [h * w, 3 * ph * pw], patch by patch
    return np.stack([
        picture[:, i:i + 4, j:j + 4].reshape(-1)
        for i in range(0, H, 4) for j in range(0, W, 4)])
  heads = lambda x, q: np.einsum("nc,caf->naf", x, p[q]["kernel"]) + (
      p[q]["bias"])
  made = np.zeros_like(volume)
  for b in range(B):
    embed = lambda x: cut(x) @ p["patch"]["kernel"] + p["patch"]["bias"]
    query = heads(embed(volume[b, 0] * looked[b]), "query")
    key, value = (heads(embed(volume[b, 0]), q) for q in ("key", "value"))
    weights = np.exp(np.einsum("qaf,naf->aqn", query, key) / (C // A) ** 0.5)
    weights /= weights.sum(-1, keepdims=True)
    x = np.einsum("aqn,naf->qaf", weights, value)
    x = np.einsum("qaf,afc->qc", x, p["out"]["kernel"]) + p["out"]["bias"]
    x = x @ p["linear"]["kernel"] + p["linear"]["bias"]
    x = (x @ p["unpatch"]["kernel"]).reshape(*GRID, *PATCH)
    for i, j in np.ndindex(*GRID):
      made[b, 0, :, 4 * i:4 * i + 4, 4 * j:4 * j + 4] = (
          x[i, j] + p["bias"][:, None, None])
  # float32, sums of 48 terms.
  np.testing.assert_allclose(
      processor().apply({"params": p}, *inputs), made, rtol=1e-4, atol=1e-5)


def test_a_mask_multiplies_and_has_no_parameters(inputs):
  out, variables = processor("mask").init_with_output(
      jax.random.key(0), *inputs)
  assert not jax.tree.leaves(variables)
  np.testing.assert_array_equal(out, inputs[0] * inputs[1][:, None, None])


@pytest.mark.parametrize("kind", ["attention", "cnn"])
def test_every_parameter_has_a_gradient_and_heatmaps_matter(kind, inputs):
  p = random_params(kind, inputs)
  apply = lambda p, looked: processor(kind).apply({"params": p}, inputs[0],
                                                  looked)
  out = apply(p, inputs[1])
  assert out.shape == inputs[0].shape
  assert np.abs(out - apply(p, jnp.ones_like(inputs[1]))).max() > 1e-3
  grads = jax.grad(lambda p: (apply(p, inputs[1]) ** 3).sum())(p)
  for path, x in jax.tree_util.tree_leaves_with_path(grads):
    if "key" in str(path) and "bias" in str(path):
      continue  # a common shift of its logits moves no softmax
    assert np.abs(x).max() > 0, path


def test_the_colours_share_one_bias_each(inputs):
  assert random_params("attention", inputs)["bias"].shape == (3,)


def test_a_map_is_scaled_by_its_own_or_by_the_batchs_maximum():
  raw = np.zeros((4, 1, 2), np.uint8)
  raw[:, 0] = [[50, 100], [20, 0], [0, 0], [200, 0]]
  expert = np.array([True, True, True, False])
  ones = [1.0, 1.0]  # nobody looked, or at nothing of this crop
  np.testing.assert_allclose(
      heatmap.scaled(raw, expert, over="sample")[:, 0],
      [[0.5, 1.0], [1.0, 0.0], ones, ones])
  np.testing.assert_allclose(
      heatmap.scaled(raw, expert, over="batch")[:, 0],
      [[0.5, 1.0], [0.2, 0.0], ones, ones])
  for over in ("sample", "batch"):
    assert (heatmap.scaled(raw, expert & False, over=over) == 1).all()


def test_a_share_of_one_is_the_image_whatever_was_made_of_it(inputs):
  made = np.full_like(inputs[0], np.nan)
  made[1] = 2.0
  out = heatmap.mix(inputs[0], made, jnp.array([1.0, 0.25]))
  np.testing.assert_array_equal(out[0], inputs[0][0])
  np.testing.assert_allclose(out[1], 0.25 * inputs[0][1] + 1.5, rtol=1e-6)


def test_priming_teaches_the_identity():
  wide = heatmap.HeatmapProcessor(PATCH, 64, 4)
  volume = jax.random.normal(jax.random.key(0), (4, 1, 3, H, W))
  looked = jnp.ones((4, H, W))
  params = wide.init(jax.random.key(1), volume, looked)["params"]
  tx = optax.adam(1e-2)
  loss = lambda p: jnp.mean(
      (wide.apply({"params": p}, volume, looked) - volume) ** 2)

  def update(_, carry):
    params, state = carry
    changes, state = tx.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, changes), state

  before = loss(params)
  params, _ = jax.jit(lambda c: jax.lax.fori_loop(0, 300, update, c))(
      (params, tx.init(params)))
  assert 0.9 < before < 1.5 and loss(params) < 0.01
