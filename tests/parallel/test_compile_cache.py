"""A second start of the same program finds it compiled."""

import os
import pathlib
import subprocess
import sys

import pytest

from itemclip_jax.parallel import compile_cache

ROOT = pathlib.Path(__file__).parents[2]

# Prints how many programs were read, how many were looked for in vain, and the
# result. Everything is worth keeping here, nothing takes long to compile.
PROGRAM = """
import collections, pathlib
import jax, jax.numpy as jnp
from itemclip_jax.parallel import compile_cache
compile_cache._WORTH = 0.0
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: seen.update([name]))
compile_cache.use(pathlib.Path("workdir"))
x = jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((3, 4)))
print(seen["/jax/compilation_cache/cache_hits"],
      seen["/jax/compilation_cache/cache_misses"], x.tolist())
"""


@pytest.fixture(name="start")
def _start(tmp_path):
  """Runs it, with variables beside those of a user who set none."""
  def start(**variables) -> tuple[int, int, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True,
        cwd=tmp_path, check=True, env=plain | {
            "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path / "home")} | variables)
    hits, misses, result = done.stdout.split(maxsplit=2)
    return int(hits), int(misses), result
  return start


def _programs(folder: pathlib.Path) -> list[pathlib.Path]:
  return list(folder.rglob("*-cache"))


def test_a_second_start_compiles_nothing(start, tmp_path):
  hits, compiled, result = start()
  assert not hits and compiled
  assert start() == (compiled, 0, result)
  assert len(_programs(tmp_path / "home" / "itemclip_jax")) == compiled


def test_half_a_program_is_compiled_anew(start, tmp_path):
  _, compiled, result = start()
  for path in _programs(tmp_path):
    path.write_bytes(path.read_bytes()[:100])
  hits, _, again = start()
  assert not hits and again == result


def test_the_user_says_where_or_nowhere(start, tmp_path):
  own = tmp_path / "own"
  start(JAX_COMPILATION_CACHE_DIR=str(own),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
  assert _programs(own)
  assert start(JAX_ENABLE_COMPILATION_CACHE="false")[:2] == (0, 0)
  assert not _programs(tmp_path / "home")


def test_a_home_that_cannot_be_written_does_no_harm(start, tmp_path):
  (tmp_path / "home").write_text("A file.")
  assert start()[0] == 0


def test_every_kind_of_processor_has_a_folder(monkeypatch, tmp_path):
  folders = set()
  for flags in ("avx2", "avx2 avx512f"):
    monkeypatch.setattr(compile_cache, "_processor", lambda f=flags: f)
    folders.add(compile_cache.folder(tmp_path))
  assert len(folders) == 2


def test_several_processes_share_a_folder_of_the_run(monkeypatch, tmp_path):
  monkeypatch.setattr(compile_cache.jax, "process_count", lambda: 2)
  assert tmp_path / "compiled" in compile_cache.folder(tmp_path).parents
