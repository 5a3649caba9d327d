"""A `.pt` file with one tensor, read without torch.

The file is a zip archive: `<name>/data.pkl` describes the tensor, and
`<name>/data/<key>` holds its bytes. A pickle can run any code; this one may
name nothing but what is listed here.
"""

import collections
import pathlib
import pickle
import sys
import zipfile

import numpy as np

from data_pipelines.volumes.nifti import SeriesError

_DTYPES = {"FloatStorage": np.float32, "DoubleStorage": np.float64,
           "HalfStorage": np.float16, "ShortStorage": np.int16,
           "IntStorage": np.int32, "LongStorage": np.int64,
           "ByteStorage": np.uint8, "CharStorage": np.int8}


def read_tensor(path: pathlib.Path) -> np.ndarray:
  """Returns the tensor that `torch.save` wrote; a copy in C order.

  Raises:
    SeriesError: the file holds anything but one dense tensor of numbers.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      pickled = [n for n in archive.namelist() if n.endswith("/data.pkl")]
      if len(pickled) != 1:
        raise SeriesError("not a .pt file of torch 1.6 or newer")
      folder = pickled[0].removesuffix("data.pkl")
      order = f"{folder}byteorder"
      if order in archive.namelist():
        if archive.read(order).decode() != sys.byteorder:
          raise SeriesError("a .pt file of the other byte order")
      with archive.open(pickled[0]) as file:
        tensor = _Unpickler(file, archive, folder).load()
  except FileNotFoundError as error:
    raise SeriesError("the file is missing") from error
  except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError,
          IndexError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
    raise SeriesError(f"not a readable .pt file ({error})") from error
  if not isinstance(tensor, np.ndarray):
    raise SeriesError(f"a .pt file of a {type(tensor).__name__}, want one "
                      "tensor")
  return tensor


class _Unpickler(pickle.Unpickler):
  """Knows tensors and nothing else."""

  def __init__(self, file, archive: zipfile.ZipFile, folder: str):
    super().__init__(file)
    self._archive, self._folder = archive, folder

  def find_class(self, module: str, name: str):
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return _tensor
    if (module, name) == ("collections", "OrderedDict"):
      return collections.OrderedDict
    if module == "torch" and name in _DTYPES:
      return _DTYPES[name]
    raise pickle.UnpicklingError(f"it names {module}.{name}")

  def persistent_load(self, what) -> np.ndarray:
    kind, dtype, key, _, count = what
    if kind != "storage":
      raise pickle.UnpicklingError(f"it refers to a {kind}")
    raw = self._archive.read(f"{self._folder}data/{key}")
    return np.frombuffer(raw, dtype, count=count)


def _tensor(storage, offset, shape, stride, *_) -> np.ndarray:
  """Elements at offset + index . stride of the storage."""
  last = offset + sum((n - 1) * s for n, s in zip(shape, stride))
  if min(offset, *stride, *shape) < 0 or last >= storage.size:
    raise ValueError(f"a tensor of {shape} does not fit its storage")
  return np.lib.stride_tricks.as_strided(
      storage[offset:], shape,
      [s * storage.itemsize for s in stride]).copy()
