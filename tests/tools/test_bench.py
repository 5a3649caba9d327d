"""The command of the benchmarks, and what the one of a step reports."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from itemclip_jax import errors
from itemclip_jax.config import schema
from itemclip_jax.tools import bench, benchmarks
from itemclip_jax.tools.benchmarks import step
from itemclip_jax.tools.benchmarks.op_times import Op
from tests import tiny

ROOT = pathlib.Path(__file__).parents[2]


def _bench(*arguments):
  return subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.bench", *arguments], cwd=ROOT,
      check=False, capture_output=True, text=True,
      env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("arguments", [[], ["--repeats=1"]])
def test_a_command_without_a_part_names_all_parts(arguments):
  with pytest.raises(errors.UserError, match="one of .*step"):
    bench.chosen(["bench", *arguments])


def test_a_part_that_there_is_not_is_told_with_those_that_there_are():
  with pytest.raises(errors.UserError, match="no benchmark 'speed'; .*step"):
    bench.chosen(["bench", "speed"])


def test_every_part_can_be_run():
  assert "step" in benchmarks.names()
  for name in benchmarks.names():
    part = benchmarks.module(name)
    assert callable(part.define_flags) and callable(part.measure), name


@pytest.mark.parametrize("arguments, sentence", [
    (["speed"], "There is no benchmark 'speed'"),
    (["step", "--config=none.py"], "The file of settings could not be read"),
    (["step", "--config.train.global_bath=8"], "did you mean 'global_batch'"),
    (["step", "--repeats=0"], "--repeats=0")])
def test_mistakes_are_told_in_a_sentence(arguments, sentence):
  done = _bench(*arguments)
  assert done.returncode == 2
  assert sentence in done.stderr and "Traceback" not in done.stderr


def test_help_tells_the_flags_of_the_part():
  assert "--repeats" in _bench("step", "--help").stdout


@pytest.fixture(name="found", scope="module")
def _found():
  """A step of a model that recomputes its blocks."""
  config = tiny.config(vision={"remat": "block"})
  return step.measured(config, repeats=1, side=64)


def test_a_step_reports_what_json_can_hold(found):
  assert json.loads(json.dumps(found)) == found


def test_shares_of_all_parts_add_up(found):
  assert sum(found["parts"].values()) == pytest.approx(1, abs=0.005)
  outside = sum(found["outside_matmul"].values())
  assert outside == pytest.approx(found["outside_matmul_all"], abs=0.005)
  for kind in ("outside_matmul", "fused_with_matmul"):
    for part, share in found[kind].items():
      assert share <= found["parts"][part] + 1e-4


def test_attention_is_told_apart_by_level(found):
  assert {"attention, series", "attention, study", "mlp",
          "text tower", "losses"} <= set(found["parts"])


def test_utilisation_follows_from_flops_seconds_and_rate(found):
  rate = found["matmul_gflops"] * 1e9
  assert found["mfu"] == pytest.approx(
      found["flops"] / found["seconds"] / rate)


def test_recomputation_is_no_work_of_the_model(found):
  assert found["recomputation"] > 1.05


def test_shares_are_those_of_hand_made_operations():
  config = schema.Config(vision=schema.Vision(slice_blocks=(0,)))
  block = "jit(step)/jvp(DualEncoder)/vision/block{}/attention/{}"
  ops = {Op(block.format(0, "dot"), "product"): 3.0,
         Op(block.format(0, "div"), "other"): 1.0,
         Op(block.format(2, "exp"), "fused"): 4.0,
         Op("jit(step)/add", "other"): 2.0}
  found = step.shares(ops, {"jvp(DualEncoder)/vision/block0/attention": 60},
                      config, rate=100.0)
  assert found["parts"] == {
      "attention, slice": 0.4, "attention, study": 0.4,
      "optimiser and the rest": 0.2}
  assert found["outside_matmul"] == {
      "optimiser and the rest": 0.2, "attention, slice": 0.1}
  assert found["fused_with_matmul"] == {"attention, study": 0.4}
  assert found["outside_matmul_all"] == 0.3
  # 60 flops in 4 seconds, of 100 a second.
  assert found["parts_mfu"] == {"attention, slice": 0.15}
  assert found["longest_outside"][0] == ["jit(step)/add", 0.2]
