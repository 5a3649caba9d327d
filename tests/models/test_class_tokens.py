"""Two class tokens in both towers that have them; learnt tokens for Llip."""

import jax
import numpy as np
import pytest

from itemclip_jax.models.hlip import Hlip
from itemclip_jax.models.vit import Vit
from itemclip_jax.parallel import sharding
from tests.parity.compile import jit

WIDTH = 12
# Blocks of all three levels, so that class tokens are copied and averaged.
STUDY = Hlip(patch=(2, 4, 4), grid=(2, 2, 2), width=WIDTH, depth=4,
             num_heads=2, mlp_ratio=2.0, slice_blocks=(0, 3), study_blocks=(2,),
             series_embedding="none")
PICTURE = Vit(patch=(3, 4, 4), width=WIDTH, depth=2, num_heads=2, mlp_ratio=2.0)
MASK = np.array([[True, True, False], [True, False, False]])
CLOSE = dict(rtol=1e-5, atol=1e-5)  # float32


def volume(tower):
  shape = (2, 3, 4, 8, 8) if tower is STUDY else (2, 1, 3, 12, 12)
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def mask(tower):
  return MASK if tower is STUDY else np.array([[True], [False]])


def params(model, x):
  """Away from the initial values, where class tokens are nearly the same."""
  shapes = jax.eval_shape(
      lambda: model.init(jax.random.key(0), x, np.ones(x.shape[:2], bool)))
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda v: (0.3 * rng.normal(size=v.shape)).astype(v.dtype), shapes)


def with_cls(tree, token):
  return {"params": tree["params"] | {"cls_token": token}}


@pytest.mark.parametrize("tower", [STUDY, PICTURE], ids=["hlip", "vit"])
def test_two_class_tokens_are_told_apart_and_swap(tower):
  two, x = tower.clone(class_tokens=2), volume(tower)
  tree = params(two, x)
  apply = jit(lambda t: two.apply(t, x, mask(tower)))
  token = tree["params"]["cls_token"]
  out = apply(tree)
  swapped = apply(with_cls(tree, token[..., ::-1, :]))
  assert out.cls.shape == (2, 2, WIDTH)
  assert np.abs(out.cls[:, 0] - out.cls[:, 1]).max() > 1e-2
  np.testing.assert_allclose(swapped.cls, out.cls[:, ::-1], **CLOSE)
  np.testing.assert_allclose(swapped.tokens, out.tokens, **CLOSE)


@pytest.mark.parametrize("tower", [STUDY, PICTURE], ids=["hlip", "vit"])
def test_the_shapes_of_one_class_token_stay(tower):
  one, two = (params(tower.clone(class_tokens=n), volume(tower))["params"]
              for n in (1, 2))
  shape = one["cls_token"].shape
  assert shape == ((1, 1, WIDTH) if tower is STUDY else (WIDTH,))
  assert two["cls_token"].shape == (*shape[:-2], 2, WIDTH)
  same = lambda tree: jax.tree.map(
      np.shape, {k: v for k, v in tree.items() if k != "cls_token"})
  assert same(one) == same(two)


@pytest.mark.parametrize("tower", [STUDY, PICTURE], ids=["hlip", "vit"])
def test_padding_reaches_neither_class_token(tower):
  two, x = tower.clone(class_tokens=2), volume(tower)
  tree = params(two, x)
  there = mask(tower)[..., None, None, None]
  apply = jit(lambda v: two.apply(tree, v, mask(tower)))
  for poison in (np.nan, 1e4):
    jax.tree.map(np.testing.assert_array_equal, apply(x),
                 apply(np.where(there, x, np.float32(poison))))


def test_both_class_tokens_stand_at_the_place_of_one():
  """Where both are equal, they stay so, and the picture moves neither apart."""
  two, x = PICTURE.clone(class_tokens=2), volume(PICTURE)
  tree = params(two, x)
  token = tree["params"]["cls_token"]
  equal = with_cls(tree, np.stack([token[0], token[0]]))
  cls = jit(lambda t: two.apply(t, x, mask(PICTURE)).cls)(equal)
  np.testing.assert_allclose(cls[:, 0], cls[:, 1], **CLOSE)


def test_mixture_tokens_stand_for_the_patches():
  model, x = PICTURE.clone(mixture_tokens=5), volume(PICTURE)
  tree = params(model, x)
  out = jit(lambda t: model.apply(t, x, mask(PICTURE)))(tree)
  assert out.tokens.shape == (2, 5, WIDTH) and out.cls.shape == (2, WIDTH)
  np.testing.assert_array_equal(out.token_mask, mask(PICTURE).repeat(5, 1))
  np.testing.assert_array_equal(out.tokens[1], 0.0)
  order = np.array([3, 1, 4, 0, 2])
  table = tree["params"]["mixture"]["embedding"]
  moved = {"params": tree["params"] | {"mixture": {"embedding": table[order]}}}
  again = jit(lambda t: model.apply(t, x, mask(PICTURE)))(moved)
  np.testing.assert_allclose(again.tokens[0], out.tokens[0, order], **CLOSE)
  plain = params(PICTURE, x)["params"]
  assert jax.tree.map(np.shape, plain) == jax.tree.map(np.shape, {
      k: v for k, v in tree["params"].items() if k != "mixture"})
  # They read the picture.
  other = jit(lambda v: model.apply(tree, v, mask(PICTURE)))(x[:, :, ::-1])
  assert np.abs(other.tokens[0] - out.tokens[0]).max() > 1e-3
  assert sharding.describe(tree, 2).count("mixture") == 1


def test_without_mixture_the_tokens_are_the_patches():
  two, x = PICTURE.clone(class_tokens=2), volume(PICTURE)
  tree = params(two, x)
  out = jit(lambda t: two.apply(t, x, mask(PICTURE)))(tree)
  assert out.tokens.shape == (2, 9, WIDTH)
