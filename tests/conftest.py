"""Shared test set-up: eight fake CPU devices, no accelerator, no network."""

import os
import pathlib

# Read by JAX when it is first imported, so before any test module.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without the last three flags compiling
# takes four times as long. (XLA refuses to start with a flag it has dropped.)
os.environ.setdefault("XLA_FLAGS", " ".join([
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false"]))
os.environ["HF_HUB_OFFLINE"] = "1"

# pylint: disable=wrong-import-position
import pytest

GOLDEN = pathlib.Path(__file__).parent / "golden"


def pytest_addoption(parser):
  parser.addoption(
      "--golden", type=pathlib.Path, default=GOLDEN, metavar="DIR",
      help="Directory of .npz files with numbers of the published code.")


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory) -> pathlib.Path:
  """A phantom_brain set of 24, 8 and 10 studies; read only."""
  from data_pipelines import datasets, prepare  # imports much
  out = tmp_path_factory.mktemp("tiny_set")
  prepare.build(
      datasets.make("phantom_brain", num_train=24, num_valid=8, num_test=10),
      out, num_workers=1)
  return out
