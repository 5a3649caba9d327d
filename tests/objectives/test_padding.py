"""Padding never leaks: series, items, word pieces, examples.

Each mode compiles once and is fed one batch under several poisons. What is real
must come out the same to the last bit: padding adds exact zeros.
"""

import jax
import numpy as np
import pytest

from itemclip_jax.evaluators import embed
from itemclip_jax.models.dual_encoder import Outputs
from tests import tiny
from tests.objectives import padded

KEY = jax.random.key(7)


def mode(*, vision, loss=None, **more):
  return tiny.config(vision={"depth": 2, "slice_blocks": ()} | vision,
                     loss={"kta_rate": 0.2} | (loss or {}),
                     train={"global_batch": padded.B}, **more)


DROPS = {"drop_path": 0.3}
# (settings, training)
MODES = {
    "names, slice and study": (mode(
        vision={"slice_blocks": (0,), "study_blocks": (1,)},
        loss={"groups": 2, "token_drop_rate": 0.0}), True),
    "order, series and study, drops, recomputed": (mode(
        vision=DROPS | {"series_embedding": "order", "study_blocks": (1,),
                        "remat": "block"},
        text={"dropout": 0.2}, loss={"normal_check": False}), True),
    "none, study and slice, drops, blocks": (mode(
        vision=DROPS | {"series_embedding": "none", "study_blocks": (0,),
                        "slice_blocks": (1,)},
        loss={"normal_check": False, "groups": 2, "block": 3}), True),
    "names, slice and series, recomputed, not training": (mode(
        vision=DROPS | {"slice_blocks": (0,), "study_blocks": (),
                        "remat": "block"},
        text={"dropout": 0.2}, loss={"iis_ignore_overlap": True, "block": 5}),
        False),
}


def fill(x, key, real, poison):
  """`x` with what is not `real` in the array `key` replaced."""
  real = real.reshape(real.shape + (1,) * (x[key].ndim - real.ndim))
  return x | {key: np.where(real, x[key], np.asarray(poison, x[key].dtype))}


def voxels(value):
  return lambda x: fill(x, "volume", x["series_mask"], value)


def names(x):
  """Another series' name; with it the padding looks like any other series."""
  return fill(x, "series_names", x["series_mask"], x["series_names"][0, 0])


def endless_names(x):
  return fill(x, "series_names", x["series_mask"], 7)


def items(x):
  ids = np.random.default_rng(3).integers(5, 500, x["item_tokens"].shape)
  return fill(x, "item_tokens", x["item_mask"], ids)


def examples(x):
  """Other studies, with all their slots in use and their flags turned."""
  rng, real = np.random.default_rng(4), x["example_mask"]
  x = fill(x, "volume", real, rng.uniform(0, 200, x["volume"].shape))
  x = fill(x, "item_tokens", real, rng.integers(5, 500, x["item_tokens"].shape))
  x = fill(x, "series_names", real, x["series_names"][0])
  for key in ("series_mask", "item_mask", "normal"):
    x = fill(x, key, real, ~x[key])
  return x


def broken_examples(x):
  return fill(x, "volume", x["example_mask"], np.nan)


def empty_examples(x):
  for key in ("series_mask", "item_mask"):
    x = fill(x, key, x["example_mask"], False)
  return x


def everything(x):
  return voxels(50)(names(items(examples(x))))


POISONS = (voxels(1e4), voxels(np.nan), voxels(np.inf), names,
           endless_names, items, examples, broken_examples, empty_examples,
           everything)


def real_entries(out: Outputs, x: dict) -> dict:
  """Of real examples: image vectors, tokens of real series, real items."""
  real = x["example_mask"]
  return {"image": out.image[real], "token_mask": out.token_mask[real],
          "tokens": out.tokens[np.asarray(out.token_mask) & real[:, None]],
          "items": out.items[x["item_mask"] & real[:, None]],
          "scale": out.logit_scale, "bias": out.logit_bias}


@pytest.mark.parametrize("name", MODES)
def test_poisoned_padding_changes_no_output_no_loss_and_no_gradient(name):
  config, train = MODES[name]
  params, clean = padded.params(config), padded.batch(config)
  loss = padded.loss_fn(config, train=train)

  @jax.jit
  def step(volume, rest):
    return jax.value_and_grad(
        lambda p, v: loss(p, rest | {"volume": v}, KEY), (0, 1),
        has_aux=True)(params, volume)

  def run(x):
    rest = {k: v for k, v in x.items() if k != "volume"}
    (total, (out, metrics)), (by_param, by_voxel) = jax.device_get(
        step(x["volume"], rest))
    real = x["series_mask"] & x["example_mask"][:, None]
    np.testing.assert_array_equal(by_voxel[~real], 0.0)
    assert (np.abs(by_voxel[real]).max((1, 2, 3)) > 0).all()
    return real_entries(out, x), total, metrics, by_param

  wanted = run(clean)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(wanted))
  for poison in POISONS:
    poisoned = poison(clean)
    assert any((poisoned[k] != clean[k]).any() for k in clean)
    jax.tree.map(np.testing.assert_array_equal, run(poisoned), wanted)


def test_padding_behind_a_text_does_not_matter():
  config = MODES["names, slice and study"][0]
  params, x = padded.params(config), padded.batch(config)
  text = jax.jit(lambda ids: tiny.model(config).apply(
      {"params": params}, ids, method="text"))
  ids = x["item_tokens"][:2, 0]  # the second is padded already
  assert (ids[1] == 0).any()
  longer = np.pad(ids, [(0, 0), (0, 5)])
  # float32: the same sums, of another length.
  np.testing.assert_allclose(text(longer), text(ids), rtol=1e-5, atol=1e-6)


def test_scores_of_a_study_depend_on_nothing_else_in_the_batch(monkeypatch):
  monkeypatch.setattr(embed, "_MOST_TEXTS", 2)  # several blocks
  config = MODES["names, slice and study"][0]
  params, x = padded.params(config), padded.batch(config)
  x["volume"] = np.clip(np.round(x["volume"] * 57 + 114), 0, 255).astype(
      np.uint8)  # as stored
  encoder = embed.Encoder(tiny.model(config), (0.0, 255.0), np.float32)
  texts = encoder.texts(params, x["item_tokens"][:3, 0])

  def scores(x):
    encoded = encoder.studies(
        params, x["volume"], x["series_mask"], x["series_names"])
    return jax.tree.map(np.asarray, encoder.scores(params, encoded, texts))

  wanted, real = scores(x), x["example_mask"]
  for poison in (voxels(255), names, endless_names, examples, empty_examples):
    for ours, theirs in zip(scores(poison(x)), wanted):
      np.testing.assert_array_equal(ours[real], theirs[real])
  alone = scores({k: v[1:2, :1] for k, v in x.items() if v.ndim > 1})
  for ours, theirs in zip(alone, wanted):
    # float32: a batch and a study of another shape, the same sums.
    np.testing.assert_allclose(ours[0], theirs[1], rtol=1e-5, atol=1e-6)
