"""Counted flops against numbers that were counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from itemclip_jax.train import flops


def _square(n: int):
  return jax.ShapeDtypeStruct((n, n), jnp.float32)


def test_a_product_costs_two_flops_per_element_and_contracted_index():
  left = jax.ShapeDtypeStruct((5, 2, 3, 7), jnp.float32)
  right = jax.ShapeDtypeStruct((5, 7, 4), jnp.float32)
  count = flops.matmul_flops(
      lambda x, y: jnp.einsum("gabn,gnc->gabc", x, y), left, right)
  assert count == 2 * 5 * 2 * 3 * 7 * 4


def test_nothing_but_products_counts():
  assert flops.matmul_flops(
      lambda x: jax.nn.softmax(jnp.tanh(x) + x.T).sum(), _square(8)) == 0


def test_gradients_cost_two_products_more():
  x, w = _square(4), _square(4)
  loss = lambda w, x: jnp.sum(jnp.tanh(x @ w))
  one = 2 * 4**3
  assert flops.matmul_flops(jax.grad(loss), w, x) == 2 * one
  assert flops.matmul_flops(jax.grad(loss, argnums=(0, 1)), w, x) == 3 * one


def test_recomputation_counts_again():
  x, w = _square(4), _square(4)
  layer = lambda w, x: jnp.tanh(jnp.tanh(x @ w) @ w)
  plain = jax.grad(lambda w, x: layer(w, x).sum())
  again = jax.grad(lambda w, x: jax.checkpoint(layer)(w, x).sum())
  # 2 forward, 2 for the gradients of the kernel, 1 for the layer between; and
  # both forward ones again, which their tanh asks for.
  assert flops.matmul_flops(plain, w, x) == 5 * 2 * 4**3
  assert flops.matmul_flops(again, w, x) == 7 * 2 * 4**3


def test_a_loop_counts_every_turn():
  def scanned(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0]

  one = 2 * 4**3
  assert flops.matmul_flops(scanned, _square(4)) == 7 * one
  assert flops.matmul_flops(jax.jit(scanned), _square(4)) == 7 * one
  assert flops.matmul_flops(
      lambda x: jax.lax.fori_loop(0, 5, lambda _, c: c @ c, x),
      _square(4)) == 5 * one
  assert flops.matmul_flops(
      lambda x: jax.lax.map(lambda row: x @ row, x), _square(4)) == one


def test_a_loop_of_unknown_length_is_refused_only_if_it_multiplies():
  def until(body):
    return lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, body, x)

  assert flops.matmul_flops(until(lambda c: c + 1), _square(4)) == 0
  with pytest.raises(ValueError, match="while loop"):
    flops.matmul_flops(until(lambda c: c @ c), _square(4))


def test_of_branches_the_dearest_counts():
  branches = [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x]
  count = flops.matmul_flops(
      lambda i, x: jax.lax.switch(i, branches, x),
      jax.ShapeDtypeStruct((), jnp.int32), _square(4))
  assert count == 2 * 2 * 4**3


def test_functions_with_their_own_derivative_count_as_what_they_call():
  @jax.custom_vjp
  def squared(x):
    return x @ x

  squared.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g,))
  one = 2 * 4**3
  assert flops.matmul_flops(squared, _square(4)) == one
  assert flops.matmul_flops(
      jax.grad(lambda x: squared(x).sum()), _square(4)) == 3 * one


def test_convolutions_count_as_the_products_that_they_are():
  image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  kernel = jax.ShapeDtypeStruct((2, 2, 3, 5), jnp.float32)

  def patches(kernel, image):
    return jax.lax.conv_general_dilated(
        image, kernel, (2, 2), "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"))

  one = 2 * (2 * 4 * 4 * 5) * (2 * 2 * 3)
  assert flops.matmul_flops(patches, kernel, image) == one
  # Kernel and image gradients each meet the same pairs; forward is not needed.
  grads = jax.grad(lambda k, i: patches(k, i).sum(), argnums=(0, 1))
  assert flops.matmul_flops(grads, kernel, image) == 3 * one


def test_devices_of_a_mapped_function_add_up():
  mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
  mapped = jax.shard_map(lambda x: x @ x.T, mesh=mesh,
                         in_specs=jax.P("d"), out_specs=jax.P("d"))
  # Each of 4 devices multiplies its 2 rows of 8 with themselves.
  with jax.set_mesh(mesh):
    assert flops.matmul_flops(mapped, _square(8)) == 4 * 2 * 2 * 2 * 8


def test_every_program_of_a_kernel_counts():
  def kernel(x, y, out):
    out[...] = x[...] @ y[...]

  rows = pl.BlockSpec((4, 8), lambda i: (i, 0))
  called = pl.pallas_call(
      kernel, grid=(2,), out_specs=rows,
      in_specs=[rows, pl.BlockSpec((8, 8), lambda i: (0, 0))],
      out_shape=_square(8))
  assert flops.matmul_flops(called, _square(8), _square(8)) == 2 * 8**3


def test_products_are_told_apart_by_the_names_they_stand_under():
  @jax.jit
  def inner(x):
    with jax.named_scope("late"):
      return x @ x

  def fn(x):
    with jax.named_scope("early"):
      x = x @ x @ x
    with jax.named_scope("middle"):
      return inner(x).sum()

  one = 2 * 4**3
  assert flops.matmul_flops_by_scope(fn, _square(4)) == {
      "early": 2 * one, "middle/late": one}
  found = flops.matmul_flops_by_scope(jax.grad(fn), _square(4))
  assert sum(v for k, v in found.items() if "early" in k) == 6 * one
  assert sum(v for k, v in found.items() if "late" in k) == 3 * one
