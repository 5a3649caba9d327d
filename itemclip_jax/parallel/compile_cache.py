"""Compiled programs are kept on the disk, for the next start of the same.

A step takes half a minute to compile on two cores and a second to read again.
Programs are told apart by what they compute, the versions of JAX and of the
accelerator's software, its kind and number, and the flags of XLA. What is
compiled for a CPU uses the instructions that it has, so every kind of CPU
has a folder of its own, for a home may be many machines'. A program that is
read back computes what a newly compiled one does, to the last bit.

They lie in ~/.cache/itemclip_jax ($XDG_CACHE_HOME/itemclip_jax), or with
several processes in <workdir>/compiled, which all of them see: the first one
writes, and none must wait for what another has no need to compile. `LARGEST`
bytes at most; may be deleted. Elsewhere: JAX_COMPILATION_CACHE_DIR, whose size
is then the user's. Nowhere: JAX_ENABLE_COMPILATION_CACHE=false. Both variables
are JAX's own.
"""

import hashlib
import os
import pathlib
import platform

import jax

LARGEST = 2 << 30            # bytes; what was used longest ago goes first
_WORTH = 0.5                 # seconds of compiling, from which it is kept


def use(workdir: pathlib.Path):
  """Call it after `multihost.initialize` and before anything is compiled."""
  if jax.config.jax_compilation_cache_dir:
    return                   # the user's own
  chosen = folder(workdir)
  if workdir not in chosen.parents:
    try:
      chosen.mkdir(parents=True, exist_ok=True)
    except OSError:
      return                 # a home that cannot be written, as in a container
  for name, value in {
      "jax_compilation_cache_dir": str(chosen),
      "jax_compilation_cache_max_size": LARGEST,
      "jax_persistent_cache_min_compile_time_secs": _WORTH}.items():
    jax.config.update(name, value)


def folder(workdir: pathlib.Path) -> pathlib.Path:
  """Of programs that this kind of machine can run."""
  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  several = jax.process_count() > 1
  root = workdir / "compiled" if several else pathlib.Path(home, "itemclip_jax")
  kind = jax.default_backend()
  if kind == "cpu":
    kind += "-" + hashlib.sha256(_processor().encode()).hexdigest()[:12]
  return root / kind


def _processor() -> str:
  """The instructions that the CPU has, where the system tells them."""
  try:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
      known = {line for line in file
               if line.startswith(("model name", "flags", "Features"))}
  except OSError:
    known = {platform.processor()}
  return f"{platform.machine()} {' '.join(sorted(known))}"
