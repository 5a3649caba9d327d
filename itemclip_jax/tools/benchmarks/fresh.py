"""Runs a function in a process of its own, and says what it cost.

Peak memory is the largest resident set that the operating system saw, above
what was resident when the function said `ready()`: interpreter, libraries and
inputs are not counted.
"""

from collections.abc import Callable
import importlib
import json
import os
import resource
import subprocess
import sys
import time

import psutil

_MARK = "RESULT "
_UNIT = 1 if sys.platform == "darwin" else 1024   # of ru_maxrss, in bytes


def run(function: str, arguments: dict, *, environment: dict | None = None
        ) -> dict:
  """What `function(**arguments)` returns, called in a fresh process.

  Args:
    function: "package.module:name"; takes and returns what JSON can hold.
    environment: variables to set beside ours.

  Raises:
    RuntimeError: the process ended badly; the text is the end of what it said.
  """
  command = [sys.executable, "-m", __name__, function, json.dumps(arguments)]
  done = subprocess.run(
      command, capture_output=True, text=True, check=False,
      env=os.environ | (environment or {}))
  results = [line for line in done.stdout.splitlines()
             if line.startswith(_MARK)]
  if done.returncode or not results:
    raise RuntimeError(f"{function} ended with code {done.returncode}: "
                       f"{done.stderr.strip()[-2000:]}")
  return json.loads(results[-1].removeprefix(_MARK))


class Peak:
  """Peak memory above what is resident when this is made; in bytes."""

  def __init__(self):
    process = psutil.Process()
    # Linux can forget the peak of the past; elsewhere a past peak that was
    # higher than what comes would hide it, and `above` says 0.
    try:
      with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    except OSError:
      pass
    self._ready = process.memory_info().rss

  def above(self) -> int:
    return max(0, peak_bytes() - self._ready)


def peak_bytes() -> int:
  """The largest resident set so far."""
  try:
    with open("/proc/self/status", encoding="ascii") as file:
      line = next(l for l in file if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
  except (OSError, StopIteration):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
  """Of every call, each of which must wait for its result."""
  found = []
  for _ in range(repeats):
    began = time.perf_counter()
    call()
    found.append(time.perf_counter() - began)
  return found


def machine() -> dict:
  """What the numbers were taken on."""
  return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


if __name__ == "__main__":
  _module, _name = sys.argv[1].split(":")
  _found = getattr(importlib.import_module(_module), _name)(
      **json.loads(sys.argv[2]))
  print(_MARK + json.dumps(_found), flush=True)
