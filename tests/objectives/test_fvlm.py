"""fVLM's objective: whole steps of batches, on hand-made outputs."""

import math

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.parallel.mesh import make_mesh

B, R, E, T = 8, 3, 6, 4
KEY = jax.random.key(0)


def objective(**settings):
  raw = schema.defaults()
  raw.objective = "fvlm"
  raw.text.update(form="organs", max_items=R)
  raw.joint.organs = R
  raw.fvlm.update(settings)
  return objectives.make(schema.from_config_dict(raw))


def outputs(seed=0) -> Outputs:
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  intact = np.random.default_rng(1).random((B, R)) < 0.8
  return Outputs(
      image=draw(B, E), tokens=draw(B, 2, E), token_mask=np.ones((B, 2), bool),
      items=draw(B, R, E), organs=draw(B, R, E), organ_intact=intact,
      logit_scale=np.float32(4.0), logit_bias=np.float32(0.0))


def batch() -> dict:
  """The last two rows are padding."""
  rng = np.random.default_rng(2)
  return {"volume": np.ones((B, 1, 2, 2, 2), np.float32),
          "item_tokens": rng.integers(1, 9, (B, R, T)),
          "item_mask": np.ones((B, R), bool),
          "organ_normal": rng.random((B, R)) < 0.5,
          "example_mask": np.arange(B) < B - 2}


def loss(out, x, step=0, **settings):
  return objective(**settings).loss((out,), {}, x, step=step, rng=KEY)


def rows(tree, index):
  """Of every array with one row a study."""
  return jax.tree.map(lambda v: v[index] if np.ndim(v) else v, tree)


def test_padded_examples_change_nothing():
  wanted, metrics = loss(rows(outputs(), slice(B - 2)),
                         rows(batch(), slice(B - 2)))
  padded, more = loss(outputs(), batch())
  np.testing.assert_allclose(padded, wanted, rtol=1e-6)
  assert metrics.keys() == more.keys() and metrics["organs/counted"] == R
  np.testing.assert_allclose(more["organs/intact"], metrics["organs/intact"])


def test_poisoned_padding_leaks_into_no_gradient():
  x, clean = batch(), outputs()
  real = x["example_mask"][:, None]
  fill = lambda v: np.where(real[..., None], v, np.float32(np.nan))
  dirty = clean.replace(organs=fill(clean.organs), items=fill(clean.items),
                        organ_intact=clean.organ_intact | ~real)
  grad = jax.jit(jax.grad(lambda a, t, out: loss(
      out.replace(organs=a, items=t), x)[0], (0, 1)))
  ours, wanted = (grad(o.organs, o.items, o) for o in (dirty, clean))
  jax.tree.map(np.testing.assert_array_equal, ours, wanted)
  assert np.abs(wanted[0][:B - 2]).max() > 0


def test_views_hide_the_volume_of_padded_examples():
  x = batch() | {"volume": np.full((B, 1, 2, 2, 2), np.nan, np.float32)}
  (view,) = objective().views(x, step=0, rng=KEY)
  np.testing.assert_array_equal(view["volume"][-2:], 0.0)
  assert np.isnan(view["volume"][:-2]).all()


def test_parts_add_up_and_settings_reach_the_loss():
  x, out = batch(), outputs().replace(organ_intact=np.ones((B, R), bool))
  x["item_tokens"][1, 0] = x["item_tokens"][0, 0]
  x["organ_normal"][:2, 0] = False
  x["organ_normal"][:, 2] = True
  total, metrics = loss(out, x)
  np.testing.assert_allclose(total, metrics["loss/image_to_text"]
                             + metrics["loss/text_to_image"])
  assert metrics["organs/counted"] == 2
  for settings in ({"normal_pairs": "different"}, {"equal_texts": "different"},
                   {"organs": "all"}):
    assert abs(loss(out, x, **settings)[0] - total) > 1e-3, settings


def test_organs_that_a_crop_cut_are_left_out():
  out = outputs()
  none = loss(out.replace(organ_intact=np.zeros((B, R), bool)), batch())
  assert none[0] == 0 and none[1]["organs/intact"] == 0
  every = loss(out.replace(organ_intact=np.ones((B, R), bool)), batch())
  assert every[1]["organs/intact"] == 1 and every[0] > loss(out, batch())[0]


def test_the_peer_softens_targets_once_the_burn_in_is_over():
  x = batch() | {"peer": (outputs(5),)}
  settings = dict(co_teaching="on", burn_in_steps=10)
  hard = loss(outputs(), batch())[0]
  at = lambda step, **more: loss(outputs(), x, step, **settings | more)[0]
  assert at(9) == hard == at(10, alpha=1.0)
  assert abs(at(10) - hard) > 1e-3
  # A batch of validation has no peer.
  assert loss(outputs(), batch(), 10, **settings)[0] == hard


def test_a_peer_that_agrees_softens_both_directions():
  """With alpha 0 and itself as peer entropy has its least: no gradient."""
  x = batch() | {"peer": (outputs(),)}
  grad = jax.grad(lambda organs, alpha: loss(
      outputs().replace(organs=organs), x, co_teaching="on", alpha=alpha)[0])
  np.testing.assert_allclose(grad(outputs().organs, 0.0), 0.0, atol=1e-6)
  assert np.abs(grad(outputs().organs, 0.5)).max() > 1e-3


def test_the_peer_has_its_own_temperature_and_no_gradient():
  def f(peer):
    x = batch() | {"peer": (peer,)}
    return loss(outputs(), x, 1, co_teaching="on")[0]
  peer = outputs(5)
  warm = peer.replace(logit_scale=np.float32(0.1))
  assert abs(f(peer) - f(warm)) > 1e-3
  grads = jax.grad(lambda organs, scale: f(peer.replace(
      organs=organs, logit_scale=scale)), (0, 1))(
          peer.organs, peer.logit_scale)
  for grad in grads:
    np.testing.assert_array_equal(grad, 0.0)


def test_two_models_are_made_for_co_teaching_only():
  alone, pair = objective(), objective(co_teaching="on")
  assert (alone.models, pair.models) == (1, 2)
  assert alone.init_extra(str) == {} and pair.init_extra(str) == {"peer": "1"}


def test_range_of_the_scale_is_that_of_the_temperature():
  np.testing.assert_allclose(objective().log_scale_range,
                             (math.log(2), math.log(1000)))


@pytest.mark.parametrize("data, fsdp", [(8, 1), (2, 4)])
def test_sharded_equals_unsharded(data, fsdp):
  mesh = make_mesh(data, fsdp, jax.devices()[:data * fsdp])
  put = lambda v: jax.device_put(v, NamedSharding(
      mesh, P(("data", "fsdp")) if np.ndim(v) else P()))

  @jax.jit
  def f(organs, out, x):
    g = lambda organs: loss(out.replace(organs=organs), x, 1,
                            co_teaching="on")[0]
    return jax.value_and_grad(g)(organs)

  out, x = outputs(), batch() | {"peer": (outputs(5),)}
  wanted = f(out.organs, out, x)
  ours = f(*jax.tree.map(put, (out.organs, out, x)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-7), ours, wanted)


def test_mismatches_are_told():
  with pytest.raises(ValueError, match="describes 2 organs, the model has 3"):
    loss(outputs(), batch() | {"organ_normal": np.ones((B, 2), bool)})
  for section, changes in (("text", {"form": "items"}),
                           ("joint", {"organs": 0})):
    raw = schema.defaults()
    raw.objective = "fvlm"
    raw.text.form, raw.joint.organs = "organs", R
    raw[section].update(changes)
    with pytest.raises(ValueError, match="objective='fvlm' contrasts organs"):
      objectives.make(schema.from_config_dict(raw))
