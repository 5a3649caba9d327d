"""Files of weights: what is read, what is refused."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from itemclip_jax.interop import torch_io

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is an extra")


class Stranger:
  """What a pickle would import."""


def test_written_arrays_come_back_with_their_shapes(tmp_path):
  path = tmp_path / "model.safetensors"
  state = {"scalar": np.float32(2.5),
           "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
  torch_io.write_state(path, state, {"step": "7"})
  read = torch_io.read_state(path)
  assert {k: v.shape for k, v in read.items()} == {"scalar": (),
                                                   "turned": (3, 2)}
  np.testing.assert_array_equal(read["turned"], state["turned"])
  assert torch_io.read_metadata(path)["step"] == "7"
  assert list(tmp_path.iterdir()) == [path]


def test_bfloat16_comes_as_float32(tmp_path):
  path = tmp_path / "model.safetensors"
  safetensors.flax.save_file({"x": jnp.array([1.5, -2], jnp.bfloat16)}, path)
  x = torch_io.read_state(path)["x"]
  assert x.dtype == np.float32
  np.testing.assert_array_equal(x, [1.5, -2])


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.",
                                     "module._orig_mod."])
def test_the_prefix_of_a_wrapper_goes(tmp_path, wrapper):
  path = tmp_path / "model.safetensors"
  torch_io.write_state(path, {f"{wrapper}a.module.b": np.zeros(1),
                              f"{wrapper}c": np.zeros(1)})
  assert torch_io.read_state(path).keys() == {"a.module.b", "c"}
  torch_io.write_state(path, {"module.a": np.zeros(1), "c": np.zeros(1)})
  assert torch_io.read_state(path).keys() == {"module.a", "c"}


def test_what_is_no_file_of_weights_is_one_sentence(tmp_path):
  path = tmp_path / "model.safetensors"
  with pytest.raises(ValueError, match="There are no weights at"):
    torch_io.read_state(path)
  path.write_bytes(b"no weights")
  with pytest.raises(ValueError, match="cannot be read as weights"):
    torch_io.read_state(path)
  with pytest.raises(ValueError, match="cannot be read as weights"):
    torch_io.read_metadata(path)


@needs_torch
@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_a_file_of_torch_is_read_wherever_the_weights_stand(tmp_path, key):
  import torch
  state = {"module.x": torch.tensor([1.5], dtype=torch.float16)}
  path = tmp_path / "epoch_1.pt"
  torch.save({key: state, "epoch": 1} if key else state, path)
  (name, value), = torch_io.read_state(path).items()
  assert name == "x" and value.dtype == np.float32 and value == 1.5


@needs_torch
def test_a_file_that_would_run_code_is_refused(tmp_path):
  import torch
  path = tmp_path / "model.pth"
  torch.save({"x": Stranger()}, path)
  with pytest.raises(ValueError, match="cannot be read as weights"):
    torch_io.read_state(path)
  torch.save({"x": 1}, path)
  with pytest.raises(ValueError, match="no mapping from names to arrays"):
    torch_io.read_state(path)
