"""Organ-wise contrast: by hand, by plain loops, and what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses import organ

B, R, E, T = 6, 3, 5, 4
SAME = dict(normal_pairs="same", equal_texts="same")


def features(seed=0):
  """(image, text, normal, texts, present) of random samples.

  Organ 0 has four samples, organ 1 normal ones only, organ 2 a single one.
  """
  rng = np.random.default_rng(seed)
  image, text = rng.normal(size=(2, B, R, E)).astype(np.float32)
  normal = rng.random((B, R)) < 0.4
  normal[:3, 0] = [False, True, True]
  normal[:, 1] = True
  normal[5, 2] = False
  texts = rng.integers(1, 99, (B, R, T))
  texts[4, 0] = texts[0, 0]
  present = np.zeros((B, R), bool)
  present[[0, 1, 2, 4], 0] = True
  present[:4, 1] = True
  present[5, 2] = True
  return image, text, normal, texts, present


def run(image, text, normal, texts, present, *, organs="abnormal", scale=5.0,
        peer=None, alpha=1.0, **same):
  """The terms, with the steps in the order of the objective."""
  logits = organ.organ_logits(image, text, jnp.asarray(present), scale)
  found = organ.same_samples(jnp.asarray(normal), jnp.asarray(texts),
                             **(SAME | same))
  hard = organ.hard_targets(logits.pair, found)
  counted = organ.counted_organs(hard, logits.pair, jnp.asarray(normal), organs)
  targets = hard, hard
  if peer is not None:
    theirs = organ.organ_logits(*peer, jnp.asarray(present), scale)
    targets = (organ.soften(hard, theirs.image, alpha),
               organ.soften(hard, theirs.text, alpha))
  return organ.organ_terms(logits, targets, counted)


def total(*args, **options):
  terms = run(*args, **options)
  return jnp.sum(terms.image_to_text + terms.text_to_image)


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def plain(image, text, normal, texts, present, *, organs="abnormal", scale=5.0,
          normal_pairs="same", equal_texts="same", peer=None, alpha=1.0):
  """Ragged and in float64: only the samples that are there."""
  value = 0.0
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  for r in range(R):
    s = np.flatnonzero(present[:, r])
    y = np.eye(len(s))
    for a, i in enumerate(s):
      for b, k in enumerate(s):
        if normal_pairs == "same" and normal[i, r] and normal[k, r]:
          y[a, b] = 1
        if equal_texts == "same" and (texts[i, r] == texts[k, r]).all():
          y[a, b] = 1
    if organs == "abnormal" and (normal[s, r].all() or y.all()):
      continue
    y = y / y.sum(1, keepdims=True)
    logits = lambda v, t: scale * (
        unit(v[s, r].astype(float)) @ unit(t[s, r].astype(float)).T)
    own = logits(image, text)
    theirs = own if peer is None else logits(*peer)
    for mine, other in ((own, theirs), (own.T, theirs.T)):
      target = alpha * y + (1 - alpha) * softmax(other)
      value -= (target * np.log(softmax(mine))).sum() / len(s) / 2
  return value


def test_targets_by_hand():
  """Two normals share 0.5 and 0.5, abnormal ones of equal texts as well."""
  normal = np.array([[True], [False], [True], [False], [False]])
  texts = np.array([[[1]], [[2]], [[3]], [[2]], [[4]]])
  pair = np.ones((1, 5, 5), bool)

  def targets(**same):
    found = organ.same_samples(jnp.asarray(normal), jnp.asarray(texts), **same)
    return organ.hard_targets(pair, found)[0]

  np.testing.assert_array_equal(targets(**SAME), [
      [0.5, 0, 0.5, 0, 0], [0, 0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0, 0],
      [0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1]])
  np.testing.assert_array_equal(
      targets(normal_pairs="different", equal_texts="same"),
      [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 1, 0, 0],
       [0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 1]])
  np.testing.assert_array_equal(
      targets(normal_pairs="different", equal_texts="different"), np.eye(5))


def test_loss_by_hand():
  """Two abnormal samples, orthogonal vectors, temperature 1 / ln 3.

  Each own pair has logit ln 3, the other 0: the softmax is 3/4 and 1/4, so each
  of the two directions gives -ln(3/4) and half of it counts.
  """
  eye = np.eye(2, dtype=np.float32)[:, None]
  terms = run(eye, 7 * eye, np.zeros((2, 1), bool), np.arange(2)[:, None, None],
              np.ones((2, 1), bool), scale=np.log(3))
  for half in (terms.image_to_text, terms.text_to_image):
    np.testing.assert_allclose(half, [np.log(4 / 3) / 2], rtol=1e-6)


@pytest.mark.parametrize("options", [
    {}, {"normal_pairs": "different"}, {"equal_texts": "different"},
    {"organs": "all"},
    {"organs": "all", "normal_pairs": "different", "equal_texts": "different"},
    {"alpha": 0.5}, {"alpha": 0.5, "organs": "all"}])
def test_agrees_with_plain_loops_over_those_that_are_there(options):
  for seed in range(3):
    x = features(seed)
    more = {"peer": features(seed + 9)[:2]} if "alpha" in options else {}
    np.testing.assert_allclose(total(*x, **options, **more),
                               plain(*x, **options, **more), rtol=1e-5)


def test_only_organs_with_something_to_tell_count():
  """Organ 1 is normal everywhere, organ 2 has one sample."""
  np.testing.assert_array_equal(run(*features()).counted, [True, False, False])
  np.testing.assert_array_equal(run(*features(), organs="all").counted,
                                [True, True, True])
  terms = run(*features(), organs="all")
  assert terms.image_to_text[1] > 0 and terms.image_to_text[2] == 0


def test_abnormal_samples_that_are_cut_do_not_make_an_organ_count():
  image, text, normal, texts, present = features()
  normal = normal.copy()
  normal[5, 1] = False         # not intact there
  counted = lambda present: run(image, text, normal, texts, present,
                                normal_pairs="different").counted[1]
  assert not counted(present)
  present = present.copy()
  present[5, 1] = True
  assert counted(present)


def test_all_samples_normal_is_nothing_and_has_no_gradient():
  image, text, normal, texts, present = features()
  value, grad = jax.value_and_grad(total)(
      image, text, np.ones_like(normal), texts, present)
  assert value == 0
  np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize("organs", ["abnormal", "all"])
def test_no_sample_at_all_is_nothing(organs):
  image, text, normal, texts, present = features()
  value, grad = jax.value_and_grad(total)(
      image, text, normal, texts, np.zeros_like(present), organs=organs)
  assert value == 0
  np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize("organs", ["abnormal", "all"])
@pytest.mark.parametrize("poison", [0.0, 1e30, np.nan])
def test_what_is_not_there_touches_no_value_and_no_gradient(organs, poison):
  image, text, normal, texts, present = features()
  peer = features(9)[:2]
  f = jax.jit(jax.value_and_grad(
      lambda image, text, peer: total(
          image, text, normal, texts, present, organs=organs, peer=peer,
          alpha=0.5), (0, 1)))
  fill = lambda x: np.where(present[..., None], x, np.float32(poison))
  wanted, ours = f(image, text, peer), f(
      fill(image), fill(text), tuple(map(fill, peer)))
  jax.tree.map(np.testing.assert_array_equal, ours, wanted)
  for grad in ours[1]:
    np.testing.assert_array_equal(np.asarray(grad)[~present], 0.0)
    assert np.abs(np.asarray(grad)[present[:, 0], 0]).min() > 0


def test_order_of_the_batch_does_not_matter():
  order = np.random.default_rng(1).permutation(B)
  x = features()
  ours = run(*(v[order] for v in x), organs="all")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
               ours, run(*x, organs="all"))


def test_alpha_one_equals_hard_targets_and_the_peer_has_no_gradient():
  x, peer = features(), features(9)[:2]
  assert total(*x, peer=peer, alpha=1.0) == total(*x)
  assert abs(total(*x, peer=peer, alpha=0.5) - total(*x)) > 1e-3
  grads = jax.grad(lambda peer: total(*x, peer=peer, alpha=0.5))(peer)
  for grad in grads:
    np.testing.assert_array_equal(grad, 0.0)


def test_a_model_that_agrees_with_its_peer_only_feels_the_hard_targets():
  """With alpha 0 and the peer itself, entropy has its least: no gradient."""
  x = features()
  grad = jax.grad(lambda v: total(v, *x[1:], peer=x[:2], alpha=0.0))(x[0])
  np.testing.assert_allclose(grad, 0.0, atol=1e-6)


def test_normal_pairs_matter_only_where_normal_texts_differ():
  # Texts that say the same in the same words: whichever is the positive one,
  # all of them together pull as much.
  image, text, normal, texts, present = features()
  alike = np.where(normal[..., None], text[:1], text)

  def change(text):
    gradient = lambda pairs: jax.grad(lambda image: total(
        image, text, normal, texts, present, organs="all", normal_pairs=pairs,
        equal_texts="different"))(image)
    return np.abs(gradient("same") - gradient("different")).max()

  assert change(alike) < 1e-5 < 0.1 < change(text)
