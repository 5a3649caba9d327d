"""What is needed and what there is, before anything is compiled."""

import math
import types

import jax
import pytest

from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import preflight, setup


@pytest.fixture(name="run", scope="module")
def _run(config, mesh, tmp_path_factory):
  return setup.make_run(config, mesh, tmp_path_factory.mktemp("run"),
                        training=True)


def check(run):
  return preflight.check(run, num_studies=24, num_valid=8, first_step=3)


def test_the_line_says_what_a_user_wants_to_know(run):
  line = check(run)
  for part in ("process 1 of 1", "data 1 x fsdp 1", "memory a device: needs ",
               "disk: needs ", "steps 3 to 6 of 8 samples, 2.0 epochs of 24 ",
               "validation on 8 studies", "a checkpoint every 3 steps in ",
               str(run.workdir / "checkpoints")):
    assert part in line
  assert "\n" not in line


def test_memory_counts_state_gradients_and_batch(run, config):
  params = sum(x.size * 4 for x in jax.tree.leaves(run.abstract_state().params))
  state = sum(x.size * x.dtype.itemsize
              for x in jax.tree.leaves(run.abstract_state()))
  batch = 8 * config.data.max_series * math.prod(config.vision.volume_shape)
  assert preflight.memory_needed(run) == state + params + batch
  assert state >= 3 * params - 4 * 10_000  # two moments, but of the table
  assert preflight.disk_needed(run) == state * (config.train.keep + 2)


def test_split_parameters_need_less_of_each_device(config, run):
  split = setup.make_run(config, make_mesh(1, 8), run.workdir, training=True)
  assert preflight.memory_needed(split) < preflight.memory_needed(run) / 4


def test_too_little_memory_is_told(run, monkeypatch):
  monkeypatch.setattr(preflight, "memory_present", lambda device: 1000)
  with pytest.raises(ValueError, match="take .*B of each device, which has 1 "
                     "kB; raise mesh.fsdp or lower train.global_batch=8"):
    check(run)


def test_too_little_disk_is_told(run, monkeypatch):
  monkeypatch.setattr(preflight.shutil, "disk_usage",
                      lambda path: types.SimpleNamespace(free=5))
  with pytest.raises(ValueError, match="checkpoints has 5 B free; free some"):
    check(run)


def test_a_device_that_knows_its_memory_is_believed():
  device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 16})
  assert preflight.memory_present(device) == 16
  silent = types.SimpleNamespace(memory_stats=lambda: None)
  assert preflight.memory_present(silent) > 1e8
