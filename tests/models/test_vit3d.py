"""The tower for volumes: levels, other grids, missing volumes, dropout, MAE."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.interop import inflate
from itemclip_jax.models import layers, vit3d
from itemclip_jax.models.vit3d import Vit3d
from tests.parity.compile import jit

B, WIDTH, GRID = 3, 12, (2, 3, 2)
TOKENS = 12
MODEL = Vit3d(patch=(2, 4, 6), grid=GRID, width=WIDTH, depth=2, num_heads=2,
              mlp_ratio=1.5, levels=(0, 1))
PRESENT = np.array([[True], [True], [False]])


@pytest.fixture(name="volumes", scope="module")
def _volumes():
  return np.random.default_rng(0).normal(
      size=(B, 1, 4, 12, 12)).astype(np.float32)


@pytest.fixture(name="params", scope="module")
def _params(volumes):
  """Away from the initial values, where norms would be trivial."""
  shapes = jax.eval_shape(
      lambda: MODEL.init(jax.random.key(0), volumes, PRESENT))["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


def encode(params, volumes, present=PRESENT, model=MODEL, **options):
  return jit(lambda p, v: model.apply({"params": p}, v, present, **options))(
      params, volumes)


def test_tokens_are_patches_in_order_d_h_w(volumes, params):
  """Without blocks a token is its patch's projection at its position."""
  bare = MODEL.clone(depth=0, levels=())
  own = {k: v for k, v in params.items() if not k.startswith("block")}
  out = encode(own, volumes, model=bare)
  n = 0
  for d in range(2):
    for h in range(3):
      for w in range(2):
        patch = volumes[0, 0, 2 * d:2 * d + 2, 4 * h:4 * h + 4,
                        6 * w:6 * w + 6].ravel()
        x = patch @ params["patch"]["kernel"] + params["patch"]["bias"]
        x = x + params["position"]["embedding"][n]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        x = x * params["norm"]["scale"] + params["norm"]["bias"]
        np.testing.assert_allclose(out.tokens[0, n], x, rtol=1e-4, atol=1e-5)
        n += 1
  assert out.levels is None and n == out.tokens.shape[1]


def test_image_vector_is_the_mean_of_the_tokens(volumes, params):
  out = encode(params, volumes)
  np.testing.assert_allclose(out.cls, np.asarray(out.tokens).mean(1),
                             rtol=1e-5, atol=1e-6)


def test_levels_are_the_states_behind_those_blocks_then_the_tokens(
    volumes, params):
  model = MODEL.clone(levels=(0,))
  out, kept = jit(lambda p, v: model.apply(
      {"params": p}, v, PRESENT, capture_intermediates=True))(params, volumes)
  assert out.levels.shape == (B, 2, TOKENS, WIDTH)
  np.testing.assert_array_equal(out.levels[:, 1], out.tokens)
  (state,) = kept["intermediates"]["block0"]["__call__"]
  np.testing.assert_array_equal(out.levels[:2, 0], state[:2])
  assert encode(params, volumes).levels.shape == (B, 3, TOKENS, WIDTH)


def test_a_missing_volume_changes_no_output_and_no_gradient(volumes, params):
  poisoned = volumes.copy()
  poisoned[2] = np.nan

  @jit
  def gradients(params, volumes):
    def total(params, volumes):
      out = MODEL.apply({"params": params}, volumes, PRESENT)
      return jnp.sum(out.levels ** 2) + jnp.sum(out.cls ** 2)
    return jax.grad(total, (0, 1))(params, volumes)

  ours = encode(params, volumes)
  jax.tree.map(np.testing.assert_array_equal, ours, encode(params, poisoned))
  np.testing.assert_array_equal(ours.levels[2], 0.0)
  np.testing.assert_array_equal(ours.token_mask, PRESENT.repeat(TOKENS, 1))
  (clean, _), (dirty, voxels) = (gradients(params, x)
                                 for x in (volumes, poisoned))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)
  np.testing.assert_array_equal(voxels[2], 0.0)
  assert np.isfinite(voxels).all() and np.abs(voxels[:2]).max() > 0


def test_a_larger_window_gets_the_positions_resampled(params):
  """Blank patches: what is left of a token is its position."""
  bare = MODEL.clone(depth=0, levels=())
  own = {k: v for k, v in params.items() if not k.startswith("block")}
  own["patch"] = jax.tree.map(np.zeros_like, params["patch"])
  grid = (3, 3, 4)
  blank = np.zeros((1, 1, 6, 12, 24), np.float32)
  out = encode(own, blank, np.ones((1, 1), bool), model=bare)
  table = params["position"]["embedding"].reshape(*GRID, WIDTH)
  # Half-pixel centres: two to three and two to four, borders repeated.
  three = np.array([[1, 0], [0.5, 0.5], [0, 1]])
  four = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
  wanted = np.einsum("ad,bw,dhwc->ahbc", three, four, table)
  norm = layers.layer_norm(1e-6)
  np.testing.assert_allclose(
      out.tokens[0], norm.apply({"params": params["norm"]},
                                wanted.reshape(-1, WIDTH)),
      rtol=1e-4, atol=1e-5)
  assert np.prod(grid) == out.tokens.shape[1]


def dropping_embedding(params, volumes):
  """Without blocks."""
  model = MODEL.clone(depth=0, levels=(), dropout=0.5)
  own = {k: v for k, v in params.items() if not k.startswith("block")}
  return lambda key, train: model.apply(
      {"params": own}, volumes, PRESENT, train=train,
      rngs={"dropout": key}).tokens[:2]


def dropping_branch(silent, params, volumes):
  """One block of which the branch `silent` adds nothing."""
  block = vit3d._Block(num_heads=2, hidden=18, dropout=0.5)
  x = volumes.reshape(-1, TOKENS, WIDTH)
  own = params["block0"] | {
      silent: jax.tree.map(np.zeros_like, params["block0"][silent])}
  return lambda key, train: block.apply(
      {"params": own}, x, train, rngs={"dropout": key})


@pytest.mark.parametrize("make", [
    dropping_embedding, functools.partial(dropping_branch, "mlp"),
    functools.partial(dropping_branch, "attention")])
def test_dropout_is_drawn_in_training_only(volumes, params, make):
  run = jit(make(params, volumes), static_argnums=1)
  one, two = (jax.random.key(i, impl="rbg") for i in range(2))
  np.testing.assert_array_equal(run(one, False), run(two, False))
  assert np.abs(run(one, True) - run(two, True)).max() > 1e-3
  assert np.abs(run(one, True) - run(one, False)).max() > 1e-3


def test_recomputing_blocks_changes_nothing(volumes, params):
  model = MODEL.clone(dropout=0.3, drop_path=0.5)
  key = jax.random.key(3, impl="rbg")  # compiles faster

  def gradient(model):
    def total(params):
      out = model.apply({"params": params}, volumes, PRESENT, train=True,
                        rngs={"dropout": key})
      return jnp.sum(out.cls) + jnp.sum(out.levels ** 2)
    return jit(jax.grad(total))(params)

  jax.tree.map(  # float32; gradients sum 36 tokens
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      gradient(model), gradient(model.clone(remat=True)))


def test_two_series_are_refused(params, volumes):
  with pytest.raises(ValueError, match="got 2 series; set data.max_series=1"):
    MODEL.apply({"params": params}, volumes.repeat(2, axis=1),
                PRESENT.repeat(2, axis=1))


def test_full_size_is_a_vit_b_of_1232_tokens():
  model = Vit3d(patch=(16, 16, 32), grid=(7, 16, 11), levels=(3, 6, 9))
  volume = jax.ShapeDtypeStruct((1, 1, 112, 256, 352), jnp.float32)
  out, variables = jax.eval_shape(
      lambda x: model.init_with_output(jax.random.key(0), x,
                                       jnp.ones((1, 1), bool)), volume)
  assert out.levels.shape == (1, 4, 1232, 768)
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  block = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
  assert count == 12 * block + (16 * 16 * 32 + 1) * 768 + 1232 * 768 + 2 * 768


def mae_state(side=3):
  free = {"patch_embed.proj.weight": (WIDTH, 3, 4, 4),
          "pos_embed": (1, 1 + side ** 2, WIDTH)}
  rng = np.random.default_rng(0)
  shapes = inflate.mae_shapes(MODEL) | free
  return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def test_every_weight_of_an_mae_block_loads_and_patch_and_cls_do_not(params):
  ours = inflate.vit3d_from_mae(mae_state(), MODEL)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
  assert kinds(ours) == kinds(
      {k: v for k, v in params.items() if k != "patch"})
  state = mae_state()
  qkv = state["blocks.1.attn.qkv.weight"]
  np.testing.assert_array_equal(
      ours["block1"]["attention"]["key"]["kernel"].reshape(WIDTH, WIDTH),
      qkv[WIDTH:2 * WIDTH].T)
  np.testing.assert_array_equal(
      ours["block0"]["attention"]["out"]["kernel"].reshape(WIDTH, WIDTH),
      state["blocks.0.attn.proj.weight"].T)
  np.testing.assert_array_equal(ours["norm"]["scale"], state["norm.weight"])


def test_mae_positions_are_bilinear_in_the_plane_and_repeated_over_depth():
  state = mae_state()
  ours = inflate.vit3d_from_mae(state, MODEL)["position"]["embedding"]
  plane = state["pos_embed"][0, 1:].reshape(3, 3, WIDTH)
  # Three pixels to two: centres at 1/4 and 7/4.
  columns = np.array([[0.75, 0.25, 0], [0, 0.25, 0.75]])
  wanted = np.einsum("bw,hwc->hbc", columns, plane)
  np.testing.assert_allclose(
      ours.reshape(*GRID, WIDTH), np.stack([wanted] * 2), rtol=1e-5, atol=1e-6)


def test_an_mae_without_a_block_weight_is_refused():
  state = mae_state()
  del state["blocks.1.attn.proj.weight"]
  with pytest.raises(ValueError, match="lacks blocks.1.attn.proj.weight"):
    inflate.vit3d_from_mae(state, MODEL)
