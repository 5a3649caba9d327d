"""MedFILIP's objective: settings to losses, whole batches, what is refused."""

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.errors import UserError
from itemclip_jax.losses import soft_label
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.parallel.mesh import make_mesh

B, K, E, V = 8, 3, 6, 5
KEY = jax.random.key(0)
VARIANTS = [{}, {"loss": "code"}, {"same_category_only": "no"},
            {"targets": "hard"}]


def objective(form="triplets", **settings):
  raw = schema.defaults()
  raw.objective = "medfilip"
  raw.text.form = form
  raw.text.max_items = 1 if form == "report" else K
  raw.medfilip.update(settings)
  return objectives.make(schema.from_config_dict(raw))


def outputs(seed=0) -> Outputs:
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return Outputs(
      image=draw(B, E), tokens=draw(B, 2, E), token_mask=np.ones((B, 2), bool),
      items=draw(B, K, E), logit_scale=np.float32(4.0),
      logit_bias=np.float32(0.0))


def batch() -> dict:
  """The last two rows are padding; study 2 has no label."""
  rng = np.random.default_rng(2)
  vectors = rng.normal(size=(B, K, V)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  count = np.array([3, 2, 0, 1, 2, 3, 1, 2])
  return {"item_mask": np.arange(K) < count[:, None], "item_vector": vectors,
          "item_category": rng.integers(0, 3, (B, K)).astype(np.int32),
          "item_label": rng.integers(0, 6, (B, K)).astype(np.int32),
          "example_mask": np.arange(B) < B - 2}


def loss(out, x, form="triplets", **settings):
  return objective(form, **settings).loss((out,), {}, x, step=0, rng=KEY)


def rows(tree, index):
  return jax.tree.map(lambda v: v[index] if np.ndim(v) else v, tree)


@pytest.mark.parametrize("settings, extra", [
    ({}, ("item_vector", "item_category")),
    ({"same_category_only": "no"}, ("item_vector",)),
    ({"targets": "hard"}, ("item_label",)),
    ({"targets": "hard", "form": "report"}, ())])
def test_it_requires_what_its_targets_read(settings, extra):
  which = objective(**settings)
  base = ("volume", "series_mask", "series_names", "item_tokens", "item_mask")
  assert which.REQUIRES == base + extra
  form = settings.pop("form", "triplets")
  x = {k: v for k, v in batch().items() if k in which.REQUIRES}
  assert np.isfinite(loss(outputs(), x, form, **settings)[0])


def test_the_parts_are_those_of_the_losses():
  out, x = outputs(), batch()
  mask = x["item_mask"] & x["example_mask"][:, None]
  unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  cosine = np.einsum("be,cke->bck", unit(out.image), unit(out.items))
  s = soft_label.soft_targets(mask, x["item_vector"], x["item_category"])
  for name, terms in (("paper_fixed", soft_label.paper_terms),
                      ("code", soft_label.code_terms)):
    wanted = terms(cosine.reshape(B, B * K), s, mask, out.logit_scale)
    total, metrics = loss(out, x, loss=name)
    np.testing.assert_allclose(total, sum(wanted.values()), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/total"], total)
    for part, value in wanted.items():
      np.testing.assert_allclose(metrics[f"loss/{part}"], value, rtol=1e-5)


def test_of_a_report_only_its_own_is_a_match():
  """The first row of the ablation: one text an image, softmax over the batch.

  With one label each and the identity as targets the cross-entropy is that of
  CLIP from images to texts."""
  out, x = outputs(), batch()
  x = {"item_mask": np.ones((B, 1), bool)}
  out = out.replace(items=out.items[:, :1])
  unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)
  cosine = unit(out.image) @ unit(out.items[:, 0]).T
  nll = -np.diag(jax.nn.log_softmax(out.logit_scale * cosine))
  _, metrics = loss(out, x, "report", targets="hard")
  np.testing.assert_allclose(metrics["loss/ce"], nll.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["loss/mse"],
                             ((cosine - np.eye(B))**2).mean(), rtol=1e-5)


@pytest.mark.parametrize("settings", VARIANTS)
def test_padded_examples_and_studies_without_labels_change_nothing(settings):
  wanted, _ = loss(rows(outputs(), [0, 1, 3, 4, 5]),
                   rows(batch(), [0, 1, 3, 4, 5]), **settings)
  padded, _ = loss(outputs(), batch(), **settings)
  np.testing.assert_allclose(padded, wanted, rtol=1e-6)
  assert wanted > 0


@pytest.mark.parametrize("settings", VARIANTS)
def test_poisoned_padding_leaks_into_no_gradient(settings):
  x, clean = batch(), outputs()
  real = x["item_mask"] & x["example_mask"][:, None]
  nan = np.float32(np.nan)
  dirty = clean.replace(
      image=np.where(real.any(1)[:, None], clean.image, nan),
      items=np.where(real[..., None], clean.items, nan))
  worse = x | {"item_vector": np.where(real[..., None], x["item_vector"], nan)}
  grad = jax.jit(jax.value_and_grad(lambda i, t, out, x: loss(
      out.replace(image=i, items=t), x, **settings)[0], (0, 1)))
  (total, (image, items)), wanted = (
      grad(o.image, o.items, o, y) for o, y in ((dirty, worse), (clean, x)))
  jax.tree.map(np.testing.assert_array_equal, (total, (image, items)), wanted)
  assert (np.asarray(items)[~real] == 0).all()
  assert (np.abs(np.asarray(items)[real]).max(-1) > 0).all()
  assert (np.abs(np.asarray(image)[real.any(1)]).max(-1) > 0).all()


def test_sharded_equals_unsharded():
  mesh = make_mesh(8, 1, jax.devices()[:8])
  put = lambda tree: jax.tree.map(lambda a: jax.device_put(
      a, NamedSharding(mesh, P("data") if np.ndim(a) else P())), tree)
  out, x = outputs(), batch()
  step = jax.jit(jax.value_and_grad(
      lambda image, out, x: loss(out.replace(image=image), x)[0]))
  ours = step(put(out.image), put(out), put(x))
  theirs = step(out.image, out, x)
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
  np.testing.assert_allclose(ours[1], theirs[1], atol=1e-7)


def test_soft_targets_of_other_texts_are_refused():
  with pytest.raises(UserError, match="text.form='items', but medfilip.targets"
                     "='soft'"):
    objective("items")
