"""Starts `python -m itemclip_jax.main` as a user does, in processes to kill."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]

# The sizes of tests.tiny.config, as flags.
TINY = ("vision.patch=(12,16,16)", "vision.width=24", "vision.depth=2",
        "vision.num_heads=4", "vision.mlp_ratio=2.0",
        "vision.study_blocks=(1,)", "vision.name_encoder=(16,1,2,16)",
        "text.max_items=4", "text.max_tokens=16", "text.width=32",
        "text.depth=1", "text.num_heads=2", "text.mlp_width=64",
        "joint.width=32", "joint.num_heads=4", "data.num_threads=2")


def start(root, workdir, *, mode="train", devices=1, peers="none", cache=None,
          settings=()) -> subprocess.Popen:
  """A run of demo:smoke in the small sizes; `settings` are "a.b=value"."""
  flags = [f"--config.{s}" for s in (f"data.root={root}", *TINY, *settings)]
  environment = os.environ | {
      "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
      "XLA_FLAGS": re.sub(r"(device_count=)\d+", rf"\g<1>{devices}",
                          os.environ["XLA_FLAGS"]),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
  if cache:
    environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
  else:
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  return subprocess.Popen(
      [sys.executable, "-m", "itemclip_jax.main",
       f"--config={ROOT}/configs/demo.py:smoke", f"--workdir={workdir}",
       f"--mode={mode}", f"--peers={peers}", *flags],
      env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, code: int = 0) -> str:
  """Waits; returns what it printed."""
  printed, _ = process.communicate(timeout=300)
  assert process.returncode == code, printed
  return printed


def wait_for(path: pathlib.Path, pattern: str, process: subprocess.Popen):
  """Until something in `path` matches the glob, or the process ends."""
  for _ in range(3000):
    if list(path.glob(pattern)) or process.poll() is not None:
      return
    time.sleep(0.05)
  raise TimeoutError(f"{path}/{pattern} did not appear.")


def free_port() -> int:
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]
