"""The itemised loss in one process against the published code.

Two files record defects of the original: `g`, whose ILA weight was ignored and
whose ILA value aliases the total, and `f`, whose up-weighted column is a negative
or padding, so that the column is injected and ours is checked apart.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.losses import itemized, negatives
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives.itemized_clip import Objective
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close

FAMILY = "loss_single_"


def _weight(value) -> float:
  """NaN in the file means that the term is absent."""
  return 0.0 if np.isnan(value) else float(value)


def _objective(data, block: int) -> Objective:
  no_check = bool(data.get("cfg.no_normal_check", 0.0))
  mps = float(data["cfg.mps_fac"]) * float(data["cfg.added_mps_loss"])
  # Without its MPS module the original ignores the ILA weight.
  ila = float(data["cfg.ila_fac"]) if data["cfg.added_mps_loss"] else 1.0
  settings = schema.Loss(
      ila_weight=ila, mps_weight=mps,
      kta_weight=_weight(data["cfg.key_token_alignment_loss"]),
      iis_weight=_weight(data["cfg.iis_loss"]),
      kta_rate=float(data["cfg.key_token_thresh"]),
      uwp_factor=float(data["cfg.comp_upfac"]),
      normal_check=str(data["cfg.kind"]) == "rad" and not no_check,
      block=block)
  E = data["in.image_tokens"].shape[-1]
  return Objective(settings, ItemAttention(E, int(data["cfg.n_head"])))


def _inputs(data):
  B, K = data["in.textmask"].shape
  return {
      "image": data["in.image_features"],
      "tokens": data["in.image_tokens"],
      "items": data["in.text_features"].reshape(B, K, -1),
      "log_scale": data["in.log_logit_scale"],
      "bias": data["in.logit_bias"],
      "attention": torch_names.item_attention(
          torch_names.under(data, "param.visual_proj"),
          int(data["cfg.n_head"])),
  }


def _loss(objective, data, inputs):
  mask = data["in.textmask"].astype(bool)
  normal = data.get("in.normals", np.zeros(len(mask))).astype(bool).reshape(-1)
  out = Outputs(
      image=inputs["image"], tokens=inputs["tokens"], items=inputs["items"],
      token_mask=np.ones(inputs["tokens"].shape[:2], bool),
      logit_scale=jnp.exp(inputs["log_scale"]), logit_bias=inputs["bias"])
  keep = data.get("in.ila_keep_mask")
  worst = None
  if "_f_" in data["name"]:
    worst = data["mid.uwp_selected_column"]
  terms, _ = objective.terms(
      out, {"item_attention": inputs["attention"]}, mask, normal,
      data["in.combined_indices"],
      None if keep is None else jnp.asarray(keep.astype(bool)), worst=worst)
  terms = {k: v.mean() for k, v in terms.items()}
  return objective.total(terms), terms


@pytest.mark.parametrize("block", [0, 3])
def test_loss_and_gradients_agree(data, block):
  with jax.enable_x64(True):
    objective = _objective(data, block)
    inputs = _inputs(data)
    run = jax.jit(jax.value_and_grad(
        functools.partial(_loss, objective, data), has_aux=True))
    (total, terms), grads = run(inputs)

    assert_close(total, data["out.total"], "total")
    for name, value in terms.items():
      aliased = name == "ila" and "_g_" in data["name"]
      if f"out.{name}_loss" in data and not aliased:
        assert_close(value, data[f"out.{name}_loss"], name)
    convert = functools.partial(torch_names.item_attention,
                                num_heads=int(data["cfg.n_head"]))
    assert_trees_close(
        grads["attention"],
        convert(torch_names.under(data, "grad.visual_proj")), "grad attention")
    assert_close(grads["image"], data["grad.image_features"], "grad image")
    assert_close(grads["tokens"], data["grad.image_tokens"], "grad tokens")
    assert_close(grads["items"].reshape(data["grad.text_features"].shape),
                 data["grad.text_features"], "grad items")
    assert_close(grads["log_scale"], data["grad.log_logit_scale"], "grad scale")
    assert_close(grads["bias"], data["grad.logit_bias"], "grad bias")


def test_draws_follow_the_published_rule(data):
  """The same offsets give the same set of items for every image."""
  mask = data["in.textmask"].astype(bool)
  B, K = mask.shape
  offsets = np.zeros((B, B), np.int32)
  offsets[~np.eye(B, dtype=bool)] = data["in.sampled_item_offsets"].reshape(-1)
  index = negatives.lists(jnp.asarray(offsets), max_items=K)
  np.testing.assert_array_equal(np.sort(index, axis=1),
                                data["in.combined_indices"])


def test_worst_positive_is_a_real_positive(data):
  with jax.enable_x64(True):
    mask = data["in.textmask"].astype(bool)
    candidates = negatives.exchange(
        jnp.asarray(data["in.combined_indices"]), jnp.asarray(mask),
        jnp.zeros((len(mask), len(mask)), bool))
    logits = data["mid.ila_logits"]
    worst = np.asarray(itemized.worst_positive(jnp.asarray(logits), candidates))
    for row, column in enumerate(worst):
      own = np.asarray((candidates.sign[row] > 0) & candidates.weight[row])
      if own.any():
        assert own[column]
        assert logits[row, column] == logits[row][own].min()
