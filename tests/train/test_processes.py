"""Two processes of two devices each do what one process does."""

import json

import numpy as np
import pytest

from tests.train import launch

SETTINGS = ("train.steps=6", "train.save_every=3", "train.log_every=1")


@pytest.fixture(name="cache", scope="module")
def _cache(tmp_path_factory):
  return tmp_path_factory.mktemp("compiled")


def run_pair(root, workdir, cache, **kwargs) -> list[str]:
  port = launch.free_port()
  pair = [launch.start(root, workdir, devices=2, cache=cache,
                       peers=f"127.0.0.1:{port},2,{i}", **kwargs)
          for i in range(2)]
  return [launch.finish(process) for process in pair]


@pytest.fixture(name="one", scope="module")
def _one(tiny_set, tmp_path_factory, cache):
  workdir = tmp_path_factory.mktemp("one")
  launch.finish(launch.start(tiny_set, workdir, devices=4, cache=cache,
                             settings=SETTINGS))
  return workdir


@pytest.fixture(name="two", scope="module")
def _two(tiny_set, tmp_path_factory, cache):
  workdir = tmp_path_factory.mktemp("two")
  printed = run_pair(tiny_set, workdir, cache,
                     settings=(*SETTINGS, "mesh.data=2", "mesh.fsdp=2"))
  for i, text in enumerate(printed):
    assert f"process {i + 1} of 2: 2 of 4 devices" in text
  return workdir


def losses(workdir) -> dict:
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return {(line["step"], name): value for line in lines
          for name, value in line.items() if "loss" in name}


def test_they_train_as_one_does(one, two):
  ours, theirs = losses(two), losses(one)
  assert ours.keys() == theirs.keys()
  np.testing.assert_allclose(  # float32: sums in another order
      list(ours.values()), list(theirs.values()), rtol=1e-5)


def test_uneven_shards_are_measured_exactly(tiny_set, one, two, cache):
  """10 studies in batches of 8: the second process has rows of no study."""
  settings = (*SETTINGS, "eval.batch=8")
  run_pair(tiny_set, one, cache, mode="eval", settings=settings)
  pair = (one / "results.json").read_text()
  launch.finish(launch.start(tiny_set, one, mode="eval", cache=cache,
                             settings=settings))
  assert json.loads(pair) == json.loads((one / "results.json").read_text())
  # What two processes saved with split parameters, one reads.
  launch.finish(launch.start(tiny_set, two, mode="eval", cache=cache,
                             settings=settings))
  assert (two / "results.json").exists()
