"""Blocks in a loop, and recomputed: the numbers of the unrolled tower."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import bert, hlip, repeated, text, vit

# float32: six blocks whose sums run in another order, or are made twice.
CLOSE = dict(rtol=1e-4, atol=1e-5)
MASK = np.array([[True, True], [True, False]])
VOLUME = np.random.default_rng(0).normal(size=(2, 2, 4, 8, 8)).astype(
    np.float32)
IDS = np.random.default_rng(1).integers(0, 20, size=(3, 6))
LOOPED = [dict(scan=True), dict(scan=True, remat=True),
          dict(scan=True, remat=True, keeps=("query", "attention", "hidden"))]


def tower(**settings):
  return hlip.Hlip(**dict(
      patch=(2, 4, 4), grid=(2, 2, 2), width=12, depth=4, num_heads=2,
      mlp_ratio=2.0, series_embedding="none") | settings)


def reader(**settings):
  return bert.Bert(vocab_size=20, width=8, depth=3, num_heads=2, hidden=16,
                   **settings)


def parameters(model, *inputs):
  """Random, away from the initial values."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(
      x.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(model, params, *inputs):
  def total(params):
    out = model.apply(params, *inputs)
    return sum(jnp.sum(x ** 3) for x in jax.tree.leaves(out)
               if x.dtype != bool)
  return jax.value_and_grad(total)(params)


@pytest.mark.parametrize("settings", LOOPED + [
    dict(remat=True), dict(remat=True, keeps=("key", "value"))])
@pytest.mark.parametrize("blocks", [
    dict(slice_blocks=(0, 2)),                     # as chest CT: two rounds
    dict(study_blocks=(1, 3)),                     # as brain MRI
    dict(slice_blocks=(3,), study_blocks=(0,))])   # no repetition: one round
def test_a_looped_tower_equals_the_unrolled_one(settings, blocks):
  plain = tower(**blocks)
  params = parameters(plain, VOLUME, MASK)
  jax.tree.map(
      functools.partial(np.testing.assert_allclose, **CLOSE),
      value_and_gradients(tower(**blocks, **settings), params, VOLUME, MASK),
      value_and_gradients(plain, params, VOLUME, MASK))


@pytest.mark.parametrize("settings", LOOPED)
def test_a_looped_text_tower_equals_the_unrolled_one(settings):
  params = parameters(reader(), IDS)
  jax.tree.map(
      functools.partial(np.testing.assert_allclose, **CLOSE),
      value_and_gradients(reader(**settings), params, IDS),
      value_and_gradients(reader(), params, IDS))


def test_the_loop_has_the_parameters_of_the_unrolled_tower():
  looped, plain = (jax.eval_shape(lambda m=m: m.init(
      jax.random.key(0), VOLUME, MASK)) for m in (tower(scan=True), tower()))
  assert looped == plain


def test_every_block_of_a_loop_draws_for_itself():
  """With rate 1 in the last block and 0.5 in the middle, draws differ."""
  model = tower(scan=True, drop_path=0.9)
  params = parameters(model, VOLUME, MASK)
  see = lambda seed: model.apply(params, VOLUME, MASK, train=True,
                                 rngs={"dropout": jax.random.key(seed)}).cls
  drawn = np.stack([see(seed) for seed in range(6)])
  assert np.isfinite(drawn).all()
  assert len(np.unique(drawn[:, 0, 0])) > 2
  np.testing.assert_array_equal(see(0), see(0))
  still = model.apply(params, VOLUME, MASK)
  np.testing.assert_allclose(
      still.cls, tower().apply(params, VOLUME, MASK).cls, **CLOSE)


@pytest.mark.parametrize("kinds, size", [
    ("abab", 2), ("aaaa", 1), ("abc", 3), ("aabaab", 3), ("abaab", 5)])
def test_the_shortest_round_is_found(kinds, size):
  assert repeated.rounds(kinds) == size


@pytest.mark.parametrize("settings", LOOPED)
def test_other_looped_towers_equal_the_unrolled_ones(settings):
  picture = VOLUME[:, :1, :3]
  sees = functools.partial(vit.Vit, patch=(3, 4, 4), width=8, depth=3,
                           num_heads=2)
  reads = functools.partial(text.ClipText, vocab_size=20, width=8, depth=3,
                            num_heads=2, hidden=16, max_positions=6)
  for make, inputs in ((sees, (picture, MASK[:, :1])), (reads, (IDS,))):
    params = parameters(make(), *inputs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **CLOSE),
                 value_and_gradients(make(**settings), params, *inputs),
                 value_and_gradients(make(), params, *inputs))
