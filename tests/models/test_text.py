"""CLIP's text tower: what a token sees, and which one is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models import layers
from itemclip_jax.models.text import PAD_ID, ClipText
from tests.parity.compile import jit

BEGIN, END = 18, 19  # the largest ids, as in CLIP's vocabulary
MODEL = ClipText(vocab_size=20, width=8, depth=2, num_heads=2, hidden=16,
                 max_positions=12)
IDS = np.array([[BEGIN, 5, 6, END, 0, 0], [BEGIN, 7, END, 0, 0, 0],
                [BEGIN, 0, 0, 7, 0, END], [0] * 6], np.int32)


@pytest.fixture(name="params", scope="module")
def _params():
  shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), IDS))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: (0.5 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@jit
def apply(params, ids):
  """The state that is read [M, C], and all of them [M, T, C]."""
  out, state = MODEL.apply(params, ids, mutable=["intermediates"],
                           capture_intermediates=(
                               lambda module, _: module.name == "norm"))
  return out, state["intermediates"]["norm"]["__call__"][0]


@jit
def gradient(params, ids):
  return jax.grad(lambda p: MODEL.apply(p, ids).sum())(params)["params"]


def test_padding_tokens_change_nothing(params):
  cut, _ = apply(params, IDS[:1, :4])
  # float32: softmax sums of 4 and of 6 terms.
  np.testing.assert_allclose(apply(params, IDS)[0][0], cut[0], rtol=1e-5,
                             atol=1e-6)


def test_padding_gets_no_gradient(params):
  grad = gradient(params, IDS[:2])
  np.testing.assert_array_equal(grad["word"]["embedding"][PAD_ID], 0.0)
  np.testing.assert_array_equal(grad["position"]["embedding"][4:], 0.0)
  assert np.abs(grad["word"]["embedding"][5]).max() > 0


def test_a_token_sees_no_later_one(params):
  before = apply(params, IDS)[1]
  other = IDS.copy()
  other[0, 2] = 9
  after = apply(params, other)[1]
  changed = np.abs(after - before).max(-1) > 0
  np.testing.assert_array_equal(changed[0], np.arange(6) >= 2)
  assert not changed[1:].any()


def test_the_state_of_the_end_token_is_read(params):
  out, states = apply(params, IDS)
  largest = IDS.argmax(1)                    # where CLIP's code reads
  np.testing.assert_allclose(  # float32: another order of operations
      out, states[np.arange(len(IDS)), largest], rtol=1e-5, atol=1e-6)


def test_the_end_token_need_not_have_the_largest_id(params):
  ids = np.array([[2, 17, 9, 3, 0, 0]], np.int32)  # [CLS] .. [SEP]
  out, states = apply(params, ids)
  np.testing.assert_allclose(out[0], states[0, 3], rtol=1e-5, atol=1e-6)


def test_a_row_of_padding_stays_finite(params):
  assert np.isfinite(apply(params, IDS)[0][3]).all()
  for leaf in jax.tree.leaves(gradient(params, IDS[3:])):
    assert np.isfinite(leaf).all()


def test_full_size_has_the_parameters_of_clip_vit_b_16():
  variables = jax.eval_shape(
      lambda ids: ClipText().init(jax.random.key(0), ids),
      jax.ShapeDtypeStruct((1, 77), jnp.int32))
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables))
  # 149 620 737 of the published model, less its image tower, the projection of
  # texts and the scale.
  assert count == 149_620_737 - 86_192_640 - 512 * 512 - 1


def test_initial_values_are_those_of_open_clip():
  model = ClipText(vocab_size=50, width=64, depth=3, num_heads=2, hidden=256,
                   max_positions=40)
  params = jit(model.init)(jax.random.key(0), IDS)["params"]
  block = params["block1"]
  deep = (2 * 3 * 64) ** -0.5
  expected = [
      (params["word"]["embedding"], 0.02),
      (params["position"]["embedding"], 0.01),
      (block["attention"]["value"]["kernel"], 64 ** -0.5),
      (block["attention"]["out"]["kernel"], deep),
      (block["mlp"]["fc1"]["kernel"], (2 * 64) ** -0.5),
      (block["mlp"]["fc1"]["bias"], (3 * 64) ** -0.5),
      (block["mlp"]["fc2"]["kernel"], deep),
      (block["mlp"]["fc2"]["bias"], (3 * 256) ** -0.5)]
  for value, std in expected:
    # Five standard errors of the standard deviation of a normal sample.
    np.testing.assert_allclose(np.std(value), std,
                               rtol=5 / np.sqrt(2 * value.size))


def test_filler_rows_change_nothing(params, monkeypatch):
  run = lambda: jax.value_and_grad(
      lambda p: jnp.sum(MODEL.apply(p, IDS) ** 2))(params)
  without = run()
  monkeypatch.setattr(layers, "filler", lambda rows, dtype: 3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-6), run(), without)
