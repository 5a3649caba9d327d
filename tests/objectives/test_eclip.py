"""eCLIP: who is a pair, when, and with what; and padding, of its rivals too."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from itemclip_jax.config import schema, systems
from itemclip_jax.objectives import clip, dacl, eclip, m3_mix
from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh
from tests.objectives.expert_rows import (
    B, KEY, PROCESSOR, SIDE, STEPS, X, batch, clip_by_hand, encode, params,
    run)


def of(**settings):
  return eclip.Objective(systems.Eclip(**settings), STEPS)


NAIVE = dict(mixing="none", curriculum="off", prime_weight=0.0)


@pytest.mark.parametrize("settings, points", [
    ({}, {0: 0, 99: 0, 100: 0.05, 250: 0.275, 400: 0.5, 600: 0.3, 800: 0.1,
          999: 0.1, 1000: 0.1}),
    ({"p_end": 0.05}, {600: 0.275, 800: 0.05, 1000: 0.05}),
    ({"cold": 0.0, "warm": 0.0, "cool": 1.0}, {0: 0.5, 500: 0.3}),
    ({"curriculum": "off"}, {0: 1, 50: 1, 1000: 1}),
])
def test_the_chance_follows_the_phases(settings, points):
  for step, wanted in points.items():
    np.testing.assert_allclose(
        eclip.probability(step, STEPS, systems.Eclip(**settings)), wanted,
        atol=1e-6, err_msg=str(step))


def test_without_experts_it_is_clip():
  x = {k: v for k, v in batch().items() if k not in ("expert", "heatmap")}
  ours, theirs = run(of(), x), run(clip.Objective(), x)
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
  assert "loss/prime" not in ours[1]


def test_in_the_cold_phase_experts_are_no_pairs_and_the_processor_is_primed():
  x, p = batch(), params()
  total, metrics = run(of(), x, p, step=99)
  ordinary = {k: v[:B] for k, v in x.items() if k not in ("expert", "heatmap")}
  wanted = run(clip.Objective(), ordinary, p)[0]
  np.testing.assert_allclose(metrics["loss/clip"], wanted, rtol=1e-5)
  volume = x["volume"][:4]
  made = PROCESSOR.apply({"params": p["heatmap"]}, volume,
                         np.ones((4, SIDE, SIDE)))
  error = np.mean((volume - made) ** 2)
  np.testing.assert_allclose(metrics["loss/prime"], error, rtol=1e-5)
  np.testing.assert_allclose(total, 0.9 * wanted + 0.1 * error, rtol=1e-5)
  assert metrics["expert/rows"] == 0
  after, metrics = run(of(), x, p, step=100)
  np.testing.assert_allclose(after, metrics["loss/clip"], rtol=1e-6)


def test_naive_adds_the_processed_images_at_every_step():
  x, p = batch(), params()
  total, metrics = run(of(**NAIVE), x, p, step=0)
  assert metrics["expert/rows"] == X and "loss/prime" not in metrics
  looked = x["heatmap"][B:].astype(np.float32)
  looked /= np.maximum(looked.max((1, 2), keepdims=True), 1)
  looked[1] = 1.0  # of row 6, which shows nothing that was looked at
  made = PROCESSOR.apply({"params": p["heatmap"]}, x["volume"][B:], looked)
  volume = np.concatenate([x["volume"][:4], made])
  real = x["example_mask"]
  text = p["words"][x["item_tokens"][real, 0]].sum(1)
  wanted = clip_by_hand(volume.reshape(7, -1) @ p["image"], text, np.exp(2))
  np.testing.assert_allclose(total, wanted, rtol=1e-5)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_shares_are_drawn_for_expert_rows_alone(per):
  draws = []
  for step in range(400):
    (view,) = of(lambda_per=per).views(batch(), step=step, rng=KEY)
    mix = np.asarray(view["mix"])
    assert (mix[:B] == 1).all()
    assert (len(set(mix[B:])) == 1) == (per == "batch")
    draws.append(mix[B:])
  draws = np.array(draws)[:, 0]
  # Of Beta(0.3, 0.3): variance 1 / (4 (2 * 0.3 + 1)), mostly near both ends.
  assert draws.min() >= 0 and draws.max() <= 1
  np.testing.assert_allclose(draws.mean(), 0.5, atol=0.06)
  np.testing.assert_allclose(draws.var(), 0.25 / 1.6, atol=0.015)


@pytest.mark.parametrize("per", ["sample", "step"])
def test_experts_count_as_often_as_the_chance_says(per):
  x, p = batch(), params()
  objective = of(draw_per=per)
  keys = jax.random.split(KEY, 2000)
  counts = np.asarray(jax.jit(jax.vmap(lambda key: run(
      objective, x, p, step=400, rng=key)[1]["expert/rows"]))(keys))
  assert set(counts) == ({0, X} if per == "step" else set(range(X + 1)))
  np.testing.assert_allclose(counts.mean() / X, 0.5, atol=0.04)


def test_random_maps_are_the_control():
  x = batch()
  views = [of(heatmaps=h).views(x, step=1, rng=KEY)[0]["heatmap"]
           for h in ("expert", "random")]
  assert (views[1][:B] == 1).all()
  for i in (5, 7):
    assert views[1][i].std() > 0.2
    assert abs(np.corrcoef(views[0][i].ravel(), views[1][i].ravel())[0, 1]) < .5


def test_equal_texts_compete_or_not():
  x, p = batch(), params()
  x["item_tokens"][5] = x["item_tokens"][1]
  real = x["example_mask"]
  equal = (x["item_tokens"][:, None] == x["item_tokens"][None]).all((2, 3))
  image = np.asarray(encode(p, of(**NAIVE).views(x, step=0, rng=KEY)[0]).image)
  text = p["words"][x["item_tokens"][:, 0]].sum(1)
  for setting, competes in (("negative", None),
                            ("masked", (~equal | np.eye(8, dtype=bool))[
                                np.ix_(real, real)])):
    got = run(of(duplicate_text=setting, **NAIVE), x, p)[0]
    wanted = clip_by_hand(image[real], text[real], np.exp(2), competes)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


OBJECTIVES = {
    "cold": (of(), 50), "warm": (of(duplicate_text="masked"), 400),
    "own, by the batch": (of(lambda_per="batch", heatmap_scale="batch",
                             draw_per="step", curriculum="off"), 300),
    "dacl, masked": (dacl.Objective(systems.Eclip(
        dacl_lambda="uniform", duplicate_text="masked")), 0),
    "m3": (m3_mix.Objective(systems.Eclip(uni_weight=0.5)), 0),
}


@functools.cache
def grad_of(name):
  """Jitted (params, batch) -> loss and gradient."""
  objective, step = OBJECTIVES[name]
  return jax.jit(jax.value_and_grad(
      lambda p, x: run(objective, x, p, step=step)[0]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_never_leaks(name):
  grad, x, p = grad_of(name), batch(), params()
  poisoned = {k: v.copy() for k, v in x.items()}
  poisoned["volume"][4] = np.nan
  poisoned["item_tokens"][4] = 7
  poisoned["heatmap"][4] = 255
  wanted = grad(p, x)
  assert np.isfinite(wanted[0]) and wanted[0] > 0
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(wanted[1]))
  jax.tree.map(np.testing.assert_array_equal, grad(p, poisoned), wanted)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_nothing_costs_nothing(name):
  x = batch()
  x["example_mask"][:] = False
  total, grads = grad_of(name)(params(), x)
  assert total == 0 and all((g == 0).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ["warm", "m3"])
def test_devices_change_no_loss_and_no_gradient(name):
  mesh = make_mesh(8, 1, jax.devices()[:8])
  wanted = grad_of(name)(params(), batch())
  with jax.set_mesh(mesh):
    got = grad_of(name)(params(), jax.device_put(
        batch(), sharding.batch_sharding(mesh)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-6), got, wanted)  # float32, other order of sums


def picture_config(**sections):
  raw = schema.defaults()
  raw.data.update(max_series=1, expert_batch=4)
  raw.vision.update(tower="vit", volume_shape=(3, 32, 32), patch=(3, 16, 16),
                    series_embedding="none", study_blocks=(), heatmap_width=8)
  raw.text.update(form="report", max_items=1)
  raw.train.steps = 10
  for section, values in sections.items():
    raw[section].update(values)
  return schema.from_config_dict(raw)


def test_settings_that_leave_nothing_to_do_are_told():
  assert eclip.Objective.from_config(picture_config(), None).total_steps == 10
  for section, name in (("train", "steps"), ("data", "expert_batch"),
                        ("vision", "heatmap_width")):
    with pytest.raises(ValueError, match=f"{section}.{name} is 0"):
      eclip.Objective.from_config(picture_config(**{section: {name: 0}}), None)
  config = picture_config()
  several = dataclasses.replace(
      config, data=dataclasses.replace(config.data, max_series=2),
      vision=schema.Vision())
  with pytest.raises(ValueError, match="data.max_series=2"):
    dacl.Objective.from_config(several, None)


@pytest.mark.parametrize("settings, told", [
    (dict(cold=0.5, warm=0.4, cool=0.2), "exceed 1"),
    (dict(p_max=1.5), "p_max"), (dict(alpha=0.0), "alpha"),
    (dict(dacl_lambda="uniform", dacl_alpha=1.5), "1 at most")])
def test_settings_out_of_range_are_told(settings, told):
  with pytest.raises(ValueError, match=told):
    systems.Eclip(**settings)
