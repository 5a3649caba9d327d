"""The benchmark of attention measures what it says."""

import importlib
import json

import jax
import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.ops import attention_backends as backends
from itemclip_jax.tools.benchmarks import attention
from itemclip_jax.train import flops

SIZES = dict(groups=2, tokens=19, heads=2, head_width=8)


def in_this_process(function, arguments):
  """`fresh.run` without a process; what goes in and out passes JSON."""
  module, name = function.split(":")
  run = getattr(importlib.import_module(module), name)
  return json.loads(json.dumps(run(**json.loads(json.dumps(arguments)))))


@pytest.fixture(name="found")
def _found(monkeypatch):
  monkeypatch.setattr(attention.fresh, "run", in_this_process)
  return attention.measured(list(backends.NAMES), repeats=2, **SIZES)


def test_each_back_end_is_measured_or_left_out_with_a_reason(found):
  assert list(found["back_ends"]) == ["xla", "chunked"]
  assert {name: why.split(",")[0] for name, why in found["left_out"].items()
          } == {"fused": "a kernel for TPUs", "splash": "a kernel for TPUs",
                "cudnn": "there is no GPU"}
  assert (found["dtype"], found["device"]) == ("float32", "cpu")


def test_rates_follow_from_flops_and_the_quickest_call(found):
  for cost in found["back_ends"].values():
    assert len(cost["seconds_all"]) == 2
    assert cost["seconds"] == min(cost["seconds_all"]) > 0
    rate = 12 * 2 * 19 * 19 * 2 * 8 / cost["seconds"]
    assert cost["gflops"] == pytest.approx(rate / 1e9)
    assert cost["peak_bytes"] >= 0


def test_differences_are_those_of_rounding(found):
  assert found["back_ends"]["xla"]["difference"] == 0
  assert found["back_ends"]["chunked"]["difference"] < 1e-5


def test_flops_are_those_of_all_products_forward_and_backward():
  inputs = attention.make_inputs(**SIZES)
  run = lambda q, k, v, grad, mask: jax.vjp(
      lambda *x: backends.xla(*x, mask, False), q, k, v)[1](grad)
  assert attention.flops(**SIZES) == flops.matmul_flops(run, *inputs)


@pytest.mark.parametrize("wrong, least", [
    (lambda out, q, k, v: 1.5 * out, 0.4),                     # all of it
    (lambda out, q, k, v: out + 0.1 * (v - jax.lax.stop_gradient(v)), 0.01)],
    ids=["result", "gradient alone"])
def test_a_back_end_that_computes_something_else_is_seen(
    monkeypatch, wrong, least):
  monkeypatch.setitem(backends.NAMES, "chunked", lambda q, k, v, *rest: wrong(
      backends.xla(q, k, v, *rest), q, k, v))
  found = attention.compared(["xla", "chunked"], **SIZES)
  assert found["difference"]["chunked"] > least


def test_others_are_compared_with_the_first_that_runs(monkeypatch):
  monkeypatch.setitem(backends.NAMES, "xla", lambda q, k, v, *rest: 2.0 *
                      backends.chunked(q, k, v, *rest))
  found = attention.compared(["splash", "chunked", "xla"], **SIZES)
  assert found["difference"] == {"chunked": 0.0, "xla": 1.0}


def test_the_last_tokens_of_the_last_group_are_padding():
  mask = np.asarray(attention.make_inputs(**SIZES)[-1])
  assert mask[0].all() and mask[1].tolist() == [True] * 17 + [False] * 2


def test_memory_is_that_of_the_device_where_it_has_its_own(monkeypatch):
  taken = iter([{"bytes_in_use": 100, "peak_bytes_in_use": 900},
                {"bytes_in_use": 300, "peak_bytes_in_use": 950}])
  monkeypatch.setattr(attention._Peak, "_stats", lambda self: next(taken))
  assert attention._Peak().above() == 850


def test_memory_of_a_processor_is_that_of_the_process(monkeypatch):
  monkeypatch.setattr(attention.fresh.Peak, "above", lambda self: 7)
  assert attention._Peak().above() == 7


def test_an_unknown_back_end_is_told_with_those_that_there_are():
  with pytest.raises(UserError, match="no back-end 'flash'.*xla.*cudnn"):
    attention.measured(["xla", "flash"], repeats=1, **SIZES)
