"""Attention for TPU on arrays [G, T, C], heads side by side in the last axis.

    s = q_h k_h^T / sqrt(F),  p = softmax(s),  o_h = p v_h       for each head h

Keys and values of a group stay in fast memory as a whole, so every row of
logits is there at once and the softmax is the plain one. Nothing of the size
of queries x keys is written to memory, nor what normalises a row: a column
of numbers takes as much memory as a tile is wide. The backward pass makes
logits and softmax again, once:

    dv = p^T do,  ds = p (do v^T - rowsum(do o)),  dq = ds k,  dk = ds^T q

A tile of 128 lanes holds 128 / F heads. They are told apart by masking lanes of
one factor: the matrix unit is 128 wide and takes no longer for it, while no
head is ever copied out, transposed or padded, which is what attention over
[G, A, T, F] costs most.

References: Dao et al. 2022, https://arxiv.org/abs/2205.14135 for recomputing
the logits in the backward pass; the kernels are our own.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from itemclip_jax.ops.attention_backends import chip
from itemclip_jax.ops.keeping import kept
from itemclip_jax.parallel.tpu import FAST_MEMORY

_LANES = 128
_HIDDEN = -0.7 * float(jnp.finfo(jnp.float32).max)  # finite after subtraction
_QUERIES = 256      # rows at a time, of groups that are not long
_LONG = 4096        # keys, beyond which fewer rows leave room for them
_SHORT = 1 << 20    # bytes of keys that a program may hold for several tiles
_SHARE = 0.75       # of the fast memory that a kernel may ask for


def fits(queries: int, keys: int, num_heads: int, head_width: int,
         device_kind: str) -> bool:
  """Whether the kernels take arrays of this size on a chip of this kind."""
  width = num_heads * head_width
  most = _SHARE * FAST_MEMORY.get(device_kind, 0)
  return (_LANES % head_width == 0 and width % _LANES == 0 and
          _bytes_held(_rows(queries, keys), keys, _LANES) <= 0.8 * most)


def _rows(queries: int, keys: int) -> int:
  """Queries of one program."""
  return min(queries, _QUERIES if keys <= _LONG else _QUERIES // 2)


def _bytes_held(rows: int, keys: int, lanes: int) -> int:
  """By the backward kernel: its inputs and outputs, twice, sums in float32, and
  four matrices of logits."""
  return keys * lanes * (2 * 4 * 2 + 2 * 4) + rows * keys * 4 * 4


def _tile_lanes(keys: int, width: int) -> int:
  """Lanes of one program: all where groups are short, else one tile."""
  return width if keys * width * 2 <= _SHORT else _LANES


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def attend(
    query: jax.Array,    # [G, Q, C]
    key: jax.Array,      # [G, N, C]
    value: jax.Array,    # [G, N, C]
    mask: jax.Array,     # [G, N] bool, False = padding
    num_heads: int,
    causal: bool = False,    # query i sees keys 0 .. i only
    interpret: bool = False,
) -> jax.Array:          # [G, Q, C]
  """See the header; `fits` tells what it takes."""
  return _forward(query, key, value, mask, num_heads, causal, interpret)[0]


def _forward(query, key, value, mask, num_heads, causal, interpret):
  sizes = _Sizes(query, key, num_heads, causal)
  out = kept(_call_forward(sizes, query, key, value, mask, interpret),
             "attention")
  return out, (query, key, value, mask, out)


def _backward(num_heads, causal, interpret, residuals, grad):
  sizes = _Sizes(*residuals[:2], num_heads, causal)
  *gradients, = _call_backward(sizes, *residuals, grad, interpret)
  return (*gradients, None)


attend.defvjp(_forward, _backward)


class _Sizes:
  """Blocks and grid of both kernels."""

  def __init__(self, query, key, num_heads, causal):
    self.causal = causal
    self.groups, self.queries, self.width = query.shape
    self.keys = key.shape[1]
    self.head_width = self.width // num_heads
    self.lanes = _tile_lanes(self.keys, self.width)
    # A block of fewer rows than all must be a multiple of 16 of them.
    self.rows = _rows(self.queries, self.keys)
    self.grid = (self.groups, self.width // self.lanes,
                 pl.cdiv(self.queries, self.rows))
    self.of_queries = pl.BlockSpec(
        (1, self.rows, self.lanes), lambda g, c, i: (g, i, c))
    self.of_keys = pl.BlockSpec(
        (1, self.keys, self.lanes), lambda g, c, i: (g, 0, c))
    self.of_mask = pl.BlockSpec((1, 1, self.keys), lambda g, c, i: (g, 0, 0))

  def options(self, interpret, matmuls, kept, itemsize):
    """Of `pallas_call`: order of the grid, memory, and what it costs."""
    pairs = self.groups * self.queries * self.keys
    rows = self.groups * self.width * itemsize
    return dict(
        grid=self.grid, interpret=interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=int(_SHARE * FAST_MEMORY.get(chip(), 0)) or None),
        cost_estimate=pl.CostEstimate(
            flops=2 * matmuls * pairs * self.width,
            transcendentals=pairs * self.width // self.head_width,
            bytes_accessed=rows * (kept * self.queries + kept * self.keys)))

  def tiles(self):
    """The lanes of every tile of a program."""
    return [slice(first, first + _LANES)
            for first in range(0, self.lanes, _LANES)]

  def seen(self, mask_ref):
    """bool [1 or rows, keys]: what the queries of a program see."""
    keep = mask_ref[0] != 0
    if not self.causal:
      return keep
    at = lambda axis: jax.lax.broadcasted_iota(
        jnp.int32, (self.rows, self.keys), axis)
    return keep & (at(1) <= at(0) + pl.program_id(2) * self.rows)

  @property
  def heads(self):
    """Numbers of the heads within a tile."""
    return range(_LANES // self.head_width)


def _own_lanes(x, head, head_width):
  """`x` with zeros in the lanes of other heads."""
  lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
  return jnp.where(lane // head_width == head, x, jnp.zeros((), x.dtype))


def _product(a, b, axis: int):
  """Sums over the same axis of both, in float32."""
  return jax.lax.dot_general(a, b, (((axis,), (axis,)), ((), ())),
                             preferred_element_type=jnp.float32)


def _softmax(q, k, keep, scale):
  """float32 [rows, keys] of one head, whose lanes alone q holds."""
  s = jnp.where(keep, _product(q, k, 1) * scale, _HIDDEN)
  p = jnp.exp(s - jnp.max(s, axis=1, keepdims=True))
  return p / jnp.sum(p, axis=1, keepdims=True)


def _call_forward(sizes, query, key, value, mask, interpret):
  of_q, of_k = sizes.of_queries, sizes.of_keys
  return pl.pallas_call(
      functools.partial(_forward_kernel, sizes),
      out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
      in_specs=[of_q, of_k, of_k, sizes.of_mask], out_specs=of_q,
      **sizes.options(interpret, 2, 2, query.dtype.itemsize),
  )(query, key, value, mask[:, None].astype(jnp.int32))


def _forward_kernel(sizes, q_ref, k_ref, v_ref, mask_ref, out_ref):
  keep, scale = sizes.seen(mask_ref), sizes.head_width ** -0.5
  for lanes in sizes.tiles():
    q, k, v = (ref[0, :, lanes] for ref in (q_ref, k_ref, v_ref))
    out = jnp.zeros(q.shape, jnp.float32)
    for head in sizes.heads:
      own = lambda x: _own_lanes(x, head, sizes.head_width)
      p = _softmax(own(q), k, keep, scale).astype(v.dtype)
      out += own(jnp.dot(p, v, preferred_element_type=jnp.float32))
    out_ref[0, :, lanes] = out.astype(out_ref.dtype)


def _call_backward(sizes, query, key, value, mask, out, grad, interpret):
  of_q, of_k = sizes.of_queries, sizes.of_keys
  return pl.pallas_call(
      functools.partial(_backward_kernel, sizes),
      out_shape=tuple(jax.ShapeDtypeStruct(x.shape, x.dtype)
                      for x in (query, key, value)),
      in_specs=[of_q, of_k, of_k, sizes.of_mask, of_q, of_q],
      out_specs=(of_q, of_k, of_k),
      scratch_shapes=[pltpu.VMEM((sizes.keys, sizes.lanes), jnp.float32)] * 2,
      **sizes.options(interpret, 5, 4, query.dtype.itemsize),
  )(query, key, value, mask[:, None].astype(jnp.int32), out, grad)


def _backward_kernel(sizes, q_ref, k_ref, v_ref, mask_ref, out_ref, grad_ref,
                     dq_ref, dk_ref, dv_ref, dk_sum, dv_sum):
  block = pl.program_id(2)

  @pl.when(block == 0)
  def _():
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)

  keep, scale = sizes.seen(mask_ref), sizes.head_width ** -0.5
  # Rows of the last block that lie beyond the queries hold anything.
  left = sizes.queries - block * sizes.rows
  real = jax.lax.broadcasted_iota(jnp.int32, (sizes.rows, 1), 0) < left
  clean = lambda x: jnp.where(real, x, jnp.zeros((), x.dtype))
  for lanes in sizes.tiles():
    k, v = k_ref[0, :, lanes], v_ref[0, :, lanes]
    q, out, grad = (clean(ref[0, :, lanes])
                    for ref in (q_ref, out_ref, grad_ref))
    of_out = grad.astype(jnp.float32) * out.astype(jnp.float32)
    dq = jnp.zeros(q.shape, jnp.float32)
    for head in sizes.heads:
      own = lambda x: _own_lanes(x, head, sizes.head_width)
      q_h, grad_h = own(q), own(grad)   # 0 in rows that are not real
      p = _softmax(q_h, k, keep, scale)
      dv_sum[:, lanes] += _product(p.astype(grad.dtype), grad_h, 0)
      inner = jnp.sum(own(of_out), axis=1, keepdims=True)
      ds = (p * (_product(grad_h, v, 1) - inner) * scale).astype(q.dtype)
      dq += own(jnp.dot(ds, k, preferred_element_type=jnp.float32))
      dk_sum[:, lanes] += _product(ds, q_h, 0)
    dq_ref[0, :, lanes] = dq.astype(dq_ref.dtype)

  @pl.when(block == pl.num_programs(2) - 1)
  def _():
    dk_ref[0] = dk_sum[...].astype(dk_ref.dtype)
    dv_ref[0] = dv_sum[...].astype(dv_ref.dtype)
