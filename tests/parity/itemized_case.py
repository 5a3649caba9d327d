"""Runs the itemised loss on the numbers of a loss file.

Compiling takes nearly all the time, so what differs between files of equal
shapes is an argument: the terms are compiled without their weights, which then
enter as the cotangent of the terms.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.losses import negatives
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives.itemized_clip import Objective
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close
from tests.parity.compile import jit


class Draws(NamedTuple):
  """What `Objective.terms` takes besides features."""
  item_mask: np.ndarray      # [B, K] bool
  normal: np.ndarray         # [B] bool
  index: np.ndarray          # [B, K + b - 1]
  keep: np.ndarray | None    # [B, A, J, N] bool
  worst: np.ndarray | None   # [B] int


lists = jit(negatives.lists, static_argnames=("max_items", "groups"))


def settings(data) -> schema.Loss:
  """The file's settings; NaN in the file means that a term is absent."""
  weight = lambda x: 0.0 if np.isnan(x) else float(x)
  has_mps = bool(data["cfg.added_mps_loss"])
  return schema.Loss(
      # Without its MPS module the original ignores the ILA weight.
      ila_weight=float(data["cfg.ila_fac"]) if has_mps else 1.0,
      mps_weight=float(data["cfg.mps_fac"]) * has_mps,
      kta_weight=weight(data["cfg.key_token_alignment_loss"]),
      iis_weight=weight(data["cfg.iis_loss"]),
      kta_rate=float(data["cfg.key_token_thresh"]),
      uwp_factor=float(data["cfg.comp_upfac"]),
      normal_check=(str(data["cfg.kind"]) == "rad"
                    and not data.get("cfg.no_normal_check", 0.0)),
      groups=int(data.get("cfg.world_size", 1)))


def features(data) -> dict:
  """What the loss is differentiated by."""
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


def draws(data, index, keep, selected) -> Draws:
  """Injected draws.

  Args:
    data: the file; studies without a normal flag (2-D) count as not normal.
    index: [B, K + b - 1] each image's own list of items.
    keep: [B, A, J, N] bool or None, in our order of candidates.
    selected: [B] columns of `index` that the original up-weighted, or None.
      Injected if one of them is padding or a negative, a known defect.
  """
  mask = data["in.textmask"].astype(bool)
  image = np.arange(len(mask))
  normal = data.get("in.normals", 0 * image).astype(bool).reshape(-1)
  own = index // mask.shape[1] == image[:, None]
  positive = own & mask.reshape(-1)[index]
  sound = selected is None or positive[image, selected][mask.any(1)].all()
  return Draws(mask, normal, index, keep, None if sound else selected)


def weights_of_terms(chosen: schema.Loss) -> dict[str, float]:
  """How much each term counts in the total."""
  total = Objective(chosen, None).total
  return {name: total({name: 1.0}) for name in ("ila", "kta", "iis", "mps")}


def run(data, draws: Draws, weights: dict[str, np.ndarray], *, block: int = 0):
  """Terms [groups] and the gradients of sum(weights * terms)."""
  chosen = settings(data)
  # Weights are data: files that differ in nothing else share the program.
  bare = dataclasses.replace(chosen, ila_weight=1.0, kta_weight=1.0,
                             iis_weight=1.0, mps_weight=1.0, block=block)
  E = data["in.image_tokens"].shape[-1]
  objective = Objective(bare, ItemAttention(E, int(data["cfg.n_head"])))
  return _run(objective, features(data), draws, weights)


@functools.partial(jit, static_argnums=0)
def _run(objective, features, draws, weights):
  def terms(x):
    out = Outputs(
        image=x["image"], tokens=x["tokens"], items=x["items"],
        token_mask=jnp.ones(x["tokens"].shape[:2], bool),
        logit_scale=jnp.exp(x["log_scale"]), logit_bias=x["bias"])
    return objective.terms(
        out, {"item_attention": x["attention"]}, draws.item_mask, draws.normal,
        draws.index, draws.keep, worst=draws.worst)[0]
  values, pullback = jax.vjp(terms, features)
  return values, pullback(weights)[0]


def reported(data, where: str) -> list[str]:
  """The terms whose values the file holds below `where`.

  Without its MPS module the original gives out the total as ILA.
  """
  return [name for name in ("ila", "kta", "iis", "mps")
          if f"{where}.{name}_loss" in data
          and (name != "ila" or data["cfg.added_mps_loss"])]


def assert_gradients_close(data, grads: dict, shared: str, per_row: str):
  """Compares with `shared.*` (parameters) and `per_row.*` (features)."""
  assert_attention_close(data, grads, shared)
  assert_scalars_close(data, grads, shared)
  for name, ours in (("image_features", grads["image"]),
                     ("image_tokens", grads["tokens"]),
                     ("text_features", grads["items"])):
    theirs = data[f"{per_row}.{name}"]
    assert_close(ours.reshape(theirs.shape), theirs, f"{per_row}.{name}")


def assert_attention_close(data, grads: dict, where: str):
  """Compares the gradients of the item attention."""
  theirs = torch_names.item_attention(
      torch_names.under(data, f"{where}.visual_proj"), int(data["cfg.n_head"]))
  assert_trees_close(grads["attention"], theirs, f"{where}.visual_proj")


def assert_scalars_close(data, grads: dict, where: str):
  """Compares the gradients of the logarithm of the scale and of the bias."""
  assert_close(grads["log_scale"], data[f"{where}.log_logit_scale"],
               f"{where}.log_logit_scale")
  assert_close(grads["bias"], data[f"{where}.logit_bias"],
               f"{where}.logit_bias")
