"""The vision tower against the published encoders: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.data import series_name
from itemclip_jax.models import layers
from itemclip_jax.models.hlip import Hlip
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close
from tests.parity.compile import jit

FAMILY = "hlip_"


def _model(data) -> Hlip:
  levels = lambda name: tuple(
      int(i) for i in data.get(f"cfg.{name}_attn_indexes", ()))
  settings = {"series_embedding": "none"}
  if "in.serienames" in data:
    hidden = data["param.serienameencoder.transformer.layers.0.1.fn.net.0.bias"]
    settings = {"series_embedding": "name", "name_encoder": (
        int(data["cfg.sne_embsize"]), int(data["cfg.sne_depth"]),
        int(data["cfg.sne_heads"]), len(hidden))}
  elif "param.sequential_posemb" in data:
    settings = {"series_embedding": "order",
                "max_order": data["param.sequential_posemb"].shape[1]}
  return Hlip(
      patch=tuple(map(int, data["cfg.patch_size"])),
      grid=tuple(map(int, data["cfg.grid"])), width=int(data["cfg.dim"]),
      depth=int(data["cfg.depth"]), num_heads=int(data["cfg.heads"]),
      mlp_ratio=float(data["cfg.mlp_ratio"]), slice_blocks=levels("slice"),
      study_blocks=levels("study"), **settings)


def _params(data, prefix: str) -> dict:
  return torch_names.hlip(
      torch_names.under(data, prefix), num_heads=int(data["cfg.heads"]),
      name_heads=int(data.get("cfg.sne_heads", 1)))


@functools.partial(jit, static_argnums=0)
def _run(model, params, volume, names, order, head, cotangent):
  """Gradients by parameters and volume, outputs and intermediates."""
  def total(params, volume):
    out, state = model.apply(
        {"params": params}, volume, np.ones(volume.shape[:2], bool), names,
        order, mutable=["intermediates"], capture_intermediates=(
            lambda module, _: module.name in ("series_name", "series_proj")))
    trunk = jnp.concatenate([out.cls[:, None], out.tokens], axis=1)
    projected = trunk @ head
    return jnp.sum(projected * cotangent), (
        trunk, projected, state["intermediates"])
  return jax.grad(total, (0, 1), has_aux=True)(params, volume)


def test_encoder_and_gradients_agree(data):
  params, volume = _params(data, "param"), data["in.image"][:, :, 0]
  (grads, grad_volume), (trunk, projected, seen) = _run(
      _model(data), params, volume, data.get("in.serienames"),
      data.get("in.scan_posemb_perm"), data["param.__head.proj.weight"].T,
      data["in.cotangent"])

  for i in range(int(data["cfg.depth"])):
    assert_close(seen[f"after_block{i}"][0], data[f"out.after_block{i}"],
                 f"after_block{i}")
  assert_close(trunk, data["out.trunk_output"], "trunk_output")
  assert_close(trunk[:, 0], data["out.cls"], "cls")
  assert_close(trunk[:, 1:], data["out.tokens"], "tokens")
  assert_close(projected[:, 0], data["out.projected_image_features"], "image")
  assert_close(projected[:, 1:], data["out.projected_image_tokens"], "tokens")
  for ours, theirs in (("series_name", "seriesname_encoding_prelinear"),
                       ("series_proj", "seriesname_projected")):
    if f"out.{theirs}" in data:
      value = seen[ours]["__call__"][0]
      assert_close(value.reshape(-1, value.shape[-1]), data[f"out.{theirs}"],
                   theirs)

  # The table is fixed: it has no gradient, and the files record none.
  np.testing.assert_array_equal(grads.pop("spatial_position"), 0.0)
  assert_trees_close(grads, _params(data, "grad"), "grad")
  assert_close(grad_volume, data["grad.input"][:, :, 0], "grad input")


def test_tables_and_character_codes_agree(data):
  if "param.sequential_posemb" in data:
    theirs = data["param.sequential_posemb"][0]
    assert_close(layers.sincos_1d(range(len(theirs)), theirs.shape[1]), theirs,
                 "sequential_posemb")
  if "in.serienames" in data:
    theirs = data["in.serienames"]
    codes = [series_name.codes(str(name), theirs.shape[-1])
             for name in data["cfg.series_names"]]
    np.testing.assert_array_equal(np.reshape(codes, theirs.shape), theirs)
  if "param.serienameencoder.p_enc_table" in data:
    theirs = data["param.serienameencoder.p_enc_table"]
    assert_close(layers.interleaved_sincos(*theirs.shape), theirs,
                 "p_enc_table")
