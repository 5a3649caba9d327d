"""Time of operations: hand-made intervals, a hand-made program, a real one."""

import time

import jax
import jax.numpy as jnp
import pytest

from itemclip_jax.tools.benchmarks import op_times
from itemclip_jax.tools.benchmarks.op_times import Op

PROGRAM = """\
HloModule jit_f, is_scheduled=true

%alone (p.0: f32[8,8], p.1: f32[8,8]) -> f32[8,8] {
  %p.0 = f32[8,8]{1,0} parameter(0)
  %p.1 = f32[8,8]{1,0} parameter(1)
  %t.1 = f32[8,8]{1,0} transpose(%p.1), dimensions={1,0}
  ROOT %dot.1 = f32[8,8]{1,0} dot(%p.0, %t.1), metadata={op_name="f/mlp/dot"}
}

%mixed (p.2: f32[8,8]) -> f32[8,8] {
  %p.2 = f32[8,8]{1,0} parameter(0)
  %dot.2 = f32[8,8]{1,0} dot(%p.2, %p.2), metadata={op_name="f/attention/dot"}
  ROOT %exp.1 = f32[8,8]{1,0} exponential(%dot.2), metadata={op_name="f/exp"}
}

%none (p.3: f32[8,8]) -> f32[8,8] {
  %p.3 = f32[8,8]{1,0} parameter(0)
  ROOT %tanh.1 = f32[8,8]{1,0} tanh(%p.3), metadata={op_name="f/inner/tanh"}
}

%body (p.4: f32[8,8]) -> f32[8,8] {
  %p.4 = f32[8,8]{1,0} parameter(0)
  ROOT %fusion.3 = f32[8,8]{1,0} fusion(%p.4), kind=kLoop, calls=%none, metadata={op_name="f/tanh"}
}

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %dot.3 = f32[8,8]{1,0} dot(%x, %x), metadata={op_name="f/plain/dot"}
  %fusion.1 = f32[8,8]{1,0} fusion(%dot.3, %x), kind=kOutput, calls=%alone, metadata={op_name="f/mlp/add"}
  %fusion.2 = f32[8,8]{1,0} fusion(%fusion.1), kind=kOutput, calls=%mixed, metadata={op_name="f/exp"}
  %copy.1 = f32[8,8]{0,1} copy(%fusion.2)
  ROOT %call.1 = f32[8,8]{1,0} call(%copy.1), to_apply=%body
}
"""


def test_an_operation_is_named_after_its_product_and_tells_what_else_it_does():
  found = op_times.operations(PROGRAM)
  assert found["dot.3"] == Op("f/plain/dot", "product")
  assert found["fusion.1"] == Op("f/mlp/dot", "product")
  assert found["fusion.2"] == Op("f/attention/dot", "fused")
  assert found["fusion.3"] == Op("f/tanh", "other")
  assert found["copy.1"] == Op("", "other")


def test_what_only_runs_others_is_no_operation():
  assert "call.1" not in op_times.operations(PROGRAM)


def test_operations_that_run_at_once_share_the_time():
  # a: 0-4 alone, 4-6 with b, 6-7 with b and c; b alone 7-10; c ends at 7.
  found = op_times.shared_time(
      [("a", 0, 7e9), ("b", 4e9, 10e9), ("c", 6e9, 7e9), ("d", 20e9, 21e9)])
  third = 1 / 3
  assert found == pytest.approx(
      {"a": 4 + 1 + third, "b": 1 + third + 3, "c": third, "d": 1})


def test_one_operation_on_two_devices_counts_the_time_once():
  found = op_times.shared_time([("a", 0, 2e9), ("a", 1e9, 3e9)])
  assert found == pytest.approx({"a": 3})


def test_a_program_is_measured_by_its_names():
  @jax.jit
  def program(x):
    with jax.named_scope("multiplied"):
      x = x @ x
    with jax.named_scope("sorted"):
      return jnp.sort(x, axis=0)

  x = jax.random.normal(jax.random.key(0), (256, 256))
  compiled = program.lower(x).compile()
  began = time.perf_counter()
  found = op_times.measure(lambda: jax.block_until_ready(compiled(x)),
                           compiled.as_text(), repeats=3)
  took = time.perf_counter() - began
  kinds = {part: {op.kind for op in found if f"/{part}/" in op.scope}
           for part in ("multiplied", "sorted")}
  assert kinds["multiplied"] & {"product", "fused"}
  assert kinds["sorted"] == {"other"}
  assert all(seconds > 0 for seconds in found.values())
  assert 3 * sum(found.values()) <= took
