"""The same records, however they lie in their shards."""

import numpy as np
import pytest

from data_pipelines import shards
from itemclip_jax.data import record
from tests.data_pipelines import fake_set


@pytest.fixture(name="studies")
def _studies():
  """A soft one, which can be packed."""
  volume = np.tile(np.arange(8, dtype=np.uint8), (1, 4, 8, 32))
  return [fake_set.study(name, volume=volume) for name in "ab"]


def _shard(root):
  (path,) = root.rglob("*.array_record*")
  return path.read_bytes()


def test_uncompressed_voxels_lie_in_the_file_as_they_are(tmp_path, studies):
  voxels = studies[0]["volume"].tobytes()
  for name, found in (("none", True), ("zstd", False)):
    with shards.written(name):
      root = fake_set.build(tmp_path / name, train=studies)
    assert (voxels in _shard(root)) == found


def test_records_do_not_depend_on_the_compression(tmp_path, studies):
  sources = []
  for name in shards.COMPRESSION:
    with shards.written(name):
      root = fake_set.build(tmp_path / name, train=studies)
    sources.append(record.Source(root / "fake/1.0.0", "train"))
  for i in range(len(studies)):
    ours, theirs = (source[i] for source in sources)
    for key in ours:
      np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_tfds_writes_as_before_afterwards(tmp_path, studies):
  before = _shard(fake_set.build(tmp_path / "before", train=studies[:1]))
  with shards.written("none"):
    pass
  after = _shard(fake_set.build(tmp_path / "after", train=studies[:1]))
  assert len(before) == len(after)
