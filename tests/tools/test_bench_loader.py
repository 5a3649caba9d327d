"""The loader's benchmark measures what it says."""

import dataclasses

import numpy as np
import pytest

from itemclip_jax.tools.benchmarks import loader

SIZES = loader.Sizes(volumes=6, shape=(8, 32, 32), stored=(9, 30, 40), batch=3,
                     prefetch=2, passes=1)


@pytest.fixture(name="told", scope="module")
def _told(tmp_path_factory):
  told = {"folder": str(tmp_path_factory.mktemp("bench")),
          "sizes": dataclasses.asdict(SIZES)}
  loader.write(**told)
  return told


def test_ours_ships_half_the_bytes_of_the_published_way(told):
  ours, published = loader.ours(**told), loader.published(**told)
  assert ours["batch_bytes"] == 3 * 8 * 32 * 32 * 2
  assert published["batch_bytes"] == 2 * ours["batch_bytes"]
  assert published["bytes_per_volume"] == 9 * 30 * 40 * 4 + 128  # with a header
  for way in (ours, published):
    assert way["per_core"] > 0 and way["volumes_per_s"] > 0


def test_plain_reads_are_of_the_same_bytes_as_ours(told):
  ours, plain = loader.ours(**told), loader.plain_read(**told)
  assert plain["bytes_per_volume"] == ours["bytes_per_volume"]
  assert ours["bytes_per_volume"] > 9 * 30 * 40 * 2


def test_the_published_way_pads_and_cuts_anywhere():
  rng = np.random.default_rng(0)
  x = np.arange(1, 13, dtype=float).reshape(1, 3, 4)
  seen = {loader.fitted(x, (2, 3, 3), rng).tobytes() for _ in range(100)}
  assert len(seen) == 2 * 1 * 2
  fitted = loader.fitted(x, (2, 3, 4), rng)
  np.testing.assert_array_equal(fitted.sum(0), x[0])
