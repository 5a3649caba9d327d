"""Which items are drawn as negatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.losses import negatives

COUNTS = jnp.array([3, 1, 0, 2, 3, 2])
K = 3
MASK = jnp.arange(K) < COUNTS[:, None]
NONE = jnp.zeros((6, 6), bool)


def test_draws_are_real_items_and_all_of_them_occur():
  draw = jax.vmap(lambda key: negatives.draw_offsets(key, COUNTS))
  offsets = np.asarray(draw(jax.random.split(jax.random.key(0), 200)))
  assert (offsets >= 0).all()
  for j, count in enumerate(np.asarray(COUNTS)):
    seen = np.unique(offsets[:, :, j])
    np.testing.assert_array_equal(seen, np.arange(max(count, 1)))


def test_every_other_study_gives_one_item():
  offsets = negatives.draw_offsets(jax.random.key(1), COUNTS)
  found = negatives.exchange(
      negatives.lists(offsets, max_items=K), MASK, NONE)
  study = np.asarray(found.index) // K
  for i in range(6):
    own = np.asarray(found.sign[i]) > 0
    np.testing.assert_array_equal(study[i][own], i)
    np.testing.assert_array_equal(np.sort(study[i][~own]),
                                  [j for j in range(6) if j != i])


def test_a_study_without_items_is_never_a_negative_and_has_no_positive():
  offsets = negatives.draw_offsets(jax.random.key(1), COUNTS)
  found = negatives.exchange(
      negatives.lists(offsets, max_items=K), MASK, NONE)
  empty = np.asarray(found.index) // K == 2
  assert not np.asarray(found.weight)[empty].any()


def test_two_normal_studies_are_no_negatives_of_each_other():
  normal = jnp.array([True, False, False, True, False, True])
  every = jnp.ones(6, bool)
  excluded = np.asarray(negatives.no_negatives(normal, every, True))
  assert excluded[0, 3] and excluded[5, 0] and not excluded[0, 0]
  assert not excluded[0, 1] and excluded.sum() == 6
  assert not np.asarray(negatives.no_negatives(normal, every, False)).any()


def test_a_padded_example_is_contrasted_with_nobody():
  real = jnp.arange(6) != 4
  excluded = np.asarray(negatives.no_negatives(jnp.zeros(6, bool), real, True))
  padded = np.arange(6) == 4
  np.testing.assert_array_equal(excluded[4], ~padded)
  np.testing.assert_array_equal(excluded[:, 4], ~padded)
  assert excluded.sum() == 10
  offsets = negatives.draw_offsets(jax.random.key(1), COUNTS)
  found = negatives.exchange(
      negatives.lists(offsets, max_items=K), MASK & real[:, None], excluded)
  assert not np.asarray(found.weight)[4].any()
  assert not np.asarray(found.weight)[np.asarray(found.index) // K == 4].any()


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_number_of_candidates(groups):
  offsets = negatives.draw_offsets(jax.random.key(1), COUNTS)
  found = negatives.exchange(
      negatives.lists(offsets, max_items=K, groups=groups), MASK, NONE,
      groups=groups)
  assert found.index.shape == (6, groups * (K + 6 // groups - 1))
  # Each image's own slots stand in its list once.
  np.testing.assert_array_equal((np.asarray(found.sign) > 0).sum(1), K)


def test_groups_contrast_the_row_of_other_ranks_with_all_its_items():
  offsets = negatives.draw_offsets(jax.random.key(1), COUNTS)
  found = negatives.exchange(
      negatives.lists(offsets, max_items=K, groups=2), MASK, NONE, groups=2)
  study = np.asarray(found.index) // K
  real = np.asarray(found.weight)
  # Image 0 (rank 0, row 0) meets all items of image 3 (rank 1, row 0).
  assert (real[0] & (study[0] == 3)).sum() == int(COUNTS[3])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_keep_rate_and_independence_of_blocks(rate):
  keep = negatives.keep_function(jax.random.key(0), rate, num_heads=4,
                                 num_tokens=200)
  bits = np.asarray(keep(jnp.arange(5), 0, 30))
  assert abs(bits.mean() - (1 - rate)) < 0.01  # 120 000 draws, 7 sigma
  np.testing.assert_array_equal(keep(jnp.array([3, 1]), 7, 10),
                                bits[[3, 1], :, 7:17])


def test_keep_bits_are_not_correlated_between_axes():
  bits = np.asarray(negatives.keep_function(
      jax.random.key(0), 0.5, num_heads=4, num_tokens=256)(
          jnp.arange(8), 0, 32))
  signs = 2.0 * bits - 1
  for axis in range(4):
    a = np.take(signs, range(signs.shape[axis] - 1), axis)
    b = np.take(signs, range(1, signs.shape[axis]), axis)
    assert abs((a * b).mean()) < 0.01  # about 250 000 products, 5 sigma
