"""Our parser gives what TFDS's does, and copies no voxel."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from itemclip_jax.data import record, serialized
from tests.data_pipelines import fake_set

LARGE = ("volume", "lesion_mask", "organ_mask")


def _study(**changes):
  D, H, W = fake_set.SHAPE
  return fake_set.study("s", organ_mask=np.arange(D * H * W, dtype=np.uint8),
                        organ_texts=["Normal.", "", "Größer."],
                        organ_normal=np.array([1, 0, 0], np.uint8)) | changes


def _features(dtype=np.uint8):
  return record.features(dtype, ("organs",))


def _parsed(features, stored):
  parser = serialized.Parser(features, LARGE)
  return parser(stored, parser.layout(stored))


def _assert_equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name in ours:
    np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert np.asarray(ours[name]).dtype == np.asarray(theirs[name]).dtype


@pytest.mark.parametrize("changes", [
    {}, {"items": []}, {"labels": np.zeros(0, np.int8)},
    {"lesion_mask": np.ones(256, np.uint8)},
    {"volume": np.ones((3, 1, 300, 2), np.uint8)}])
def test_all_features_are_those_of_tfds(changes):
  features = _features()
  stored = features.serialize_example(_study(**changes))
  _assert_equal(_parsed(features, stored),
                features.deserialize_example_np(stored))


def test_whole_numbers_of_two_bytes():
  features = _features(np.int16)
  volume = np.array([-1024, 0, 3071], np.int16).reshape(1, 1, 1, 3)
  stored = features.serialize_example(_study(volume=volume))
  np.testing.assert_array_equal(_parsed(features, stored)["volume"], volume)


def test_voxels_are_views_of_the_record_that_cannot_be_written():
  features = _features()
  stored = features.serialize_example(_study())
  study = _parsed(features, stored)
  whole = np.frombuffer(stored, np.uint8)
  for name in ("volume", "organ_mask"):
    assert np.shares_memory(study[name], whole)
    assert not study[name].flags.writeable


def test_what_is_not_asked_for_is_not_there():
  features = _features()
  stored = features.serialize_example(_study())
  asked = tfds.features.FeaturesDict(
      {name: features[name] for name in ("items", "organ_mask")})
  assert _parsed(asked, stored).keys() == asked.keys()


def test_what_is_not_asked_for_lies_outside_of_the_layout():
  stored = _features().serialize_example(_study())
  asked = tfds.features.FeaturesDict(
      {name: _features()[name] for name in ("study_id", "organ_mask")})
  layout = serialized.Parser(asked, LARGE).layout(stored)
  (begin, end), shape = layout.large["organ_mask"]
  assert shape == (end - begin,) == (np.prod(fake_set.SHAPE),)
  assert sum(end - begin for begin, end in layout.small) < 30


def test_what_is_no_record_is_told():
  with pytest.raises(ValueError, match="wire type 0, want 2: it is no tf"):
    _parsed(_features(), b"\x08\x01")
