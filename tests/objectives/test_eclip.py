"""eCLIP, DACL and m3-mix: who is a pair, when, and with what."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.config import schema, systems
from itemclip_jax.models import heatmap
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.objectives import clip, dacl, eclip, m3_mix
from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh

B, X, T, E, SIDE, STEPS = 5, 3, 4, 6, 8, 1000  # X expert rows come last
KEY = jax.random.key(3)
PROCESSOR = heatmap.HeatmapProcessor((3, 4, 4), 8, 2)
WARM = 250


def batch(seed=0):
  """Row 4 is padding; row 6 shows an expert a part that nobody looked at."""
  rng = np.random.default_rng(seed)
  rows = B + X
  looked = rng.integers(1, 200, (rows, SIDE, SIDE)).astype(np.uint8)
  looked[:B] = looked[6] = 0
  return {
      "volume": rng.normal(size=(rows, 1, 3, SIDE, SIDE)).astype(np.float32),
      "item_tokens": rng.integers(1, 50, (rows, 1, T)).astype(np.int32),
      "item_mask": np.ones((rows, 1), bool),
      "example_mask": np.arange(rows) != 4,
      "expert": np.arange(rows) >= B, "heatmap": looked}


def params():
  rng = np.random.default_rng(1)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  made = jax.eval_shape(
      PROCESSOR.init, jax.random.key(0), jnp.zeros((1, 1, 3, SIDE, SIDE)),
      jnp.zeros((1, SIDE, SIDE)))["params"]
  return {"image": normal(3 * SIDE * SIDE, E) / 8, "words": normal(50, E),
          "scale": np.float32(2.0),
          "heatmap": jax.tree.map(lambda x: normal(*x.shape) / 4, made)}


def encode(p, view):
  """A model with nothing but the processor and one matrix for each side."""
  volume, made = view["volume"], None
  if "mix" in view:
    made = PROCESSOR.apply({"params": p["heatmap"]}, volume, view["heatmap"])
    volume = heatmap.mix(volume, made, view["mix"])
  rows = len(volume)
  return Outputs(
      image=volume.reshape(rows, -1) @ p["image"],
      items=p["words"][view["item_tokens"]].sum(2),
      tokens=jnp.zeros((rows, 1, E)), token_mask=jnp.ones((rows, 1), bool),
      logit_scale=jnp.exp(p["scale"]), logit_bias=jnp.zeros(()),
      reconstruction=made)


def run(objective, x, p=None, step=WARM, rng=KEY):
  p = params() if p is None else p
  views = objective.views(x, step=step, rng=rng)
  return objective.loss(tuple(encode(p, v) for v in views), p, x, step=step,
                        rng=rng)


def of(**settings):
  return eclip.Objective(systems.Eclip(**settings), STEPS)


NAIVE = dict(mixing="none", curriculum="off", prime_weight=0.0)


def clip_by_hand(image, text, scale, competes=None):
  """Mean over rows and columns of the cross-entropy; unit vectors."""
  unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  logits = scale * unit(np.float64(image)) @ unit(np.float64(text)).T
  if competes is not None:
    logits = np.where(competes, logits, -np.inf)
  own = np.diagonal(logits)
  return (np.log(np.exp(logits).sum(0)) + np.log(np.exp(logits).sum(1))
          - 2 * own).mean() / 2


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
    "dacl": (dacl.Objective(systems.Eclip()), 0),
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


@pytest.mark.parametrize("name", ["warm", "dacl, masked", "m3"])
def test_devices_change_no_loss_and_no_gradient(name):
  mesh = make_mesh(8, 1, jax.devices()[:8])
  wanted = grad_of(name)(params(), batch())
  with jax.set_mesh(mesh):
    got = grad_of(name)(params(), jax.device_put(
        batch(), sharding.batch_sharding(mesh)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-6), got, wanted)  # float32, other order of sums


def test_dacl_pairs_two_mixtures_of_each_image_with_its_text():
  x, p = batch(), params()
  objective = dacl.Objective(systems.Eclip())
  views = objective.views(x, step=0, rng=KEY)
  real = np.flatnonzero(x["example_mask"])
  shares = []
  for view in views:
    mixed = np.asarray(view["volume"]).reshape(B + X, -1)
    flat = x["volume"].reshape(B + X, -1)
    found = set()
    for i in real:  # the share and the partner that explain the mixture
      fits = []
      for j in real[real != i]:
        way = flat[i] - flat[j]
        lam = way @ (mixed[i] - flat[j]) / (way @ way)
        fits.append((np.abs(mixed[i] - flat[j] - lam * way).max(), lam))
      error, lam = min(fits)
      assert error < 1e-5
      found.add(round(float(lam), 4))
    assert len(found) == 1  # of the batch
    shares += found
  assert shares[0] != shares[1]
  images = np.concatenate([encode(p, v).image[real] for v in views])
  text = p["words"][x["item_tokens"][real, 0]].sum(1)
  wanted = clip_by_hand(images, np.concatenate([text, text]), np.exp(2))
  np.testing.assert_allclose(run(objective, x, p, step=0)[0], wanted, rtol=1e-5)


def test_uniform_shares_leave_the_own_image_in_front():
  objective = dacl.Objective(systems.Eclip(dacl_lambda="uniform",
                                           dacl_alpha=0.6))
  x = batch() | {"volume": np.float32(np.arange(B + X))[
      :, None, None, None, None] * np.ones((1, 1, 3, SIDE, SIDE), np.float32)}
  del x["example_mask"]
  for step in range(20):
    for view in objective.views(x, step=step, rng=KEY):
      moved = np.abs(np.asarray(view["volume"])[:, 0, 0, 0, 0] - np.arange(8))
      assert 0 < moved.max() < 0.4 * 7


def test_m3_adds_its_parts_to_clip():
  x, p = batch(), params()
  total, metrics = run(m3_mix.Objective(systems.Eclip(
      m2_weight=0.5, uni_weight=0.25)), x, p)
  np.testing.assert_allclose(
      total, metrics["loss/clip"] + 0.5 * metrics["loss/m2"]
      + 0.25 * metrics["loss/uni"], rtol=1e-6)
  np.testing.assert_allclose(metrics["loss/clip"],
                             run(clip.Objective(), x, p)[0], rtol=1e-6)
  assert "loss/uni" not in run(m3_mix.Objective(systems.Eclip()), x, p)[1]


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
