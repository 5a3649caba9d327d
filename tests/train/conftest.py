"""One small run on the small data set; each of its programs compiles once."""

import jax
import pytest

from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import loop
from tests import tiny

STEPS, SAVE_EVERY = 6, 3


@pytest.fixture(scope="session")
def config(tiny_set):
  return tiny.config(tiny_set, train={"steps": STEPS, "warmup_steps": 2,
                                      "save_every": SAVE_EVERY})


@pytest.fixture(scope="session")
def mesh():
  return make_mesh(1, 1, jax.devices()[:1])


@pytest.fixture(scope="package", autouse=True)
def compile_once(tmp_path_factory):
  """Runs of equal settings compile the same programs: keeps them on disk."""
  names = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
           "jax_persistent_cache_min_compile_time_secs": 0.0}
  before = {name: getattr(jax.config, name) for name in names}
  for name, value in names.items():
    jax.config.update(name, value)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.fixture(name="straight", scope="session")
def _straight(config, mesh, tmp_path_factory):
  """Work directory of a run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp("straight")
  loop.train(config, mesh, workdir)
  return workdir
