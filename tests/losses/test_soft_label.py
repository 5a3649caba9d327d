"""MedFILIP's targets and losses: by hand, with padding, on many devices."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
import pytest
from scipy import special

from itemclip_jax.losses import soft_label
from itemclip_jax.parallel.mesh import make_mesh

B, K, V = 8, 3, 5
TERMS = {"paper_fixed": soft_label.paper_terms, "code": soft_label.code_terms}
SCALE = np.float32(5.0)


def inputs(seed=0) -> dict:
  """Study 3 has no label; vectors are of unit norm."""
  rng = np.random.default_rng(seed)
  count = np.array([3, 1, 2, 0, 3, 2, 1, 2])
  vectors = rng.normal(size=(B, K, V)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  return {"mask": np.arange(K) < count[:, None], "vectors": vectors,
          "category": rng.integers(0, 3, (B, K)).astype(np.int32),
          "cosine": rng.uniform(-1, 1, (B, B * K)).astype(np.float32)}


def soft(x, same=True):
  return soft_label.soft_targets(x["mask"], x["vectors"],
                                 x["category"] if same else None)


def total(x, loss, same=True, cosine=None):
  cosine = x["cosine"] if cosine is None else cosine
  return sum(TERMS[loss](cosine, soft(x, same), x["mask"], SCALE).values())


def test_the_maximum_over_own_labels_by_hand():
  """2 images, 3 labels: the first has two, the second one and padding."""
  angle = np.deg2rad([[0.0, 90.0], [60.0, 7.0]])
  x = dict(vectors=np.stack([np.cos(angle), np.sin(angle)], -1),
           mask=np.array([[True, True], [True, False]]))
  across = soft_label.soft_targets(**x)
  third = np.cos(np.deg2rad(30))      # of 60 degrees, nearer to 90 than to 0
  np.testing.assert_allclose(across, [[1, 1, third, 0], [0.5, third, 1, 0]],
                             atol=1e-6)
  # Label 60 degrees is of the category of label 0 degrees: 90 counts no more.
  same = soft_label.soft_targets(
      **x, category=np.array([[4, 5], [4, -1]]))
  np.testing.assert_allclose(same, [[1, 1, 0.5, 0], [0.5, 0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("same", [True, False])
def test_targets_lie_within_0_and_1_and_are_1_of_own_labels(same):
  x = inputs()
  s = np.asarray(soft(x, same))
  assert (0 <= s).all() and (s <= 1).all()
  for i in range(B):
    own = s[i, i * K:(i + 1) * K]
    np.testing.assert_allclose(own, x["mask"][i], atol=1e-6)
  np.testing.assert_array_equal(s[3], 0)
  np.testing.assert_array_equal(s[:, ~x["mask"].ravel()], 0)


def test_hard_targets_are_equal_labels_or_ones_own():
  mask = np.array([[True, True], [True, False]])
  label = np.array([[7, 8], [8, 8]])
  np.testing.assert_array_equal(soft_label.hard_targets(mask, label),
                                [[1, 1, 1, 0], [0, 1, 1, 0]])
  np.testing.assert_array_equal(soft_label.hard_targets(mask),
                                [[1, 1, 0, 0], [0, 0, 1, 0]])


def test_losses_by_hand():
  """In float64 and plain loops; scipy has the logarithms."""
  x = inputs()
  s, mask = np.asarray(soft(x), float), x["mask"]
  y, real = x["cosine"].astype(float), np.flatnonzero(mask)
  images = np.flatnonzero(mask.any(1))
  logits = SCALE * y
  mse = ce = code = bce = 0.0
  for i in images:
    share = s[i, real] / s[i, real].sum()
    ce -= share @ special.log_softmax(logits[i, real]) / len(images)
    mse += ((y[i, real] - s[i, real])**2).sum()
    code += ((logits[i, real] - s[i, real])**2).sum()
    p = special.expit(logits[i, real])
    bce -= (s[i, real] * np.log(p) + (1 - s[i, real]) * np.log1p(-p)).sum()
  pairs = len(images) * len(real)
  for loss, wanted in (("paper_fixed", {"mse": mse / pairs, "ce": ce}),
                       ("code", {"mse": code / pairs, "bce": bce / pairs})):
    got = TERMS[loss](x["cosine"], soft(x), mask, SCALE)
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
      np.testing.assert_allclose(got[name], value, rtol=1e-5)  # float32 sums


@pytest.mark.parametrize("loss", TERMS)
def test_padding_is_no_part_of_value_divisor_or_gradient(loss):
  """As without it: the same labels, one after another, in fewer slots."""
  x = inputs()
  gradient = jax.grad(lambda c, x: total(x, loss, cosine=c))
  poisoned = x | {
      "vectors": np.where(x["mask"][..., None], x["vectors"], np.nan),
      "cosine": np.where(_real(x["mask"]), x["cosine"], 1e30)}
  np.testing.assert_allclose(total(poisoned, loss), total(x, loss), rtol=1e-6)
  got = np.asarray(gradient(poisoned["cosine"], poisoned))
  np.testing.assert_allclose(got, gradient(x["cosine"], x), atol=1e-7)
  np.testing.assert_array_equal(got[~_real(x["mask"])], 0)
  assert (got[_real(x["mask"])] != 0).all()

  wider = {k: np.pad(v, [(0, 2), (0, 1)] + [(0, 0)] * (v.ndim - 2))
           for k, v in x.items() if k != "cosine"}
  place = np.flatnonzero(np.pad(np.ones((B, K), bool), [(0, 2), (0, 1)]))
  wider["cosine"] = np.full((B + 2, (B + 2) * (K + 1)), 9.0, np.float32)
  wider["cosine"][np.ix_(range(B), place)] = x["cosine"]
  np.testing.assert_allclose(total(wider, loss), total(x, loss), rtol=1e-6)


def _real(mask):
  return mask.any(1)[:, None] & mask.ravel()


@pytest.mark.parametrize("loss", TERMS)
def test_without_any_label_the_loss_is_zero(loss):
  x = inputs() | {"mask": np.zeros((B, K), bool)}
  value, grad = jax.value_and_grad(
      lambda c: total(x, loss, cosine=c))(x["cosine"])
  assert value == 0
  np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("loss", TERMS)
def test_the_order_of_the_batch_changes_nothing(loss):
  x, order = inputs(), np.random.default_rng(1).permutation(B)
  moved = {k: v[order] for k, v in x.items()}
  columns = moved["cosine"].reshape(B, B, K)[:, order]
  moved["cosine"] = columns.reshape(B, B * K)
  np.testing.assert_allclose(total(moved, loss), total(x, loss), rtol=1e-5)


def test_the_number_of_labels_compiles_nothing_anew():
  traced = []

  @jax.jit
  def loss(x):
    traced.append(1)
    return total(x, "paper_fixed")

  x, rng = inputs(), np.random.default_rng(2)
  values = {float(loss(x | {"mask": rng.random((B, K)) < p}))
            for p in (0.2, 0.5, 0.9)}
  assert len(values) == 3 and len(traced) == 1


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize("data, fsdp", [(8, 1), (2, 4)])
def test_sharded_equals_unsharded(loss, data, fsdp):
  x = {k: jnp.asarray(v) for k, v in inputs().items()}
  layout = NamedSharding(make_mesh(data, fsdp, jax.devices()[:8]),
                         P(("data", "fsdp")))
  step = jax.jit(jax.value_and_grad(
      lambda c, x: total(x, loss, cosine=c)))
  put = jax.tree.map(lambda a: jax.device_put(a, layout), x)
  ours, theirs = step(put["cosine"], put), step(x["cosine"], x)
  np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
  np.testing.assert_allclose(ours[1], theirs[1], atol=1e-7)
