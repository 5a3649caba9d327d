"""A serialized study -> its features, without a copy of its voxels.

A record is a tf.train.Example,

    Example { 1: Features }            Features { 1: Entry, 1: Entry, ... }
    Entry { 1: name, 2: Feature }
    Feature { 1: BytesList { 1: bytes } | 2: FloatList | 3: Int64List }

Python's protobuf copies bytes twice before they are an array. So those features
that are one large run of bytes are taken where they lie, and TFDS parses the
small rest. Every field on the way is written as its tag, its length and its
content. Where they lie is found once: a record that is still in its file is
read in part, or not yet.

Reference: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from itemclip_jax.data.stored import Place, Unread

_LENGTH_DELIMITED = 2     # wire type: the lowest three bits of the tag


class Span(NamedTuple):
  """Bytes [begin, end) of a record."""
  begin: int
  end: int


class Layout(NamedTuple):
  """Where in a record that lies which is asked for.

  small: whole entries; large: name -> its bytes, and their shape.
  """
  small: tuple[Span, ...]
  large: dict[str, tuple[Span, tuple[int, ...]]]


class Parser:
  """`parser(record, parser.layout(record)) -> study`; no more is read of it."""

  def __init__(self, features: tfds.features.FeaturesDict,
               large: tuple[str, ...]):
    """Of these features.

    Args:
      features: what is asked for.
      large: those of them that are one run of bytes: tensors of
        `encoding="bytes"`.
    """
    self._large = {k: f for k, f in features.items() if k in large}
    self._small = tfds.features.FeaturesDict(
        {k: f for k, f in features.items() if k not in large})

  def layout(self, record: bytes) -> Layout:
    """Raises ValueError where the record is no study."""
    record = memoryview(record)
    features, small = {}, []
    for name, entry, feature in _entries(record):
      features[name] = feature
      if name.split("/")[0] in self._small:
        if small and small[-1].end == entry.begin:    # one read for both
          entry = Span(small.pop().begin, entry.end)
        small.append(entry)
    return Layout(tuple(small), {
        name: _run(record, features, name, tensor)
        for name, tensor in self._large.items()})

  def __call__(self, record: bytes | Place, layout: Layout) -> dict[str, Any]:
    """Large features are read-only views of bytes, `Unread` of a place."""
    if isinstance(record, Place):
      small = record.read(layout.small).tobytes()
      array = lambda span, *kind: Unread(record.part(*span), *kind)
    else:
      small = b"".join(record[begin:end] for begin, end in layout.small)
      array = lambda span, shape, dtype: np.frombuffer(
          memoryview(record)[span.begin:span.end], dtype).reshape(shape)
    example = tf_example_pb2.Example()
    example.features.MergeFromString(small)
    study = self._small.deserialize_example_np(example.SerializeToString())
    return study | {
        name: array(span, shape, np.dtype(self._large[name].np_dtype))
        for name, (span, shape) in layout.large.items()}


def _run(record: memoryview, features: dict[str, Span], name: str,
         tensor: tfds.features.Tensor) -> tuple[Span, tuple[int, ...]]:
  """Bytes and shape of a feature that is one run of bytes."""
  shape = [-1 if n is None else n for n in tensor.shape]
  value = features.get(name)
  if value is None:      # TFDS stores several unknown sizes beside the bytes
    value = features[f"{name}/value"]
    begin, end = features[f"{name}/shape"]
    shape = tf_feature_pb2.Feature.FromString(
        record[begin:end]).int64_list.value
  begin, end = _content(record, _content(record, value))
  array = np.frombuffer(record[begin:end], tensor.np_dtype)
  return Span(begin, end), array.reshape(shape).shape


def _entries(record: memoryview) -> Iterator[tuple[str, Span, Span]]:
  """Name, whole entry and serialized Feature of every feature."""
  features = _content(record, Span(0, len(record)))
  begin = features.begin
  for _, entry in _fields(record, features):
    fields = dict(_fields(record, entry))
    name = str(record[fields[1].begin:fields[1].end], "utf-8")
    yield name, Span(begin, entry.end), fields[2]
    begin = entry.end


def _content(record: memoryview, message: Span) -> Span:
  """Of the only field that a message has."""
  ((_, content),) = _fields(record, message)
  return content


def _fields(record: memoryview, message: Span) -> Iterator[tuple[int, Span]]:
  """Number and content of each field."""
  at, end = message
  while at < end:
    tag, at = varint(record, at)
    if tag & 7 != _LENGTH_DELIMITED:
      raise ValueError(f"A record holds a field of wire type {tag & 7}, want "
                       f"{_LENGTH_DELIMITED}: it is no tf.train.Example.")
    size, at = varint(record, at)
    yield tag >> 3, Span(at, at + size)
    at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
  """A number in groups of seven bits, lowest first, and where it ends."""
  value = shift = 0
  while True:
    byte = message[at]
    at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
    if byte < 128:
      return value, at
