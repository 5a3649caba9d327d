"""A serialized study -> its features, without a copy of its voxels.

A record is a tf.train.Example,

    Example { 1: Features }            Features { 1: Entry, 1: Entry, ... }
    Entry { 1: name, 2: Feature }
    Feature { 1: BytesList { 1: bytes } | 2: FloatList | 3: Int64List }

Python's protobuf copies bytes twice before they are an array. So those features
that are one large run of bytes are taken where they lie, as views of the
record, and TFDS parses the small rest. Every field on the way is written as its
tag, its length and its content.

Reference: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

_LENGTH_DELIMITED = 2     # wire type: the lowest three bits of the tag


class Parser:
  """`parser(record) -> study`; what of a record is not asked for is skipped."""

  def __init__(self, features: tfds.features.FeaturesDict,
               views: tuple[str, ...]):
    """Of these features.

    Args:
      features: what is asked for.
      views: those of them that become read-only views of the record: tensors
        of `encoding="bytes"`.
    """
    self._views = {k: f for k, f in features.items() if k in views}
    self._rest = tfds.features.FeaturesDict(
        {k: f for k, f in features.items() if k not in views})

  def __call__(self, record) -> dict[str, Any]:
    entries = dict(_entries(record))
    rest = tf_example_pb2.Example()
    for name, feature in entries.items():
      if name.split("/")[0] in self._rest:
        rest.features.feature[name].MergeFromString(feature)
    study = self._rest.deserialize_example_np(rest.SerializeToString())
    return study | {name: _view(entries, name, tensor)
                    for name, tensor in self._views.items()}


def _view(entries: dict[str, memoryview], name: str,
          tensor: tfds.features.Tensor) -> np.ndarray:
  """The array of one run of bytes."""
  shape = [-1 if n is None else n for n in tensor.shape]
  value = entries.get(name)
  if value is None:      # TFDS stores several unknown sizes beside the bytes
    value = entries[f"{name}/value"]
    shape = tf_feature_pb2.Feature.FromString(
        entries[f"{name}/shape"]).int64_list.value
  content = _content(_content(value))
  return np.frombuffer(content, tensor.np_dtype).reshape(shape)


def _entries(record) -> Iterator[tuple[str, memoryview]]:
  """Name and serialized Feature of every feature."""
  for _, entry in _fields(_content(memoryview(record))):
    fields = dict(_fields(entry))
    yield str(fields[1], "utf-8"), fields[2]


def _content(message: memoryview) -> memoryview:
  """Of the only field that a message has."""
  ((_, content),) = _fields(message)
  return content


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
  """Number and content of each field."""
  at = 0
  while at < len(message):
    tag, at = varint(message, at)
    if tag & 7 != _LENGTH_DELIMITED:
      raise ValueError(f"A record holds a field of wire type {tag & 7}, want "
                       f"{_LENGTH_DELIMITED}: it is no tf.train.Example.")
    size, at = varint(message, at)
    yield tag >> 3, message[at:at + size]
    at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
  """A number in groups of seven bits, lowest first, and where it ends."""
  value = shift = 0
  while True:
    byte = message[at]
    at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
    if byte < 128:
      return value, at
