"""Runs in processes of their own: killed, asked to end, started again."""

import json
import random
import signal
import time

import pytest

from itemclip_jax.train.interruption import EXIT_CODE
from tests.train import launch

SETTINGS = ("train.steps=24", "train.save_every=4", "train.log_every=3",
            "train.warmup_steps=5")


@pytest.fixture(name="cache", scope="module")
def _cache(tmp_path_factory):
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture(name="start", scope="module")
def _start(tiny_set, cache):
  return lambda workdir: launch.start(tiny_set, workdir, cache=cache,
                                      settings=SETTINGS)


@pytest.fixture(name="straight", scope="module")
def _straight(start, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("straight")
  launch.finish(start(workdir))
  return workdir


def assert_same_run(workdir, straight):
  for name in ("final.json", "metrics.jsonl", "config.json", "tokenizer.json"):
    assert (workdir / name).read_bytes() == (straight / name).read_bytes(), name


def whole_checkpoints(workdir) -> list[int]:
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir()
                if p.name.isdigit())


def test_killed_again_and_again_a_run_ends_as_one_left_alone(
    start, straight, tmp_path):
  seed = random.randrange(1000)
  print(f"moments of seed {seed}")
  rng = random.Random(seed)
  for pattern in ("metrics.jsonl",                 # between two steps
                  "checkpoints/*tmp*",             # within a write
                  "checkpoints/*tmp*"):
    process = start(tmp_path)
    launch.wait_for(tmp_path, pattern, process)
    time.sleep(rng.uniform(0, 0.05 if "tmp" in pattern else 1.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
  launch.finish(start(tmp_path))
  assert_same_run(tmp_path, straight)
  assert not list((tmp_path / "checkpoints").glob("*tmp*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_saves_and_says_so_with_a_code_of_its_own(
    start, straight, tmp_path, number):
  process = start(tmp_path)
  launch.wait_for(tmp_path, "metrics.jsonl", process)
  time.sleep(random.uniform(0, 0.5))
  process.send_signal(number)
  printed = launch.finish(process, EXIT_CODE)
  assert "start the same command again" in " ".join(printed.split())
  assert "Traceback" not in printed
  steps = [json.loads(line)["step"] for line in
           (tmp_path / "metrics.jsonl").read_text().splitlines()]
  if steps:  # else it was asked before the first step: nothing to save
    assert whole_checkpoints(tmp_path)[-1] > steps[-1]
  launch.finish(start(tmp_path))
  assert_same_run(tmp_path, straight)
