"""What the loss makes of masks: padded examples, empty studies, any mixture.

Works on random features in place of towers.
"""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses import negatives
from itemclip_jax.models.dual_encoder import Outputs
from tests.losses import inputs

A, B, E, K, N = inputs.A, 6, inputs.E, inputs.K, inputs.N
CLOSE = dict(rtol=1e-5, atol=1e-6)  # float32, sums in another order


def features(bias=-1.0) -> Outputs:
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return Outputs(
      image=normal(B, E), tokens=normal(B, N, E), items=normal(B, K, E),
      token_mask=np.arange(N) < np.array([N, 4, N, 7, N, 1])[:, None],
      logit_scale=np.float32(5.0), logit_bias=np.float32(bias))


def batch(num_items, example_mask=(True,) * B) -> dict:
  return {"item_mask": np.arange(K) < np.array(num_items)[:, None],
          "normal": np.array([1, 0, 1, 0, 0, 1], bool),
          "example_mask": np.array(example_mask)}


@functools.cache
def loss(groups=1, **settings):
  """Returns a compiled f(outputs, batch, key) -> (metrics, gradients)."""
  which = inputs.objective(groups=groups, **settings)
  params = jax.tree.map(np.float32, {"item_attention": inputs.params()})

  def total(params, floats, token_mask, x, key):
    out = floats.replace(token_mask=token_mask)
    return which.loss((out,), params, x, step=0, rng=key)

  grad = jax.jit(jax.grad(total, (0, 1), has_aux=True))

  def run(out, x, key=jax.random.key(0)):
    grads, metrics = grad(params, out.replace(token_mask=None),
                          out.token_mask, x, key)
    return jax.device_get((metrics, grads))
  return run


@pytest.mark.parametrize("groups, left, real", [
    (1, 1, [0, 1, 3, 4]), (3, 3, [0, 2, 4]), (3, 2, [0, 1, 2, 3])])
def test_padded_examples_equal_the_batch_without_them(groups, left, real):
  """`left` groups remain: all, or those with real examples.

  With one item a study and no token masking nothing is left to chance.
  """
  out = features()
  x = batch([1] * B, np.isin(np.arange(B), real))
  take = lambda tree: jax.tree.map(
      lambda v: v[np.array(real)] if np.ndim(v) else v, tree)
  padded, (of_params, of_padded) = loss(groups, token_drop_rate=0.0)(out, x)
  x.pop("example_mask")  # without it all are real
  alone, (of_alone, of_real) = loss(left, token_drop_rate=0.0)(
      take(out), take(x))
  check = lambda a, b: np.testing.assert_allclose(a, b, **CLOSE)
  jax.tree.map(check, padded, alone)
  jax.tree.map(check, of_params, of_alone)
  jax.tree.map(check, take(of_padded), of_real)


def test_injected_draws_are_kept_where_examples_are_padded():
  """As above, for several items a study and with token masking."""
  real = np.array([0, 2, 3, 5])
  n, out, x = len(real), features(), batch([3, 2, 1, 2, 3, 2])
  rng = np.random.default_rng(1)
  offsets = rng.integers(0, x["item_mask"][real].sum(1), (n, n))
  index = np.asarray(negatives.lists(jnp.asarray(offsets), max_items=K))
  keep = rng.random((n, A, K + n - 1, N)) > 0.3
  more = B - n
  large = np.zeros((B, K + B - 1), int)
  large[real] = np.concatenate(
      [real[index // K] * K + index % K, np.full((n, more), K)], axis=1)
  wide = np.ones((B, A, K + B - 1, N), bool)
  wide[real, :, :K + n - 1] = keep
  which = inputs.objective()
  run = jax.jit(lambda out, x, index, keep, mask: which.terms(
      out, {"item_attention": inputs.params()}, x["item_mask"], x["normal"],
      index, keep, example_mask=mask))
  small = lambda tree: jax.tree.map(
      lambda v: v[real] if np.ndim(v) else v, tree)
  padded = run(out, x, large, wide, np.isin(np.arange(B), real))
  alone = run(small(out), small(x), index, keep, np.ones(n, bool))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE),
               padded, alone)


def test_a_batch_of_padding_only_costs_nothing():
  metrics, grads = loss()(features(), batch([2] * B, [False] * B))
  for name, value in metrics.items():
    assert value == 0 or name in ("logit_scale", "logit_bias"), name
  assert all((x == 0).all() for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("last_is_real", [True, False])
def test_an_empty_study_has_no_positive_and_is_never_drawn(last_is_real):
  """Without cosines a pair on the wrong side of the bias costs just the bias.

  So the terms count: 50 high each negative, 50 low each positive.
  """
  n = np.array([3, 2, 0, 2, 1, 2 * last_is_real])
  x = batch([3, 2, 0, 2, 1, 2], [True] * 5 + [last_is_real])
  x["normal"] = np.zeros(B, bool)
  images, full = x["example_mask"].sum(), (n > 0).sum()
  one_each = full * (full - 1) + full    # the empty study meets them as well
  wanted = {  # name: (divisor, negatives, positives)
      "ila": (images, one_each, n.sum() + 0.5 * full),  # 0.5: the worst
      "kta": (images, one_each, n.sum() + 0.5 * full),
      "iis": (images * K, (n * (n - 1)).sum(), n.sum()),
      "mps": (images * K, images * n.sum() - n.sum(), n.sum())}
  for bias, side in ((50.0, 1), (-50.0, 2)):
    out = features(bias).replace(logit_scale=np.float32(0))
    metrics, _ = loss()(out, x)
    for name, numbers in wanted.items():
      np.testing.assert_allclose(  # float32
          metrics[f"loss/{name}"] * numbers[0] / 50, numbers[side], rtol=1e-5)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    num_items=st.lists(st.integers(0, K), min_size=B, max_size=B),
    real=st.lists(st.booleans(), min_size=B, max_size=B),
    poison=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -3.0]),
    groups=st.sampled_from([1, 3]), seed=st.integers(0, 2**32 - 1))
def test_no_padding_leaks_whatever_the_masks(
    num_items, real, poison, groups, seed):
  x, out, run = batch(num_items, real), features(), loss(groups)
  mask = x["example_mask"]
  tokens = out.token_mask & mask[:, None]
  items = x["item_mask"] & mask[:, None]
  fill = lambda real, v: np.where(real, v, np.float32(poison))
  poisoned = out.replace(
      image=fill(mask[:, None], out.image),
      tokens=fill(tokens[..., None], out.tokens),
      items=fill(items[..., None], out.items))
  flipped = x | {"normal": np.where(mask, x["normal"], ~x["normal"])}
  key = jax.random.key(seed)
  wanted, got = run(out, x, key), run(poisoned, flipped, key)
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(got))
  jax.tree.map(np.testing.assert_array_equal, got, wanted)
  grads = got[1][1]
  for name, real in (("image", mask), ("tokens", tokens), ("items", items)):
    np.testing.assert_array_equal(getattr(grads, name)[~real], 0.0)
