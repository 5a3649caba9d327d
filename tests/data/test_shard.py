"""Large records are read by ArrayRecord once, then as they lie in the file."""

from array_record.python import array_record_data_source
from array_record.python import array_record_module
import numpy as np
import pytest

from itemclip_jax.data import shard
from itemclip_jax.data.stored import Place
from itemclip_jax.errors import UserError

UNCOMPRESSED = "group_size:1,uncompressed"
# Around one and several blocks of 64 KiB, and more than one call reads.
SIZES = (5, 2**20, 2**20 + 1, 65_512 * 17, 65_512 * 17 - 9, 300, 35 * 2**20)


class Counting:
  """A source that counts what was asked of it."""

  def __init__(self, path):
    self._source = array_record_data_source.ArrayRecordDataSource([str(path)])
    self.asked = 0

  def __len__(self):
    return len(self._source)

  def __getitem__(self, index):
    self.asked += 1
    return self._source[index]


def _write(path, records, options=UNCOMPRESSED):
  writer = array_record_module.ArrayRecordWriter(str(path), options)
  for record in records:
    writer.write(record)
  writer.close()
  return path


@pytest.fixture(name="written", scope="module")
def _written():
  rng = np.random.default_rng(0)
  return [rng.bytes(size) for size in SIZES]


def _records(path, first=0, count=len(SIZES)):
  source = Counting(path)
  return source, shard.Records(source, [(str(path), first, count)], len)


def _bytes(record):
  """Of a record of `Records`, wherever it is."""
  found, layout = record
  assert layout == (found.size if isinstance(found, Place) else len(found))
  return found.read().tobytes() if isinstance(found, Place) else found


def test_a_second_visit_reads_the_same_bytes_without_arrayrecord(
    tmp_path, written):
  source, records = _records(_write(tmp_path / "a", written))
  large = [i for i, size in enumerate(SIZES) if size >= shard.LARGE]
  assert len(large) == 5
  for i, record in enumerate(written):
    assert _bytes(records[i]) == record
  source.asked = 0
  for i in reversed(large):
    assert _bytes(records[i]) == written[i]
  assert source.asked == 0


def test_small_records_are_always_arrayrecords(tmp_path, written):
  source, records = _records(_write(tmp_path / "a", written))
  for _ in range(2):
    assert _bytes(records[0]) == written[0]
  assert source.asked == 2


@pytest.mark.parametrize("options", ["group_size:1", "group_size:1,zstd:1",
                                     "group_size:2,uncompressed"])
def test_what_lies_otherwise_is_always_arrayrecords(
    tmp_path, written, options):
  source, records = _records(_write(tmp_path / "a", written, options))
  for _ in range(2):
    for i, record in enumerate(written):
      assert _bytes(records[i]) == record
  assert source.asked == 2 * len(written)


def test_a_split_may_begin_within_a_file(tmp_path, written):
  path = _write(tmp_path / "a", written)
  class Later(Counting):
    def __getitem__(self, index):
      return super().__getitem__(index + 2)
  source = Later(path)
  records = shard.Records(source, [(str(path), 2, 3)], len)
  for _ in range(2):
    for i in range(3):
      assert _bytes(records[i]) == written[i + 2]
  assert source.asked == 3


def test_bytes_that_changed_before_the_first_visit_are_told(tmp_path, written):
  path = _write(tmp_path / "a", written[1:2])
  damaged = bytearray(path.read_bytes())
  damaged[500_000] ^= 1
  path.write_bytes(damaged)
  with pytest.raises(RuntimeError):
    _records(path)[1][0]


def test_a_file_that_was_cut_short_later_is_told(tmp_path, written):
  path = _write(tmp_path / "a", written[1:2])
  source, records = _records(path)
  records[0]
  path.write_bytes(path.read_bytes()[:500_000])
  with pytest.raises(UserError, match=f"{path} was cut short. Delete the set"):
    _bytes(records[0])
  assert source.asked == 1
