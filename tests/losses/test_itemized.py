"""The itemised loss: hand-computed numbers, an oracle, and its properties."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.losses import negatives
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives.itemized_clip import Objective
from tests.losses import inputs

CLOSE = dict(rtol=2e-5, atol=1e-6)  # float32, sums of some hundred terms


def _identity_attention(E, A):
  eye = jnp.eye(E)
  project = {"kernel": eye.reshape(E, A, E // A),
             "bias": jnp.zeros((A, E // A))}
  norm = {"scale": jnp.ones(E), "bias": jnp.zeros(E)}
  return {"query": project, "key": project, "value": project,
          "ln_query": norm, "ln_key": norm, "ln_value": norm,
          "out": {"kernel": eye.reshape(A, E // A, E), "bias": jnp.zeros(E)}}


@pytest.mark.parametrize("check, expected", [
    (True, dict(ila=3.781991, kta=2.784110, iis=1.203317, mps=1.593255)),
    (False, dict(ila=4.420600, kta=3.479155, iis=1.203317, mps=2.104686)),
])
def test_hand_computed_example(check, expected):
  """Three studies with three, two and one items; negatives take item 0."""
  B, K, N, E, A = 3, 3, 5, 4, 2
  i, k, d = np.ogrid[:B, :K, :E]
  items = np.sin(0.7 * i + 1.3 * k + 0.9 * d + 0.2) + 0.1 * d
  n = np.arange(N)[None, :, None]
  tokens = np.cos(0.5 * i + 1.1 * n + 0.8 * d) - 0.05 * n
  image = np.cos(0.3 * i[..., 0] + 0.6 * d[0])
  out = Outputs(image=jnp.asarray(image), tokens=jnp.asarray(tokens),
                items=jnp.asarray(items), token_mask=jnp.ones((B, N), bool),
                logit_scale=jnp.asarray(5.0), logit_bias=jnp.asarray(-3.0))
  settings = schema.Loss(kta_rate=0.4, uwp_factor=1.5, normal_check=check)
  terms, _ = Objective(settings, ItemAttention(E, A)).terms(
      out, {"item_attention": _identity_attention(E, A)},
      np.arange(K) < np.array([3, 2, 1])[:, None],
      np.array([False, True, True]),
      negatives.lists(jnp.zeros((B, B), jnp.int32), max_items=K), None)
  for name, value in expected.items():
    np.testing.assert_allclose(terms[name][0], value, rtol=2e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_plain_loops(masked):
  x = inputs.batch()
  keep = None
  if masked:
    J = inputs.K + inputs.B - 1
    keep = np.random.default_rng(1).random(
        (inputs.B, inputs.A, J, inputs.N)) > 0.3
  ours = inputs.terms(x, inputs.objective(),
                      keep=None if keep is None else jnp.asarray(keep))
  for name, value in inputs.plain_terms(x, keep).items():
    np.testing.assert_allclose(ours[name], value, err_msg=name, **CLOSE)


def test_padded_tokens_never_leak():
  x = inputs.batch()
  more = 4
  pad = lambda v: np.concatenate(
      [x["tokens"], np.full((inputs.B, more, inputs.E), v)], axis=1)
  mask = np.concatenate(
      [x["token_mask"], np.zeros((inputs.B, more), bool)], axis=1)
  total = lambda tokens, mask: inputs.objective().total(inputs.terms(
      x | {"tokens": tokens, "token_mask": mask}, inputs.objective()))
  reference = total(x["tokens"], x["token_mask"])
  for value in (0.0, 1e3):
    np.testing.assert_allclose(total(pad(value), mask), reference, rtol=1e-6)
  grad = jax.grad(total)(jnp.asarray(pad(1e3), jnp.float32), mask)
  np.testing.assert_array_equal(grad[:, inputs.N:], 0.0)


def test_everything_masked_is_finite_and_sees_only_the_zero_slot():
  """With every token dropped the pooled vector is the output bias."""
  x = inputs.batch()
  J = inputs.K + inputs.B - 1
  keep = jnp.zeros((inputs.B, inputs.A, J, inputs.N), bool)
  terms = inputs.terms(x, inputs.objective(), keep=keep)
  assert all(np.isfinite(v) for v in terms.values())


def test_all_tokens_key_tokens_make_kta_equal_ila():
  terms = inputs.terms(inputs.batch(), inputs.objective(kta_rate=1.0))
  np.testing.assert_allclose(terms["kta"], terms["ila"], rtol=1e-6)


def test_factor_one_turns_up_weighting_off():
  x = inputs.batch()
  on, off = (inputs.terms(x, inputs.objective(uwp_factor=f)) for f in (1.5, 1))
  np.testing.assert_allclose(off["ila"], inputs.plain_terms(
      x, None, uwp=1.0)["ila"], **CLOSE)
  assert on["ila"] > off["ila"]


def test_all_normal_batch_has_no_negatives():
  x = inputs.batch() | {"normal": np.ones(inputs.B, bool)}
  other = x | {"offsets": np.zeros((inputs.B, inputs.B), int)}
  ours, theirs = (inputs.terms(v, inputs.objective()) for v in (x, other))
  chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_key_tokens_alone_carry_the_gradient_of_kta():
  x = inputs.batch()
  settings = dict(ila_weight=0.0, iis_weight=0.0, mps_weight=0.0, kta_rate=0.1)
  total = lambda tokens: inputs.objective(**settings).total(inputs.terms(
      x | {"tokens": tokens}, inputs.objective(**settings)))
  grad = jax.grad(total)(jnp.asarray(x["tokens"], jnp.float32))
  touched = (np.abs(grad).sum(-1) > 0).sum(1)
  # One key token a candidate, so at most J of the N tokens.
  assert (touched <= inputs.K + inputs.B - 1).all() and (touched > 0).all()


def test_norm_by_batch_multiplies_iis_by_k():
  x = inputs.batch()
  by_slots, by_batch = (inputs.terms(x, inputs.objective(iis_norm=n))["iis"]
                        for n in ("BK", "B"))
  np.testing.assert_allclose(by_batch, by_slots * inputs.K, rtol=1e-6)


def test_equal_texts_can_be_left_out_of_iis():
  x = inputs.batch()
  none = np.zeros((inputs.B, inputs.K, inputs.K), bool)
  every = np.ones_like(none)
  plain = inputs.terms(x, inputs.objective())["iis"]
  same = lambda s: inputs.terms(x, inputs.objective(),
                                same_text=jnp.asarray(s))["iis"]
  np.testing.assert_allclose(same(none), plain, rtol=1e-6)
  assert same(every) < plain
