"""Shared test set-up: eight fake CPU devices, no accelerator, no network."""

import os
import pathlib

# Read by JAX when it is first imported, so before any test module.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ["HF_HUB_OFFLINE"] = "1"

GOLDEN = pathlib.Path(__file__).parent / "golden"


def pytest_addoption(parser):
  parser.addoption(
      "--golden", type=pathlib.Path, default=GOLDEN, metavar="DIR",
      help="Directory of .npz files with numbers of the published code.")
