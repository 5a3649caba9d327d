"""The loss is one number: on every mesh, for every block size.

The reference is put together by the chain rule from two programs, towers and
objective, so that the sizes of blocks and groups compile the objective only.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax import objectives
from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh
from tests import tiny
from tests.objectives import padded

KEY = jax.random.key(5)
# Number of candidates: groups * (max_items + B / groups - 1).
CANDIDATES = {1: 11, 2: 14, 4: 20}


def config(groups=1, block=0):
  """With drop path and token masking, drawn from the key alone."""
  return tiny.config(
      vision={"slice_blocks": (0,), "study_blocks": (1,), "drop_path": 0.2},
      train={"global_batch": padded.B},
      loss={"groups": groups, "block": block, "token_drop_rate": 0.2,
            "kta_rate": 0.2})


@pytest.fixture(name="params", scope="module")
def _params():
  return padded.params(config())


@pytest.fixture(name="batch", scope="module")
def _batch():
  return padded.batch(config())


@pytest.fixture(name="towers", scope="module")
def _towers(params, batch):
  """(outputs, function from their cotangents to the parameters')."""
  def encode(params):
    out = tiny.model(config()).apply({"params": params}, batch, train=True,
                                     rngs={"dropout": KEY})
    return out.replace(token_mask=None), out.token_mask
  out, pullback, token_mask = jax.jit(
      lambda p: jax.vjp(encode, p, has_aux=True))(params)
  pull = jax.jit(lambda pullback, toward: pullback(toward)[0])
  return (out, token_mask), lambda toward: pull(pullback, toward)


def by_chain_rule(towers, params, batch, groups, block):
  """Loss and the gradient of every parameter."""
  (out, token_mask), pull = towers
  objective = objectives.make(config(groups, block))

  def loss(params, out):
    out = out.replace(token_mask=token_mask)
    return objective.loss((out,), params, batch, step=padded.STEP, rng=KEY)[0]

  total, (direct, toward) = jax.jit(
      jax.value_and_grad(loss, (0, 1)))(params, out)
  return jax.device_get(
      (total, jax.tree.map(jnp.add, direct, pull(toward))))


@pytest.fixture(name="reference", scope="module")
def _reference(towers, params, batch):
  """By number of groups, all candidates at once on one device."""
  return {groups: by_chain_rule(towers, params, batch, groups, 0)
          for groups in CANDIDATES}


def assert_same(ours, theirs):
  """float32: 1e-5 of the loss, and of the largest entry of each array."""
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
  leaves = jax.tree_util.tree_leaves_with_path(theirs[1])
  largest = max(np.abs(x).max() for _, x in leaves)
  for (path, wanted), got in zip(leaves, jax.tree.leaves(ours[1])):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    tolerance = 1e-5 * np.abs(wanted).max()
    if name.endswith("attention/key/bias") and "item" not in name:
      # A common shift of its logits moves no softmax: 0 but for rounding.
      assert np.abs(wanted).max() < 1e-6 * largest, name
      tolerance = 1e-6 * largest
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance,
                               err_msg=name)


@pytest.mark.parametrize("groups, block", [
    (1, 1), (1, 3), (1, 10), (1, 11), (1, 13), (2, 13), (4, 3)])
def test_block_size_changes_no_loss_and_no_gradient(
    towers, params, batch, reference, groups, block):
  assert_same(by_chain_rule(towers, params, batch, groups, block),
              reference[groups])


@pytest.mark.parametrize("data, fsdp, groups, block", [
    (1, 1, 1, 0), (2, 1, 2, 3), (4, 1, 1, 0), (8, 1, 4, 0),
    (1, 2, 4, 0), (2, 2, 1, 11), (2, 4, 2, 0), (1, 8, 1, 3)])
def test_number_and_layout_of_devices_change_no_loss_and_no_gradient(
    params, batch, reference, data, fsdp, groups, block):
  mesh = make_mesh(data, fsdp, jax.devices()[:data * fsdp])
  layout = sharding.tree_shardings(params, mesh)
  grad = jax.value_and_grad(
      padded.loss_fn(config(groups, block), train=True), has_aux=True)

  def step(params, batch):
    (total, _), grads = grad(params, batch, KEY)
    return total, grads

  with jax.set_mesh(mesh):
    ours = jax.jit(step, out_shardings=(sharding.replicated(mesh), layout))(
        jax.device_put(params, layout),
        jax.device_put(batch, sharding.batch_sharding(mesh)))
  if fsdp > 1:
    kernel = ours[1]["text_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.size * fsdp == kernel.size
  assert_same(jax.device_get(ours), reference[groups])
