"""CLIP, SigLIP, FLAIR and HLIP's losses against the published code.

A `clip_siglip` file holds several losses of the same unit features, one value
`out.<loss>` and gradients `grad.<loss>.*` each; a `flair` file one loss.
"""

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config.systems import Baselines
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives import clip, flair, hlip, siglip
from tests.parity import itemized_case, torch_names
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "baseline_"

# Loss of a `clip_siglip` file -> objective.
OBJECTIVES = {
    "clip": clip.Objective(),
    "siglip": siglip.Objective(),
    "hlip_custom_clip": hlip.Objective(Baselines()),
    "hlip_custom_clip_fn": hlip.Objective(Baselines(normal_pairs="flagged")),
    "hlip_custom_siglip": hlip.Objective(Baselines(contrast="sigmoid")),
    "hlip_custom_siglip_fn": hlip.Objective(
        Baselines(contrast="sigmoid", normal_pairs="flagged")),
}


def test_losses_and_gradients_agree(data):
  with jax.enable_x64(True):
    if data["name"].startswith("baseline_flair_"):
      _compare_flair(data)
    else:
      names = [k.removeprefix("out.") for k in data if k.startswith("out.")]
      assert names
      for name in names:
        _compare_contrast(data, name)


def _compare_contrast(data, name: str):
  flag = data["in.false_negative_flag"].reshape(-1).astype(bool)
  B = len(flag)
  batch = {"item_mask": np.ones((B, 1), bool), "normal": flag}

  def total(x):
    out = Outputs(
        image=x["image"], items=x["text"][:, None], tokens=x["image"][:, None],
        token_mask=jnp.ones((B, 1), bool), logit_scale=jnp.exp(x["log_scale"]),
        logit_bias=x["bias"])
    return OBJECTIVES[name].loss((out,), {}, batch, step=0,
                                 rng=jax.random.key(0))[0]

  value, grads = jit(jax.value_and_grad(total))({
      "image": data["in.image_features_normalized"],
      "text": data["in.text_features_normalized"],
      "log_scale": data["in.log_logit_scale"], "bias": data["in.logit_bias"]})
  assert_close(value, data[f"out.{name}"], name)
  where = f"grad.{name}"
  itemized_case.assert_scalars_close(data, grads, where)
  for ours, features in (("image", "image_features"),
                         ("text", "text_features")):
    # Theirs are by features of unit norm, ours normalise: what is left of
    # theirs is the part that does not change the norm.
    given, theirs = data[f"in.{features}_normalized"], data[
        f"{where}.{features}"]
    along = np.sum(given * theirs, axis=1, keepdims=True) * given
    assert_close(grads[ours], theirs - along, f"{where}.{features}")


def _compare_flair(data):
  B, K = data["in.image_features"].shape[0], int(data["cfg.num_cap_per_img"])
  E, A = data["in.image_features"].shape[1], int(data["cfg.n_head"])
  offsets = np.zeros((B, B), np.int32)
  offsets[~np.eye(B, dtype=bool)] = data["in.sampled_item_offsets"].reshape(-1)
  index = itemized_case.lists(offsets, max_items=K)
  weight = 0.5 if data["cfg.added_mps_loss"] else 0.0
  which = flair.Objective(ItemAttention(E, A),
                          Baselines(flair_mps_weight=weight))

  def total(x):
    out = Outputs(
        image=x["image"], tokens=x["tokens"], items=x["items"],
        token_mask=jnp.ones(x["tokens"].shape[:2], bool),
        logit_scale=jnp.exp(x["log_scale"]), logit_bias=x["bias"])
    terms = which.terms_of_lists(
        out, jnp.ones((B, K), bool), {"item_attention": x["attention"]}, index)
    return which.total(terms), terms

  (value, terms), grads = jit(jax.value_and_grad(total, has_aux=True))({
      "image": data["in.image_features"], "tokens": data["in.image_tokens"],
      "items": data["in.text_features"].reshape(B, K, E),
      "log_scale": data["in.log_logit_scale"], "bias": data["in.logit_bias"],
      "attention": torch_names.item_attention(
          torch_names.under(data, "param.visual_proj"), A)})
  assert_close(value, data["out.total"], "total")
  for name, term in terms.items():
    assert_close(term, data[f"out.{name}_loss"], name)
  itemized_case.assert_gradients_close(data, grads, "grad", "grad")
