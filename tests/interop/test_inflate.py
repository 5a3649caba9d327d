"""A 2-D MAE in the 3-D tower: resizing by hand, and the tower it becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from itemclip_jax.interop import inflate
from itemclip_jax.models import hlip, layers
from itemclip_jax.models.gelu import gelu

WIDTH, SIDE = 12, 3  # of the tower, of the square of MAE positions

MODEL = hlip.Hlip(patch=(2, 4, 6), grid=(2, 3, 3), width=WIDTH, depth=2,
                  num_heads=2, mlp_ratio=1.5, series_embedding="none")
# One slab, so that a volume is an image and the tower a plain ViT.
FLAT = MODEL.clone(patch=(1, 4, 4), grid=(1, SIDE, SIDE))


def random_state(model, patch=(4, 4)) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  free = {"patch_embed.proj.weight": (WIDTH, 3, *patch),
          "pos_embed": (1, 1 + SIDE ** 2, WIDTH)}
  shapes = inflate.mae_shapes(model) | free
  return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def plain_vit(state, image, num_heads):
  """The 2-D encoder in torch's layout: [H, W, 3] -> [1 + g * g, C].

  Patch tokens are moved by the code of slab 0, all that inflation adds to it.
  """
  linear = lambda x, name: x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
  def norm(x, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-6)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]

  kernel = state["patch_embed.proj.weight"]
  q = kernel.shape[-1]
  pixels = image.reshape(SIDE, q, SIDE, q, 3)
  x = np.einsum("hiwjr,crij->hwc", pixels, kernel).reshape(SIDE ** 2, -1)
  x = x + state["patch_embed.proj.bias"]
  x = x + layers.sincos_1d([0], WIDTH)
  x = np.concatenate([state["cls_token"][0], x]) + state["pos_embed"][0]
  for i in range(MODEL.depth):
    at = f"blocks.{i}"
    qkv = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv")
    q, k, v = qkv.reshape(len(x), 3, num_heads, -1).transpose(1, 2, 0, 3)
    weights = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
    weights = weights / weights.sum(-1, keepdims=True)
    pooled = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
    x = x + linear(pooled, f"{at}.attn.proj")
    hidden = linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")
    x = x + linear(np.asarray(gelu(hidden)), f"{at}.mlp.fc2")
  return norm(x, "norm")


def test_inflated_tower_on_one_slab_is_the_2d_encoder():
  state = random_state(FLAT)
  grey = np.random.default_rng(1).normal(size=(12, 12)).astype(np.float32)
  out = FLAT.apply({"params": inflate.hlip_from_mae(state, FLAT)},
                   grey[None, None, None], np.ones((1, 1), bool))
  theirs = plain_vit(state, np.repeat(grey[..., None], 3, -1), FLAT.num_heads)
  ours = jnp.concatenate([out.cls, out.tokens[0]])
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_depth_constant_grey_volume_embeds_as_its_rgb_image():
  state = random_state(MODEL)
  kernel = state["patch_embed.proj.weight"]
  grey = np.random.default_rng(1).normal(size=(12, 12)).astype(np.float32)
  rgb = np.repeat(grey[None], 3, 0).reshape(3, SIDE, 4, SIDE, 4)
  theirs = np.einsum("rhiwj,crij->hwc", rgb, kernel)

  for depth in (1, 2, 5):
    volume = np.broadcast_to(grey, (1, 1, 2 * depth, 12, 12))
    ours = hlip.patches(jnp.asarray(volume), (depth, 4, 4)) @ (
        inflate.patch_kernel(kernel, (depth, 4, 4)))
    np.testing.assert_allclose(
        ours[0, 0], np.broadcast_to(theirs, (2, *theirs.shape)), rtol=1e-4,
        atol=1e-4)


def test_inflated_tree_is_the_one_that_the_tower_makes():
  model = MODEL.clone(series_embedding="name", name_encoder=(16, 1, 2, 16))
  init = jax.eval_shape(lambda: model.init(
      jax.random.key(0), np.zeros((1, 1, 4, 12, 18), np.float32),
      np.ones((1, 1), bool), np.zeros((1, 1, 8), np.int32))["params"])
  own = {k: v for k, v in init.items() if not k.startswith("series_")}
  assert own.keys() < init.keys()
  ours = inflate.hlip_from_mae(random_state(model), model)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
  assert kinds(ours) == kinds(own)


def test_cls_takes_its_own_position_once():
  state = random_state(MODEL)
  params = inflate.hlip_from_mae(state, MODEL)
  np.testing.assert_array_equal(
      params["cls_token"][0, 0],
      state["cls_token"][0, 0] + state["pos_embed"][0, 0])


def test_cubic_weights_by_hand():
  # Doubling two pixels: Keys' kernel at distances 1/4, 3/4, 5/4 and 7/4 is
  # 225/256, 67/256, -27/256, -9/256; taps beyond the border fold onto it.
  first, second = np.array([283, -27]) / 256, np.array([198, 58]) / 256
  np.testing.assert_allclose(
      inflate.cubic_weights(2, 4),
      [first, second, second[::-1], first[::-1]], atol=1e-12)
  # Without antialiasing the middle of three pixels is all that one sees.
  np.testing.assert_allclose(inflate.cubic_weights(3, 1), [[0, 1, 0]],
                             atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(old=st.integers(1, 20), new=st.integers(1, 30))
def test_cubic_weights_keep_constants_and_mirror_images(old, new):
  weights = inflate.cubic_weights(old, new)
  np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-12)
  np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-9)
  np.testing.assert_array_equal(inflate.cubic_weights(old, old), np.eye(old))


def test_spatial_table_shrinks_with_antialiasing_by_hand():
  # Three pixels to one: Keys' kernel with a = -1/2, three times as wide, at
  # distances 1/3, 0, 1/3 is 7/9, 1, 7/9.
  position = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
  row = np.array([7, 9, 7]) / 23
  theirs = np.einsum("h,w,hwc->c", row, row, position.reshape(3, 3, 4))
  ours = inflate.spatial_table(position, (1, 1, 1))
  # The code of slab 0: two sines, two cosines.
  np.testing.assert_allclose(ours[0, 0, 0], theirs + [0, 0, 1, 1], rtol=1e-5)


def test_slabs_differ_by_their_code_alone():
  position = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
  table = inflate.spatial_table(position, (3, 3, 3))
  code = layers.sincos_1d(range(3), 4)
  np.testing.assert_allclose(
      table - code[:, None, None],
      np.broadcast_to(position.reshape(3, 3, 4), table.shape), atol=1e-6)


def test_a_grid_of_positions_that_is_no_square_is_refused():
  state = random_state(MODEL) | {
      "pos_embed": np.zeros((1, 1 + 12, WIDTH), np.float32)}
  with pytest.raises(ValueError, match="12 positions .* square images"):
    inflate.hlip_from_mae(state, MODEL)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("norm.bias"), "lacks norm.bias;"),
    (lambda s: s.update(mask_token=0), "unexpected mask_token;"),
    (lambda s: s.update({"cls_token": np.zeros((1, 1, 9))}),
     r"cls_token has shape \(1, 1, 9\), wanted \(1, 1, 12\);"),
    (lambda s: s.update({"pos_embed": s["pos_embed"][..., 0]}),
     r"pos_embed has shape \(1, 10\), wanted \(1, any, 12\);"),
    (lambda s: s.update({"patch_embed.proj.weight": np.zeros((12, 1, 4, 4))}),
     r"shape \(12, 1, 4, 4\), wanted \(12, 3, any, any\);"),
])
def test_states_that_do_not_fit_are_refused(change, message):
  state = random_state(MODEL)
  change(state)
  with pytest.raises(ValueError, match=message):
    inflate.hlip_from_mae(state, MODEL)


def test_a_state_of_another_depth_is_refused_in_one_short_sentence():
  shallow, deep = random_state(MODEL), random_state(MODEL.clone(depth=3))
  with pytest.raises(ValueError, match="lacks .* and 8 more;"):
    inflate.hlip_from_mae(shallow, MODEL.clone(depth=3))
  with pytest.raises(ValueError, match="unexpected .* and 8 more;.*deeper"):
    inflate.hlip_from_mae(deep, MODEL)
