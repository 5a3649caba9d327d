"""The vision tower: groups, masks, positions, sizes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import brain_mri, chest_ct
from itemclip_jax.config import schema
from itemclip_jax.data import series_name
from itemclip_jax.models import dual_encoder, hlip, layers

B, S, WIDTH = 2, 3, 12
VOLUME, PATCH, GRID = (4, 8, 8), (2, 4, 4), (2, 2, 2)
PER_SERIES = 8  # tokens, 2 x 2 x 2
NAMES = ("AX_T1", "AX_T2", "COR_T1_POST")

# float32: three blocks whose sums of up to 25 terms run in another order.
CLOSE = dict(rtol=1e-4, atol=1e-5)

# One block of each level: slice, series, study.
MODEL = hlip.Hlip(patch=PATCH, grid=GRID, width=WIDTH, depth=3, num_heads=2,
                  mlp_ratio=2.0, slice_blocks=(0,), study_blocks=(2,),
                  name_encoder=(16, 1, 2, 16))


@pytest.fixture(name="study", scope="module")
def _study():
  """(volume, series_mask, series_names); study 1 has one real series."""
  rng = np.random.default_rng(0)
  volume = rng.normal(size=(B, S, *VOLUME)).astype(np.float32)
  mask = np.array([[True, True, False], [True, False, False]])
  names = np.stack([series_name.codes(n, 16) for n in NAMES])
  return volume, mask, np.repeat(names[None], B, axis=0)


@pytest.fixture(name="params", scope="module")
def _params(study):
  """Away from the initial values, where norms and CLS would be trivial."""
  shapes = jax.eval_shape(
      lambda: MODEL.init(jax.random.key(0), *study)["params"])
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, volume, mask, names):
  return model.apply({"params": params}, volume, mask, names)


@functools.partial(jax.jit, static_argnums=0)
def gradients(model, params, volume, mask, names, toward):
  """Of a weighted sum of all outputs, by parameters and voxels."""
  def total(params, volume):
    out = model.apply({"params": params}, volume, mask, names)
    return jnp.sum(out.cls) + jnp.sum(out.tokens * toward)
  return jax.grad(total, (0, 1))(params, volume)


def poisoned(study):
  """Padded series filled with garbage and another series' name."""
  volume, mask, names = study
  return (np.where(mask[..., None, None, None], volume, np.float32(1e3)), mask,
          np.where(mask[..., None], names, names[:, :1]))


def test_padded_series_change_no_output_and_no_gradient(study, params):
  ours, theirs = (apply(MODEL, params, *x) for x in (study, poisoned(study)))
  toward = np.random.default_rng(2).normal(
      size=ours.tokens.shape).astype(np.float32)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  np.testing.assert_array_equal(ours.tokens[~np.asarray(ours.token_mask)], 0.0)
  (clean, _), (dirty, voxels) = (gradients(MODEL, params, *x, toward)
                                 for x in (study, poisoned(study)))
  jax.tree.map(np.testing.assert_array_equal, clean, dirty)
  np.testing.assert_array_equal(voxels[~study[1]], 0.0)
  assert (np.abs(voxels[study[1]]).max((1, 2, 3)) > 0).all()


def test_a_padded_study_equals_the_study_alone(study, params):
  padded = apply(MODEL, params, *study)
  alone = apply(MODEL, params, *(x[:1, :2] for x in study))
  n = 2 * PER_SERIES
  np.testing.assert_allclose(padded.cls[0], alone.cls[0], **CLOSE)
  np.testing.assert_allclose(padded.tokens[0, :n], alone.tokens[0], **CLOSE)
  np.testing.assert_array_equal(
      padded.token_mask[0], np.arange(S * PER_SERIES) < n)


def test_the_order_of_named_series_does_not_matter(study, params):
  volume, mask, names = study
  order = np.array([2, 0, 1])  # the padded series comes first
  ours = apply(MODEL, params, *study)
  theirs = apply(MODEL, params, volume[:, order], mask[:, order],
                 names[:, order])
  np.testing.assert_allclose(theirs.cls, ours.cls, **CLOSE)
  by_series = lambda x: np.asarray(x).reshape(B, S, PER_SERIES, -1)
  np.testing.assert_allclose(by_series(theirs.tokens),
                             by_series(ours.tokens)[:, order], **CLOSE)


def test_the_name_of_a_series_matters(study, params):
  volume, mask, names = study
  other = apply(MODEL, params, volume, mask, names[:, [1, 0, 2]])
  assert not np.allclose(other.cls, apply(MODEL, params, *study).cls, atol=1e-3)


class _Vit(nn.Module):
  """An ordinary ViT with the same parameter names."""

  @nn.compact
  def __call__(self, volume):  # [B, D, H, W]
    x = hlip.patches(volume[:, None], PATCH).reshape(len(volume), -1, 32)
    x = nn.Dense(WIDTH, name="patch")(x)
    x = x + self.param("spatial_position", nn.initializers.zeros,
                       (*GRID, WIDTH)).reshape(-1, WIDTH)
    token = self.param("cls_token", nn.initializers.zeros, (1, 1, WIDTH))
    x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, WIDTH)), x], 1)
    for i in range(2):
      x = layers.Block(2, 2 * WIDTH, name=f"block{i}")(x)
    return layers.layer_norm(1e-6, name="norm")(x)


def test_one_series_with_study_blocks_is_an_ordinary_vit(study, params):
  model = MODEL.clone(depth=2, slice_blocks=(), study_blocks=(0, 1),
                      series_embedding="none")
  mine = {k: params[k] for k in ("patch", "spatial_position", "cls_token",
                                 "block0", "block1", "norm")}
  volume = study[0][:, :1]
  ours = apply(model, mine, volume, np.ones((B, 1), bool), None)
  theirs = jax.jit(_Vit().apply)({"params": mine}, volume[:, 0])
  np.testing.assert_allclose(ours.cls, theirs[:, 0], **CLOSE)
  np.testing.assert_allclose(ours.tokens, theirs[:, 1:], **CLOSE)


def test_patches_come_in_row_major_order_of_grid_and_voxels():
  volume = np.arange(4 * 8 * 8).reshape(1, 1, *VOLUME)
  tokens = np.asarray(hlip.patches(jnp.asarray(volume), PATCH))
  np.testing.assert_array_equal(
      tokens[0, 0, 1, 0, 1], volume[0, 0, 2:4, 0:4, 4:8].ravel())


def test_a_deeper_volume_works_by_interpolation(study, params):
  volume, mask, names = study
  deep = np.repeat(volume, 3, axis=2)
  out = jax.eval_shape(
      lambda *x: MODEL.apply({"params": params}, *x), deep, mask, names)
  assert out.tokens.shape == (B, 3 * S * PER_SERIES, WIDTH)
  line = np.broadcast_to(np.arange(2.0)[:, None, None, None], (2, 2, 2, 1))
  # Half-pixel centres; beyond the outer ones the border is repeated.
  resampled = layers.resample_grid(jnp.asarray(line, jnp.float32), (6, 2, 2))
  np.testing.assert_allclose(resampled[:, 0, 0, 0],
                             [0, 0, 1 / 3, 2 / 3, 1, 1], atol=1e-6)  # float32
  assert layers.resample_grid(line, (2, 2, 2)) is line


@pytest.mark.parametrize("slice_blocks", [(0,), ()])
def test_filler_rows_change_nothing(study, params, slice_blocks, monkeypatch):
  model = MODEL.clone(slice_blocks=slice_blocks)
  toward = np.random.default_rng(2).normal(
      size=(B, S * PER_SERIES, WIDTH)).astype(np.float32)

  def results():
    jax.clear_caches()
    return (apply(model, params, *study),
            gradients(model, params, *study, toward))

  without = results()
  monkeypatch.setattr(layers, "filler", lambda rows, dtype: 5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE),
               results(), without)


def test_recomputing_blocks_changes_nothing(study, params):
  model = MODEL.clone(depth=2, study_blocks=(1,), series_embedding="none",
                      drop_path=0.5)
  mine = {k: params[k] for k in ("patch", "spatial_position", "cls_token",
                                 "block0", "block1", "norm")}

  def gradient(model):
    def total(params):
      out = model.apply({"params": params}, *study, train=True,
                        rngs={"dropout": jax.random.key(3)})
      return jnp.sum(out.cls) + jnp.sum(out.tokens ** 2)
    return jax.jit(jax.grad(total))(mine)

  jax.tree.map(  # float32; gradients sum 50 tokens
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      gradient(model), gradient(model.clone(remat=True)))


def _block(width, hidden):
  return 4 * width**2 + 2 * width * hidden + 9 * width + hidden


# Kernels and biases of a ViT-B: 12 blocks, one norm, the CLS token.
VIT_B = 12 * _block(768, 3072) + 2 * 768 + 768


@pytest.mark.parametrize("config, tokens, extra", [
    # Name encoder: letters, 3 layers without q, k, v biases, projection.
    (brain_mri, 6 * 14 * 14,
     47 * 246 + 3 * (_block(256, 300) - 3 * 256) + 257 * 768),
    (chest_ct, 14 * 14 * 14, 0)])
def test_full_sizes_have_the_tokens_and_parameters_of_the_paper(
    config, tokens, extra):
  c = schema.from_config_dict(config.get_config())
  model = dual_encoder.make_vision(c.vision, None)
  args = (jnp.zeros((1, 1, 1, 1, 1)), jnp.ones((1, 2), bool),
          jnp.zeros((1, 2, c.vision.name_length), jnp.int32))
  shape = jax.ShapeDtypeStruct((1, 2, *c.vision.volume_shape), jnp.float32)
  out, variables = jax.eval_shape(
      lambda v: model.init_with_output(jax.random.key(0), v, *args[1:]), shape)
  assert out.tokens.shape == (1, 2 * tokens, 768)
  sizes = jax.tree.map(lambda x: int(np.prod(x.shape)), variables["params"])
  patch = int(np.prod(c.vision.patch)) * 768 + 768
  assert sizes.pop("spatial_position") == tokens * 768
  assert sum(jax.tree.leaves(sizes)) == VIT_B + patch + extra


def test_full_text_tower_is_bert_base():
  c = schema.from_config_dict(brain_mri.get_config())
  text = dual_encoder.make_text(c.text, None)
  variables = jax.eval_shape(
      lambda ids: text.init(jax.random.key(0), ids),
      jax.ShapeDtypeStruct((1, c.text.max_tokens), jnp.int32))
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  assert count == 108_891_648  # bert-base-uncased without its pooler


def test_first_patch_filters_are_smooth_and_keep_the_variance():
  patch = (4, 8, 8)
  kernel = np.asarray(layers.smooth_patch_init(patch)(
      jax.random.key(0), (4 * 8 * 8, 512)))
  filters = kernel.T.reshape(512, *patch)
  for axis in (1, 2, 3):              # white filters would give a ratio of 2
    steps = np.diff(filters, axis=axis)
    assert (steps ** 2).mean() < 1.3 * (filters ** 2).mean()
  # A constant patch of ones gives outputs of unit variance: 512 draws, 5 sigma.
  assert abs((np.ones(4 * 8 * 8) @ kernel).var() - 1) < 0.32
