"""Mixtures on the sphere: where they lie, and the losses made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses import geodesic

M, E, SCALE = 5, 6, 4.0


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vectors(seed=0):
  rng = np.random.default_rng(seed)
  return [unit(rng.normal(size=(M, E))).astype(np.float32) for _ in range(2)]


def test_a_mixture_lies_on_the_arc():
  a, b = np.eye(2, dtype=np.float32)
  for lam, degrees in ((1, 0), (0.5, 45), (1 / 3, 60), (0, 90)):
    angle = np.radians(degrees)
    np.testing.assert_allclose(
        geodesic.geodesic_mix(a, b, jnp.float32(lam)),
        [np.cos(angle), np.sin(angle)], atol=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 1e-3, 2e-3, 1.0,
                                   np.pi - 2e-3, np.pi - 1e-3, np.pi - 1e-5,
                                   np.pi])
def test_it_stays_a_unit_vector_with_a_finite_gradient(angle, lam):
  a = jnp.array([1.0, 0.0, 0.0])
  b = jnp.array([np.cos(angle), np.sin(angle), 0.0], jnp.float32)
  mixed = geodesic.geodesic_mix(a, b, jnp.float32(lam))
  np.testing.assert_allclose(np.linalg.norm(mixed), 1, rtol=1e-5)
  grads = jax.jacobian(geodesic.geodesic_mix, (0, 1, 2))(a, b, jnp.float32(lam))
  assert all(np.isfinite(g).all() for g in grads)
  if angle < 1e-3:
    np.testing.assert_allclose(mixed, a, atol=1e-3)


def test_opposite_vectors_give_the_one_of_the_larger_share():
  a = jnp.array([0.6, 0.8])
  for lam, wanted in ((0.7, a), (0.5, a), (0.3, -a)):
    np.testing.assert_allclose(
        geodesic.geodesic_mix(a, -a, jnp.float32(lam)), wanted, rtol=1e-6)


def nll(logits, target):
  return np.log(np.exp(logits).sum()) - logits[target]


def test_m2_is_clips_loss_with_mixtures_as_negatives():
  image, text = vectors()
  lam, total = 0.3, 0.0
  cosine = (image * text).sum(-1)
  angle = np.arccos(cosine)[:, None]
  mixed = (np.sin(lam * angle) * image + np.sin((1 - lam) * angle) * text) / (
      np.sin(angle))
  for i in range(M):
    for anchor in (image[i], text[i]):
      logits = SCALE * mixed @ anchor
      logits[i] = SCALE * cosine[i]
      total += nll(logits, i) / 2 / M
  np.testing.assert_allclose(
      geodesic.m2_loss(image, text, jnp.ones(M, bool), jnp.float32(lam),
                       logit_scale=SCALE), total, rtol=1e-5)


def test_a_mixed_image_belongs_to_both_texts():
  image, text = vectors()
  partner, lam = np.array([1, 2, 3, 4, 0]), 0.3
  mix = lambda x: np.asarray(
      geodesic.geodesic_mix(x, x[partner], jnp.float32(lam)))
  wanted = 0.0
  for mixed, other in ((mix(image), text), (mix(text), image)):
    logits = SCALE * mixed @ other.T
    for i in range(M):
      wanted += (lam * nll(logits[i], i)
                 + (1 - lam) * nll(logits[i], partner[i])) / 2 / M
      # What lies in column i: its own mixture, and that it is partner of.
      owner = int(np.flatnonzero(partner == i)[0])
      wanted += (lam * nll(logits[:, i], i)
                 + (1 - lam) * nll(logits[:, i], owner)) / 2 / M
  got = geodesic.uni_modal_loss(image, text, jnp.ones(M, bool), partner,
                                jnp.float32(lam), logit_scale=SCALE)
  np.testing.assert_allclose(got, wanted, rtol=1e-5)


def both(image, text, mask, partner):
  scale = {"logit_scale": SCALE}
  return (geodesic.m2_loss(image, text, mask, 0.3, **scale)
          + geodesic.uni_modal_loss(image, text, mask, partner, 0.6, **scale))


def test_padding_never_leaks():
  image, text = vectors()
  mask = np.array([True, False, True, True, False])
  partner = np.array([2, 1, 3, 0, 4])
  real = lambda x: np.where(mask[:, None], x, 0)
  poisoned = lambda x: np.where(mask[:, None], x, np.roll(x, 1, 0))
  grad = jax.value_and_grad(both, (0, 1))
  wanted = grad(real(image), real(text), mask, partner)
  got = grad(poisoned(image), poisoned(text), mask, partner)
  jax.tree.map(np.testing.assert_array_equal, got, wanted)
  for g in got[1]:
    assert (g[~mask] == 0).all() and (np.abs(g[mask]).max(1) > 0).all()
  few = both(image[mask], text[mask], np.ones(3, bool), np.array([1, 2, 0]))
  np.testing.assert_allclose(got[0], few, rtol=1e-5)


def test_nothing_real_costs_nothing():
  image, text = (np.zeros((M, E), np.float32) for _ in range(2))
  none = np.zeros(M, bool)
  value, grads = jax.value_and_grad(both, (0, 1))(
      image, text, none, np.arange(M))
  assert value == 0 and all((g == 0).all() for g in grads)


def test_partners_are_other_real_rows():
  mask = np.array([True, False, True, True, True, False])
  met = set()
  for seed in range(30):
    partner = np.asarray(geodesic.partners(jax.random.key(seed), mask))
    assert (partner[mask] != np.flatnonzero(mask)).all()
    assert sorted(partner[mask]) == np.flatnonzero(mask).tolist()
    assert (partner[~mask] == np.flatnonzero(~mask)).all()
    met.add(int(partner[0]))
  assert met == {2, 3, 4}
  alone = np.array([False, True, False])
  assert geodesic.partners(jax.random.key(0), alone).tolist() == [0, 1, 2]
