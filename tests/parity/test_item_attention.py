"""Item cross-attention against the published layer: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.ops import attention, item_pairs
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close
from tests.parity.compile import jit

FAMILY = "crossattn_"


def _forward(model, params, q, k, v, keep):
  """Pooled vectors [B, J, E] and weights [B, A, J, N]."""
  B, J, E = q.shape
  apply = lambda *a, method: model.apply({"params": params}, *a, method=method)
  mask = np.ones(k.shape[:2], bool)
  items = apply(q.reshape(B * J, E), method="project_items")
  tokens = apply(k, mask, v, method="project_tokens")
  query = items.query.reshape(B, J, model.num_heads, -1)
  if keep is None:
    weights = item_pairs.attention_weights(query, tokens)
  else:
    logits = jnp.einsum("bjaf,bnaf->bajn", query * query.shape[-1] ** -0.5,
                        tokens.key)
    weights = attention.softmax_zero_slot(logits, keep)
  out = lambda pooled: apply(pooled, method="output")
  return item_pairs.pool(weights, tokens.value, out), weights


@functools.partial(jit, static_argnums=0)
def _gradients(model, params, q, kv, keep, cotangent):
  def total(params, q, kv):
    pooled, weights = _forward(model, params, q, kv, kv, keep)
    return jnp.sum(pooled * cotangent), (pooled, weights)
  return jax.grad(total, (0, 1, 2), has_aux=True)(params, q, kv)


@pytest.mark.parametrize("case", ["nomask", "mask"])
def test_item_attention_agrees(data, case):
  with jax.enable_x64(data["in.q"].dtype == np.float64):
    heads = int(data["cfg.n_head"])
    model = ItemAttention(int(data["cfg.dim"]), heads)
    convert = lambda prefix: torch_names.item_attention(
        torch_names.under(data, prefix), heads)
    keep = data["in.keep_mask"].astype(bool) if case == "mask" else None
    grads, (pooled, weights) = _gradients(
        model, convert("param"), data["in.q"], data["in.kv"], keep,
        data["in.cotangent"])

    assert_close(pooled, data[f"out.{case}.output"], "output")
    weights = np.asarray(weights)
    heads_with_slot = np.concatenate(
        [weights, 1 - weights.sum(-1, keepdims=True)], axis=-1)
    assert_close(heads_with_slot, data[f"out.{case}.attn_heads"], "attn_heads")
    assert_close(heads_with_slot.mean(1), data[f"out.{case}.attn_avg"],
                 "attn_avg")
    assert_trees_close(grads[0], convert(f"grad.{case}"), "grad")
    assert_close(grads[1], data[f"grad.{case}.q"], "grad q")
    assert_close(grads[2], data[f"grad.{case}.kv"], "grad kv")


def test_values_may_differ_from_keys(data):
  with jax.enable_x64(data["in.q"].dtype == np.float64):
    heads = int(data["cfg.n_head"])
    params = torch_names.item_attention(torch_names.under(data, "param"), heads)
    model = ItemAttention(int(data["cfg.dim"]), heads)
    mask = np.ones(data["in.kv"].shape[:2], bool)
    pooled = jit(model.apply)({"params": params}, data["in.q"], data["in.kv"],
                              mask, data["in.v_other"])
    assert_close(pooled, data["out.nomask_vdiff.output"], "nomask_vdiff")
