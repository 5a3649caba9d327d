"""CLIP and its relatives: identities between them, values by hand, settings."""

import dataclasses

import numpy as np
import pytest

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.config.systems import Baselines
from itemclip_jax.errors import UserError
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives import (
    clip, dreamlip, flair, hlip, multi_positive, siglip)
from tests.losses import inputs
from tests.objectives.contrasted import (
    ATTENTION, B, batch, CASES, E, features, K, loss, value)


def test_clip_without_a_scale_costs_the_logarithm_of_the_batch():
  out = features(1).replace(logit_scale=np.float32(0))
  metrics = value(clip.Objective(), out, batch(1))
  np.testing.assert_allclose(metrics["loss/total"], np.log(B), rtol=1e-6)


def test_one_item_makes_multi_positive_siglip_siglip():
  out, x = features(1), batch(1)
  np.testing.assert_allclose(
      value(multi_positive.Objective(), out, x)["loss/mps"],
      value(siglip.Objective(), out, x)["loss/siglip"], rtol=1e-6)


def test_multi_positive_siglip_is_the_global_term_of_itemized_clip():
  out, x = features(), batch(num_items=[2, 1, 2, 2, 1, 2, 2, 1],
                             real=np.arange(B) != 5)
  np.testing.assert_allclose(
      value(multi_positive.Objective(True), out, x)["loss/mps"],
      value(inputs.objective(), out, x)["loss/mps"], rtol=1e-6)


def test_the_normal_check_drops_pairs_of_normal_studies():
  out = features(bias=50.0).replace(logit_scale=np.float32(0))
  cost = lambda check: value(
      multi_positive.Objective(check), out, batch())["loss/mps"]
  # 50 a negative: 8 x 7 pairs, 4 x 3 of them of normal studies.
  np.testing.assert_allclose(cost(False), 50 * 56 / B, rtol=1e-6)
  np.testing.assert_allclose(cost(True), 50 * (56 - 12) / B, rtol=1e-6)


@pytest.mark.parametrize("divisor", ["list", "images"])
def test_flair_of_one_text_and_one_token_is_siglip_on_that_token(divisor):
  """Identity projections; the norm of a centred token keeps its direction."""
  out, x = features(1), batch(1)
  token = out.image - out.image.mean(1, keepdims=True)
  out = out.replace(image=token, tokens=token[:, None],
                    token_mask=np.ones((B, 1), bool))
  eye = np.eye(E, dtype=np.float32)
  project = {"kernel": eye[:, None], "bias": np.zeros((1, E), np.float32)}
  norm = {"scale": np.ones(E, np.float32), "bias": np.zeros(E, np.float32)}
  identity = {"query": project, "key": project, "value": project,
              "ln_query": norm, "ln_key": norm, "ln_value": norm,
              "out": {"kernel": eye[None], "bias": np.zeros(E, np.float32)}}
  which = flair.Objective(ItemAttention(E, 1), Baselines(flair_divisor=divisor))
  metrics, _ = loss(which)(out, x, {"item_attention": identity})
  wanted = value(siglip.Objective(), out, x)["loss/siglip"]
  for name in ("loss/tcs", "loss/mps", "loss/total"):
    np.testing.assert_allclose(metrics[name], wanted, rtol=1e-5, err_msg=name)


def test_flair_divides_by_the_list_or_by_the_images():
  by_list, by_image = (
      value(flair.Objective(ATTENTION, Baselines(flair_divisor=d)), features(),
            batch(real=np.arange(B) != 5)) for d in ("list", "images"))
  ratio = by_image["loss/tcs"] / by_list["loss/tcs"]
  np.testing.assert_allclose(ratio, (B - 1 + K - 1) / (B - 1), rtol=1e-6)
  np.testing.assert_allclose(
      by_list["loss/total"],
      (by_list["loss/tcs"] + by_list["loss/mps"]) / 2, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_flair_in_groups_meets_the_lists_of_all(groups):
  """Without cosines a negative costs 50 and a positive nothing."""
  out = features(bias=50.0).replace(logit_scale=np.float32(0))
  which = flair.Objective(ATTENTION, Baselines(flair_divisor="images"), groups)
  negatives = groups * (B // groups - 1) + (groups - 1) * K
  np.testing.assert_allclose(value(which, out, batch())["loss/tcs"],
                             50 * negatives, rtol=1e-6)


def test_llip_of_one_text_meets_every_other_text_once():
  out = features(1, bias=50.0).replace(logit_scale=np.float32(0))
  metrics = value(CASES["llip"][1], out, batch(1))
  assert "loss/mps" not in metrics
  np.testing.assert_allclose(metrics["loss/total"], 50 * (B - 1), rtol=1e-6)


def test_dreamlip_of_one_caption_is_clip_and_a_group_without_rivals():
  out, x = features(1), batch(1)
  metrics = value(dreamlip.Objective(), out, x)
  wanted = value(clip.Objective(), out, x)["loss/clip"]
  np.testing.assert_allclose(metrics["loss/captions"], wanted, rtol=1e-6)
  np.testing.assert_allclose(metrics["loss/grouping"], 0, atol=1e-6)


def test_dreamlip_counts_all_captions_alike():
  """The mean over slots where all are full, as the paper has it."""
  out, x = features(), batch()
  by_slot = [value(clip.Objective(), out.replace(items=out.items[:, k:k + 1]),
                   batch(1))["loss/clip"] for k in range(K)]
  which = dreamlip.Objective(Baselines(grouping_weight=2.0))
  metrics = value(which, out, x)
  np.testing.assert_allclose(metrics["loss/captions"], np.mean(by_slot),
                             rtol=1e-6)
  np.testing.assert_allclose(
      metrics["loss/total"],
      metrics["loss/captions"] + 2 * metrics["loss/grouping"], rtol=1e-6)


def test_hlip_contrasts_image_and_report_second_token_and_sentence():
  out, x = features(), batch()
  one = lambda image, k: value(
      clip.Objective(),
      out.replace(image=image, items=out.items[:, k:k + 1]), batch(1))
  metrics = value(hlip.Objective(), out, x)
  report, sentence = (one(v, k)["loss/clip"]
                      for k, v in enumerate((out.image, out.second)))
  np.testing.assert_allclose(metrics["loss/report"], report, rtol=1e-6)
  np.testing.assert_allclose(metrics["loss/sentence"], sentence, rtol=1e-6)
  np.testing.assert_allclose(metrics["loss/total"], (report + sentence) / 2,
                             rtol=1e-6)


ONE_TEXT = dict(form="report", max_items=1)


@pytest.mark.parametrize("name, settings, message", [
    ("clip", {}, "contrasts one; set text.form"),
    ("siglip", {}, "contrasts one; set text.form"),
    ("hlip", {}, "contrasts one; set text.form"),
    ("hlip", {"text": dict(form="report_and_sentence", max_items=2)},
     "wants 2; set it so"),
    ("hlip", {"text": ONE_TEXT, "vision": dict(class_tokens=2)},
     "wants 1; set it so"),
    ("flair", {"joint": dict(pooling="similarity")},
     "set it to 'item_attention'"),
    ("llip", {}, "vision.mixture_tokens=0")])
def test_settings_that_do_not_fit_are_refused(name, settings, message):
  config = schema.Config(objective=name, **{
      section: dataclasses.replace(getattr(schema.Config(), section), **values)
      for section, values in settings.items()})
  with pytest.raises(UserError, match=message):
    objectives.make(config)


@pytest.mark.parametrize("name, text, vision", [
    ("clip", ONE_TEXT, {}), ("siglip", ONE_TEXT, {}),
    ("multi_positive", {}, {}), ("dreamlip", {}, {}), ("flair", {}, {}),
    ("llip", ONE_TEXT, dict(tower="vit", mixture_tokens=4)),
    ("hlip", ONE_TEXT, {}),
    ("hlip", dict(form="report_and_sentence", max_items=2),
     dict(class_tokens=2))])
def test_settings_reach_the_objective(name, text, vision):
  picture = dict(series_embedding="none", study_blocks=(), patch=(3, 16, 16),
                 volume_shape=(3, 32, 32)) if vision.get("tower") else {}
  config = schema.Config(
      objective=name, text=schema.Text(**text),
      vision=schema.Vision(**vision, **picture), data=schema.Data(max_series=1),
      loss=schema.Loss(normal_check=False, block=3, groups=2),
      baselines=Baselines(grouping_sigma=0.25, flair_mps_weight=0.4))
  made = objectives.make(config)
  assert type(made).__module__.endswith(f".{name}")
  expected = {"multi_positive": dict(normal_check=False),
              "dreamlip": dict(settings=config.baselines),
              "hlip": dict(settings=config.baselines),
              "flair": dict(settings=config.baselines, block=3, groups=2),
              "llip": dict(block=3, groups=2)}.get(name, {})
  assert {k: getattr(made, k) for k in expected} == expected
  if name == "llip":
    assert made.settings.flair_mps_weight == 0
