"""DACL and m3-mix: what is mixed with what, and how it is summed."""

import numpy as np

from itemclip_jax.config import systems
from itemclip_jax.objectives import clip, dacl, m3_mix
from tests.objectives.expert_rows import (
    B, KEY, SIDE, X, batch, clip_by_hand, encode, params, run)


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


def test_what_is_real_is_told_without_touching_the_batch():
  mask = np.array([[True, False], [True, True]])
  x = {"item_mask": mask.copy(), "example_mask": np.array([True, False])}
  assert clip.real_items(x).tolist() == [[True, False], [False, False]]
  np.testing.assert_array_equal(x["item_mask"], mask)
  assert clip.real_items({"item_mask": mask}).tolist() == mask.tolist()
