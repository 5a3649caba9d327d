"""Organ pooling: which tokens, which organs are whole, what the query sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import organ_pool
from tests.parity.compile import jit

PATCH, SHAPE = (2, 3, 2), (4, 6, 6)     # 2 x 2 x 3 tokens
B, L, N, C, R, E, A = 2, 2, 12, 8, 4, 5, 2
KINDS = ("cross", "self")


def pool(kind="cross", **options):
  return organ_pool.OrganPool(num_organs=R, width=E, patch=PATCH, kind=kind,
                              num_heads=A, **options)


def label_map():
  """Organ 0: two tokens of both studies; 1: a corner voxel, so cut; 2: one
  token, study 0 only; 3: nowhere. Study 1 has a part of organ 0 on a face."""
  x = np.zeros((B, *SHAPE), np.uint8)
  x[:, 1, 2, 1:3] = 1
  x[:, 0, 0, 0] = 2
  x[0, 2, 4, 4] = 3
  x[1, 3, 1, 1] = 1
  return x


@pytest.fixture(name="levels", scope="module")
def _levels():
  return np.random.default_rng(0).normal(size=(B, L, N, C)).astype(np.float32)


@pytest.fixture(name="params", scope="module")
def _params(levels):
  """Random; at the initial values every query is 0."""
  shapes = jax.eval_shape(lambda: pool().init(
      jax.random.key(0), levels, np.ones((B, N), bool), label_map()))["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def run(params, levels, organs=None, mask=None, kind="cross", **options):
  organs = label_map() if organs is None else organs
  mask = np.ones((B, N), bool) if mask is None else mask
  module = pool(kind, **options.pop("module", {}))
  return jit(lambda p, x: module.apply({"params": p}, x, mask, organs,
                                       **options))(params, levels)


def test_a_token_is_an_organs_if_any_voxel_is():
  ours = np.asarray(organ_pool.organ_tokens(
      jnp.asarray(label_map()), PATCH, R)).reshape(B, R, 2, 2, 3)
  wanted = np.zeros((B, R, 2, 2, 3), bool)
  wanted[:, 0, 0, 0, :2] = True
  wanted[1, 0, 1, 0, 0] = True
  wanted[:, 1, 0, 0, 0] = True
  wanted[0, 2, 1, 1, 2] = True
  np.testing.assert_array_equal(ours, wanted)


def test_tokens_agree_with_a_plain_loop_on_random_maps():
  organs = np.random.default_rng(3).integers(0, 9, (2, *SHAPE), np.uint8)
  organs *= np.random.default_rng(4).random(organs.shape) < 0.1
  ours = np.asarray(organ_pool.organ_tokens(jnp.asarray(organs), PATCH, 8))
  for b, r in np.ndindex(2, 8):
    n = 0
    for d in range(0, 4, 2):
      for h in range(0, 6, 3):
        for w in range(0, 6, 2):
          part = organs[b, d:d + 2, h:h + 3, w:w + 2]
          assert ours[b, r, n] == (r + 1 in part)
          n += 1


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_an_organ_on_a_face_is_cut(axis, end):
  organs = np.zeros((1, *SHAPE), np.uint8)
  place = [2, 2, 2]
  organs[(0, *place)] = 1
  assert not organ_pool.cut_organs(jnp.asarray(organs), R).any()
  place[axis] = end
  organs[(0, *place)] = 1
  np.testing.assert_array_equal(
      organ_pool.cut_organs(jnp.asarray(organs), R)[0], [1, 0, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_intact_organs_have_voxels_and_touch_no_face(params, levels, kind):
  out = run(params, levels, kind=kind)
  np.testing.assert_array_equal(out.intact, [[True, False, True, False],
                                             [False, False, False, False]])
  # What is not there is exactly 0; what is cut still has a vector.
  np.testing.assert_array_equal(out.vectors[:, 3], 0.0)
  np.testing.assert_array_equal(out.vectors[1, 2], 0.0)
  assert np.abs(out.vectors[:, :2]).min(axis=-1).all()


def by_hand(params, levels, tokens, r, kind):
  """One organ of one study, with plain torch-like attention."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x = levels[:, tokens].reshape(-1, C)
  query = p["queries"]["embedding"][r]
  if kind == "self":
    x = np.concatenate([x, query[None]])
  head = lambda name, x: np.einsum(
      "...c,caf->...af", x, p[name]["kernel"]) + p[name]["bias"]
  q, k, v = head("query", query), head("key", x), head("value", x)
  logits = np.einsum("af,naf->an", q, k) / np.sqrt(C // A)
  weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  pooled = np.einsum("an,naf->af", weights, v)
  pooled = np.einsum("af,afc->c", pooled, p["out"]["kernel"]) + p["out"]["bias"]
  return pooled @ p["head"]["kernel"][r] + p["head"]["bias"][r]


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_attention_over_the_selected_tokens_alone(
    params, levels, kind):
  out = run(params, levels, kind=kind)
  for b, r in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
    wanted = by_hand(params, levels[b], np.asarray(out.tokens[b, r]), r, kind)
    np.testing.assert_allclose(out.vectors[b, r], wanted, rtol=1e-4, atol=1e-4)


def test_cross_and_self_differ(params, levels):
  one, two = (run(params, levels, kind=kind).vectors for kind in KINDS)
  assert np.abs(one - two).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_selected_tokens_does_not_matter(params, levels, kind):
  """The organ fills the volume; tokens change places, at every level alike."""
  organs = np.ones((B, *SHAPE), np.uint8)
  order = np.random.default_rng(5).permutation(N)
  ours = run(params, levels, organs, kind=kind).vectors
  np.testing.assert_allclose(
      run(params, levels[:, :, order], organs, kind=kind).vectors, ours,
      rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_other_tokens_and_padding_touch_no_value_and_no_gradient(
    params, levels, kind):
  """Tokens of no organ; and study 1 as a whole, which is padding."""
  mask = np.array([[True] * N, [False] * N])
  module, organs = pool(kind), label_map()

  @jit
  def total(params, levels):
    def f(params, levels):
      out = module.apply({"params": params}, levels, mask, organs)
      return jnp.sum(out.vectors ** 2), out
    return jax.value_and_grad(f, (0, 1), has_aux=True)(params, levels)

  (clean, out), (by_param, by_token) = total(params, levels)
  np.testing.assert_array_equal(out.vectors[1], 0.0)
  assert not out.intact[1].any()
  unused = ~np.asarray(out.tokens).any(1)[:, None].repeat(L, 1)  # [B, L, N]
  np.testing.assert_array_equal(np.asarray(by_token)[unused], 0.0)
  poisoned = np.where(unused[..., None], np.float32(1e6), levels)
  (dirty, _), (again, _) = total(params, poisoned)
  assert dirty == clean
  jax.tree.map(np.testing.assert_array_equal, again, by_param)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_the_initial_values(levels, kind):
  """Queries are 0 then, and one organ is nowhere; attention is even."""
  module, mask, organs = pool(kind), np.ones((B, N), bool), label_map()
  params = module.init(jax.random.key(0), levels, mask, organs)["params"]
  np.testing.assert_array_equal(params["queries"]["embedding"], 0.0)

  def total(params, levels):
    out = module.apply({"params": params}, levels, mask, organs)
    return jnp.sum(jnp.sin(out.vectors))

  by_param, by_token = jit(jax.grad(total, (0, 1)))(params, levels)
  for leaf in jax.tree.leaves((by_param, by_token)):
    assert np.isfinite(leaf).all()
  moved = np.abs(by_param["queries"]["embedding"]).max(1) > 0
  np.testing.assert_array_equal(moved, [True, True, True, False])


def test_dropout_is_drawn_in_training_only(params, levels):
  plain = run(params, levels).vectors
  np.testing.assert_array_equal(
      run(params, levels, module={"dropout": 0.5}).vectors, plain)
  drawn = run(params, levels, train=True, rngs={"dropout": jax.random.key(0)},
              module={"dropout": 0.5}).vectors
  assert np.abs(drawn - plain).max() > 1e-3
