"""Options of the compiler: only for chips that have the room."""

import types

import numpy as np
import pytest

from itemclip_jax.parallel import tpu


@pytest.mark.parametrize("kind, given", [
    ("TPU v5 lite", True), ("TPU v6 lite", True), ("TPU v5", True),
    ("TPU v4", False), ("cpu", False), ("NVIDIA H100 80GB HBM3", False)])
def test_only_chips_with_much_fast_memory_get_more_than_the_default(kind,
                                                                    given):
  device = types.SimpleNamespace(device_kind=kind)
  mesh = types.SimpleNamespace(devices=np.array([[device]]))
  options = tpu.compiler_options(mesh)
  assert (options is not None) == given
  if given:
    room = int(options["xla_tpu_scoped_vmem_limit_kib"]) << 10
    assert 16 << 20 < room <= tpu.FAST_MEMORY[kind] // 2
