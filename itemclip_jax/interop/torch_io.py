"""Files of weights as plain arrays: safetensors, and torch's own where needed.

safetensors holds numbers alone and needs no torch. A file of torch is a pickle:
it is read with `weights_only`, which runs no code of the file, and only where
the extra "torch" is installed.
"""

import pathlib
import re

import numpy as np
import safetensors
import safetensors.numpy

from itemclip_jax.errors import UserError

_NESTED = ("state_dict", "model")  # keys under which trainers put the weights
_WRAPPED = re.compile(r"(module\.|_orig_mod\.)+")  # by DDP, torch.compile


def read_state(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Names -> arrays; half precision comes as float32.

  Args:
    path: a .safetensors file, or a file that `torch.save` wrote.

  Raises:
    UserError: the file is missing or damaged, torch is not installed, or the
      file holds more than weights.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise UserError(f"There are no weights at {path}; name a .safetensors file "
                    "or one that torch wrote.")
  state = (_read_safetensors(path) if path.suffix == ".safetensors" else
           _read_torch(path))
  if state and all(map(_WRAPPED.match, state)):
    state = {_WRAPPED.sub("", k, count=1): v for k, v in state.items()}
  return state


def read_metadata(path: pathlib.Path) -> dict[str, str]:
  """What a .safetensors file says about itself."""
  try:
    with safetensors.safe_open(path, framework="np") as file:
      return file.metadata() or {}
  except (safetensors.SafetensorError, OSError) as error:
    raise _damaged(path, error) from error


def write_state(path: pathlib.Path, state: dict[str, np.ndarray],
                metadata: dict[str, str] | None = None):
  """Writes a .safetensors file, whole or not at all."""
  partial = path.with_suffix(".partial")
  # Its `save_file` would make a file that nobody else may read.
  partial.write_bytes(safetensors.numpy.save(
      {k: np.asarray(v, order="C") for k, v in state.items()},
      {"format": "pt"} | (metadata or {})))
  partial.replace(path)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    state = safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise _damaged(path, error) from error
  return {k: _at_least_single(v) for k, v in state.items()}


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise UserError(
        f"{path} was written by torch, which is not installed; run `pip "
        "install itemclip_jax[torch]`, or give the same weights as a "
        ".safetensors file.") from error
  try:
    state = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # torch raises many types, with long texts
    raise _damaged(path, error) from error
  for key in _NESTED:
    if isinstance(state, dict) and isinstance(state.get(key), dict):
      state = state[key]
  if not isinstance(state, dict) or not all(
      isinstance(v, torch.Tensor) for v in state.values()):
    raise UserError(f"{path} holds no mapping from names to arrays; save the "
                    "state_dict of the model alone.")
  single = lambda v: v.float() if v.is_floating_point() else v
  return {k: single(v).numpy() for k, v in state.items()}


def _at_least_single(value: np.ndarray) -> np.ndarray:
  """Half precision as float32."""
  return value.astype(np.float32) if value.dtype.itemsize < 4 and (
      value.dtype.kind in "fV") else value


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  reason = str(error).strip().splitlines() or [type(error).__name__]
  return UserError(f"{path} cannot be read as weights ({reason[0][:200]}); get "
                   "the file again, or convert it to .safetensors.")
