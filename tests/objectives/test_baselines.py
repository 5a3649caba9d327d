"""CLIP and its relatives: padding, empty studies, order, devices."""

import jax
import numpy as np
import pytest

from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh
from tests.objectives.contrasted import (
    B, batch, CASES, CLOSE, features, loss, taken)


@pytest.mark.parametrize("name", CASES)
def test_padding_and_empty_studies_are_not_there(name):
  """Lists of one item: nothing is drawn, so the rest is the same."""
  slots, objective = CASES[name]
  num_items = [slots] * B if slots == 1 or "hlip" in name else [1] * B
  num_items[3] = 0
  real = np.arange(B) < 6
  left = np.array([0, 1, 2, 4, 5])
  out, x = features(slots), batch(slots, num_items, real)
  metrics, (of_params, grads) = loss(objective)(out, x)
  alone = taken(x, left)
  del alone["example_mask"]   # without it all are real
  wanted, (of_alone, of_left) = loss(objective)(taken(out, left), alone)
  close = lambda a, b: np.testing.assert_allclose(a, b, **CLOSE)
  jax.tree.map(close, metrics, wanted)
  jax.tree.map(close, of_params, of_alone)
  jax.tree.map(close, taken(grads, left), of_left)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", CASES)
def test_padding_never_leaks(name, poison):
  slots, objective = CASES[name]
  n = np.minimum([2, 1, 2, 0, 1, 2, 2, 1], slots)
  real = np.arange(B) != 5
  out, x = features(slots), batch(slots, n, real)
  items = x["item_mask"] & real[:, None]
  image = items.any(1)
  tokens = out.token_mask & image[:, None]
  fill = lambda mask, v: None if v is None else np.where(
      mask, v, np.float32(poison))
  poisoned = out.replace(
      image=fill(image[:, None], out.image),
      second=fill(image[:, None], out.second),
      tokens=fill(tokens[..., None], out.tokens),
      items=fill(items[..., None], out.items))
  flipped = x | {"normal": np.where(image, x["normal"], ~x["normal"])}
  wanted, got = loss(objective)(out, x), loss(objective)(poisoned, flipped)
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(got))
  jax.tree.map(np.testing.assert_array_equal, got, wanted)
  grads = got[1][1]
  np.testing.assert_array_equal(grads.image[~image], 0.0)
  np.testing.assert_array_equal(grads.items[~items], 0.0)
  np.testing.assert_array_equal(grads.tokens[~tokens], 0.0)
  assert got[0]["loss/total"] > 0 and np.abs(grads.items).max() > 0


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_padding_only_costs_nothing(name):
  slots, objective = CASES[name]
  for x in (batch(slots, real=[False] * B), batch(slots, [0] * B)):
    metrics, grads = loss(objective)(features(slots), x)
    for part, number in metrics.items():
      assert number == 0 or part in ("logit_scale", "logit_bias"), part
    assert all((g == 0).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_the_batch_does_not_matter(name):
  slots, objective = CASES[name]
  # Lists of one item, so that no draw depends on the place in the batch.
  n = [slots] * B if "hlip" in name else [1] * B
  n[2] = 0
  out, x = features(slots), batch(slots, n, np.arange(B) != 6)
  order = np.random.default_rng(1).permutation(B)
  metrics, (_, grads) = loss(objective)(out, x)
  moved, (_, of_moved) = loss(objective)(taken(out, order), taken(x, order))
  close = lambda a, b: np.testing.assert_allclose(a, b, **CLOSE)
  jax.tree.map(close, moved, metrics)
  jax.tree.map(close, of_moved, taken(grads, order))


@pytest.mark.parametrize("name", CASES)
def test_devices_change_no_loss_and_no_gradient(name):
  slots, objective = CASES[name]
  out, x = features(slots), batch(slots, real=np.arange(B) != 5)
  mesh = make_mesh(4, 2, jax.devices()[:8])
  put = lambda v: jax.device_put(v, sharding.batch_sharding(mesh) if np.ndim(
      v) else sharding.replicated(mesh))
  with jax.set_mesh(mesh):
    ours = loss(objective)(jax.tree.map(put, out), jax.tree.map(put, x))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE),
               ours, loss(objective)(out, x))
