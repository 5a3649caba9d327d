"""How the records of a set lie in its shards.

TFDS decides both things that matter here for itself. It compresses, and to
undo that costs more than all else that reading does: of a chest CT of 25 MB on
one core, 27 ms with zstd and 31 ms as TFDS asks for it, 9 ms uncompressed. What
it saves on such volumes, whose noise cannot be packed, is about 40 %. And it
leaves the order of a record's features to chance, so two builds of one set
would differ.

Readers need to know neither: a shard says itself how it was written.
"""

import contextlib
import os
from collections.abc import Iterator

from array_record.python import array_record_module
import tensorflow_datasets as tfds
from tensorflow_datasets.core import file_adapters

# Name of a compression -> its option of ArrayRecord. One record a group: any
# is read by itself.
COMPRESSION = {"none": "group_size:1,uncompressed", "zstd": "group_size:1,zstd"}


@contextlib.contextmanager
def written(compression: str) -> Iterator[None]:
  """Within it, TFDS writes shards so, features sorted by their names."""
  class Adapter(file_adapters.ArrayRecordFileAdapter):
    """TFDS's, with other options."""

    @classmethod
    def write_examples(cls, path, iterator):
      writer = array_record_module.ArrayRecordWriter(
          os.fspath(path), COMPRESSION[compression])
      for _, example in iterator:
        writer.write(example)
      writer.close()

  adapters = file_adapters.ADAPTER_FOR_FORMAT
  serializer = tfds.core.example_serializer.ExampleSerializer
  array_record = file_adapters.FileFormat.ARRAY_RECORD
  theirs = adapters[array_record], serializer.serialize_example
  adapters[array_record] = Adapter
  # A protobuf map, whose order is drawn anew in every process unless asked for.
  serializer.serialize_example = lambda self, example: self.get_tf_example(
      example).SerializeToString(deterministic=True)
  try:
    yield
  finally:
    adapters[array_record], serializer.serialize_example = theirs
