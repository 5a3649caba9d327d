"""What is read out of the compiler's text, against sums made by hand."""

import pytest

from itemclip_jax.train.ahead import chips, hlo, loops, schedule
from tests.train.ahead import texts

_CHIP = chips.Chip(peak=1e12, hbm=2**30, bandwidth=1e9, clock=1e9, links=1e9)


def _loop(text=texts.LOOP):
  module = hlo.parse(text)
  entry = module.computations[module.entry]
  return loops.turns(module, entry, entry.ops["loop"])


def test_a_loop_turns_until_its_condition_fails():
  assert _loop() == 3                          # 1, 3, 5 are below 7
  assert _loop(texts.LOOP.replace("direction=LT", "direction=LE")) == 4


def test_what_the_compiler_says_of_a_loop_counts_first():
  told = texts.LOOP.replace(
      "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"9"}}')
  assert _loop(told) == 9


def test_a_loop_of_unknown_length_is_named_and_counts_one_turn():
  hidden = texts.LOOP.replace("%one = s32[] constant(1)",
                              "%one = s32[] custom-call(%arg.0), "
                              'custom_call_target="X"')
  steps = schedule.Schedule(hidden)
  assert steps.unknown_loops == ["loop"]
  assert steps.cycles == 30 + 100


def test_cycles_count_every_turn_and_a_fusion_once():
  # 30 before the loop, 3 turns of 100; neither the 999 inside of the fusion nor
  # the 5 of what the all-reduce adds with.
  assert schedule.Schedule(texts.LOOP).cycles == 30 + 3 * 100


def test_flops_are_those_of_the_products_in_the_loop():
  flops = schedule.Schedule(texts.LOOP).product_flops
  assert flops == 3 * 2 * 8 * 128 * 128


def test_collectives_count_every_turn():
  (found,) = schedule.Schedule(texts.LOOP).collectives()
  assert found == {
      "kind": "all-reduce", "shape": "bf16[8,128]", "count": 3,
      "overlapped": False, "bytes": 3 * 8 * 128 * 2,
      "scope": "jit(step)/jvp(M)/vision/block*/mlp/add"}


def test_a_started_collective_counts_once_by_what_it_gives():
  text = texts.program(
      "%x = bf16[4,128]{1,0} parameter(0)",
      "%g = (bf16[4,128]{1,0}, bf16[16,128]{1,0}) all-gather-start(%x), "
      "dimensions={0}",
      "ROOT %d = bf16[16,128]{1,0} all-gather-done(%g)",
      parameters="x: bf16[4,128]")
  (found,) = schedule.Schedule(text).collectives()
  assert (found["kind"], found["count"], found["shape"], found["bytes"]) == (
      "all-gather", 1, "bf16[16,128]", 16 * 128 * 2)
  assert found["overlapped"]


def test_a_collective_that_several_fusions_share_counts_once():
  piece = """%{0} (p.{0}: bf16[4,128]) -> bf16[16,128] {{
  %p.{0} = bf16[4,128]{{1,0}} parameter(0)
  %g.{0} = bf16[16,128]{{1,0}} all-gather(%p.{0}), channel_id=3, dimensions={{0}}, backend_config={{"async_collective_fusion_config":{{"flag_start":"{1}"}}}}
  ROOT %r.{0} = bf16[16,128]{{1,0}} custom-call(%g.{0}), custom_call_target="{2}"
}}
"""
  text = texts.program(
      "%x = bf16[4,128]{1,0} parameter(0)",
      *(f"%f.{name} = bf16[16,128]{{1,0}} fusion(%x), kind=kCustom, "
        f"calls=%{name}" for name in ("begun", "going", "done")),
      "ROOT %e = f32[] constant(0)", parameters="x: bf16[4,128]",
      more=piece.format("begun", -1, "AsyncCollectiveStart")
      + piece.format("going", 2, "Other")
      + piece.format("done", 2, "AsyncCollectiveDone"))
  (found,) = schedule.Schedule(text).collectives()
  assert found["count"] == 1 and found["overlapped"]


def test_kernels_take_the_larger_of_flops_and_bytes():
  config = ('backend_config={"custom_call_config":{"cost_estimate":{"flops":'
            '"%d","transcendentals":"0","bytes_accessed":"%d"}}}')
  kernel = ('%%%s = f32[8]{0} custom-call(%%x), custom_call_target='
            '"tpu_custom_call", metadata={op_name="m/%s"}, ' + config)
  text = texts.program(
      "%x = f32[8]{0} parameter(0)",
      kernel % ("by_flops", "f", 4_000_000, 1000),
      kernel % ("by_bytes", "b", 1000, 5000),
      '%silent = f32[16]{0} custom-call(%x), custom_call_target="K", '
      'metadata={op_name="m/s"}',
      '%buffer = f32[99]{0} custom-call(), custom_call_target="AllocateBuffer"',
      "ROOT %end = f32[] constant(0)", parameters="x: f32[8]")
  f, b, s = schedule.Schedule(text).custom_calls(_CHIP)
  assert (f["flops"], f["bytes"], f["seconds"]) == (4_000_000, 1000, 4e-6)
  assert (b["flops"], b["bytes"], b["seconds"]) == (1000, 5000, 5e-6)
  # Its author says nothing: what it reads and writes.
  assert (s["flops"], s["bytes"], s["cost_stated"]) == (0, 4 * (8 + 16), False)


def test_of_branches_the_dearest_runs():
  branch = """%{0} (p.{0}: f32[8]) -> f32[8] {{
  %p.{0} = f32[8]{{0}} parameter(0)
  ROOT %r.{0} = f32[8]{{0}} add(%p.{0}, %p.{0}), backend_config={{"window_config":{{"estimated_cycles":"{1}"}}}}
}}
"""
  text = texts.program(
      "%x = f32[8]{0} parameter(0)", "%i = s32[] constant(0)",
      "ROOT %c = f32[8]{0} conditional(%i, %x, %x), "
      "branch_computations={%cheap, %dear}", parameters="x: f32[8]",
      more=branch.format("cheap", 3) + branch.format("dear", 70))
  assert schedule.Schedule(text).cycles == 70


def test_bytes_are_whole_tiles_and_slices_of_what_is_sliced():
  assert hlo.num_bytes("bf16[3,5]{1,0}") == 3 * 5 * 2
  assert hlo.num_bytes("bf16[3,5]{1,0:T(8,128)(2,1)}") == 8 * 128 * 2
  # The first axis is the minor one: 5 are made 8, 3 are made 128.
  assert hlo.num_bytes("f32[3,5]{0,1:T(8,128)}") == 128 * 8 * 4
  assert hlo.num_bytes("(pred[], s4[6]{0})") == 1 + 3
  sliced = """%part (a: f32[100,8], i: s32[]) -> f32[1,8] {
  %a = f32[100,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %s = f32[1,8]{1,0} dynamic-slice(%a, %i, %zero), dynamic_slice_sizes={1,8}
}
"""
  text = texts.program(
      "%x = f32[100,8]{1,0} parameter(0)", "%n = s32[] constant(4)",
      "ROOT %f = f32[1,8]{1,0} fusion(%x, %n), kind=kLoop, calls=%part",
      parameters="x: f32[100,8]", more=sliced)
  # A row is read and written, the index is read.
  assert schedule.Schedule(text).bytes_accessed == 2 * 8 * 4 + 4


@pytest.mark.parametrize("line, flops", [
    # [4, 2, 3] x [4, 3, 5]: the batch is an axis whose windows hit one place.
    ("%c = f32[4,2,5]{2,1,0} convolution(%x, %y), window={size=4 stride=3 "
     "pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf", 2 * 4 * 2 * 3 * 5),
    ("%c = f32[4,2,5]{2,1,0} dot(%x, %y), lhs_batch_dims={0}, "
     "lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}",
     2 * 4 * 2 * 3 * 5)])
def test_products_of_a_batch_count_no_padding(line, flops):
  text = texts.program(
      "%x = f32[4,2,3]{2,1,0} parameter(0)",
      "%y = f32[4,3,5]{2,1,0} parameter(1)", line,
      "ROOT %e = f32[] constant(0)",
      parameters="x: f32[4,2,3], y: f32[4,3,5]")
  assert schedule.Schedule(text).product_flops == flops


def test_a_convolution_at_the_border_counts_what_it_meets():
  # 5 pixels, kernel of 3, a zero at each end: the outer results meet 2 each.
  text = texts.program(
      "%x = f32[1,5,2]{2,1,0} parameter(0)",
      "%k = f32[3,2,7]{2,1,0} parameter(1)",
      "%c = f32[1,5,7]{2,1,0} convolution(%x, %k), window={size=3 pad=1_1}, "
      "dim_labels=b0f_0io->b0f", "ROOT %e = f32[] constant(0)",
      parameters="x: f32[1,5,2], k: f32[3,2,7]")
  assert schedule.Schedule(text).product_flops == 2 * (2 + 3 * 3 + 2) * 2 * 7


def test_no_program_is_told():
  with pytest.raises(ValueError, match="ENTRY"):
    schedule.Schedule("HloModule nothing")
