"""Self-attention for TPU on one array [G, T, 3 C] of queries, keys and values.

    s = q_h k_h^T / sqrt(F),  p = softmax(s),  o_h = p v_h       for each head h

Keys and values of a group stay in fast memory as a whole, so every row of
logits is there at once and the softmax is the plain one. Nothing of the size
of queries x keys is written to memory, nor what normalises a row: a column
of numbers takes as much memory as a tile is wide. The backward pass makes
logits and softmax again, once:

    dv = p^T do,  ds = p (do v^T - rowsum(do o)),  dq = ds k,  dk = ds^T q

One product makes all three, a tile of 128 lanes of each after the other
(`attention_backends.packed`), and takes the gradient back in the same order: a program that works
on a tile of heads finds what it needs side by side, and so does the product.

A tile holds 128 / F heads. They are told apart by masking lanes of one factor:
the matrix unit is 128 wide and takes no longer for it, while no head is ever
copied out, transposed or padded, which is what attention over [G, A, T, F]
costs most.

References: Dao et al. 2022, https://arxiv.org/abs/2205.14135 for recomputing
the logits in the backward pass; the kernels are our own.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from itemclip_jax.ops.attention_backends import chip, LANES
from itemclip_jax.ops.keeping import kept
from itemclip_jax.parallel.tpu import FAST_MEMORY

_SUBLANES = 16      # of a tile in half precision; blocks of rows begin with one
_HIDDEN = -0.7 * float(jnp.finfo(jnp.float32).max)  # finite after subtraction
_LOGITS = 20 << 20  # bytes of four matrices of logits, of rows at a time
_SHORT = 1 << 20    # bytes of keys that a program may hold for several tiles
_SHARE = 0.75       # of the fast memory that a kernel may ask for


def fits(tokens: int, num_heads: int, head_width: int, device_kind: str
         ) -> bool:
  """Whether the kernels take groups of this size on a chip of this kind."""
  width = num_heads * head_width
  most = _SHARE * FAST_MEMORY.get(device_kind, 0)
  return (LANES % head_width == 0 and width % LANES == 0 and
          _bytes_held(tokens, LANES) <= 0.8 * most)


def _rows(tokens: int) -> int:
  """Queries at a time: all, or a divisor of all if there is a good one."""
  most = _LOGITS // (16 * tokens)
  if tokens <= most:
    return tokens
  most = max(most // _SUBLANES, 1) * _SUBLANES
  whole = max((n for n in range(_SUBLANES, most + 1, _SUBLANES)
               if tokens % n == 0), default=0)
  return whole if whole > most // 2 else most


def _bytes_held(tokens: int, lanes: int) -> int:
  """By the backward kernel: queries, keys, values and their gradients twice,
  sums in float32, and four matrices of logits."""
  return tokens * lanes * (2 * 3 * 2 * 2 + 2 * 4) + _rows(tokens) * tokens * 16


def _tile_lanes(tokens: int, width: int) -> int:
  """Lanes of one program: all where groups are short, else one tile."""
  return width if tokens * width * 2 <= _SHORT else LANES


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def attend(
    qkv: jax.Array,      # [G, T, 3 C], see `attention_backends.packed`
    mask: jax.Array,     # [G, T] bool, False = padding
    num_heads: int,
    causal: bool = False,    # query i sees keys 0 .. i only
    interpret: bool = False,
) -> jax.Array:          # [G, T, C]
  """See the header; `fits` tells what it takes."""
  return _forward(qkv, mask, num_heads, causal, interpret)[0]


def _forward(qkv, mask, num_heads, causal, interpret):
  sizes = _Sizes(qkv, num_heads, causal)
  out = kept(_call_forward(sizes, qkv, mask, interpret), "attention")
  return out, (qkv, mask, out)


def _backward(num_heads, causal, interpret, residuals, grad):
  sizes = _Sizes(residuals[0], num_heads, causal)
  return _call_backward(sizes, *residuals, grad, interpret), None


attend.defvjp(_forward, _backward)


class _Sizes:
  """Blocks and grid of both kernels."""

  def __init__(self, qkv, num_heads, causal):
    self.causal = causal
    self.groups, self.tokens, width = qkv.shape
    self.width = width // 3
    self.head_width = self.width // num_heads
    self.lanes = _tile_lanes(self.tokens, self.width)
    self.rows = _rows(self.tokens)
    blocks = pl.cdiv(self.tokens, self.rows)
    # Rows of the last block that lie beyond the tokens hold anything.
    self.held = blocks * self.rows
    self.grid = (self.groups, self.width // self.lanes, blocks)
    self.of_all = pl.BlockSpec(
        (1, self.held, 3 * self.lanes), lambda g, c, i: (g, 0, c))
    self.of_rows = pl.BlockSpec(
        (1, self.rows, self.lanes), lambda g, c, i: (g, i, c))
    self.of_mask = pl.BlockSpec((1, 1, self.held), lambda g, c, i: (g, 0, 0))

  def options(self, interpret, matmuls, arrays, itemsize):
    """Of `pallas_call`: order of the grid, memory, and what it costs."""
    pairs = self.groups * self.tokens ** 2
    return dict(
        grid=self.grid, interpret=interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=int(_SHARE * FAST_MEMORY.get(chip(), 0)) or None),
        cost_estimate=pl.CostEstimate(
            flops=2 * matmuls * pairs * self.width,
            transcendentals=pairs * self.width // self.head_width,
            bytes_accessed=(arrays * self.groups * self.tokens * self.width *
                            itemsize)))

  def of(self, mask):
    """int32 [G, 1, held], as a kernel reads it; False beyond the tokens."""
    beyond = self.held - self.tokens
    return jnp.pad(mask, ((0, 0), (0, beyond)))[:, None].astype(jnp.int32)

  def tiles(self):
    """Lanes of every tile of a program: of one array, and of the three."""
    for first in range(0, self.lanes, LANES):
      places = range(3 * first, 3 * (first + LANES), LANES)
      yield slice(first, first + LANES), [slice(n, n + LANES) for n in places]

  def own_rows(self):
    """Those of a program."""
    if self.rows == self.held:
      return slice(None)
    first = pl.program_id(2) * self.rows
    return pl.ds(pl.multiple_of(first, _SUBLANES), self.rows)

  def real(self, x, first=0):
    """`x` with zeros in rows beyond the tokens, counted from `first`."""
    if self.held == self.tokens:
      return x
    row = first + jax.lax.broadcasted_iota(jnp.int32, (len(x), 1), 0)
    return jnp.where(row < self.tokens, x, jnp.zeros((), x.dtype))

  def seen(self, mask_ref):
    """bool [1 or rows, keys]: what the queries of a program see."""
    keep = mask_ref[0] != 0
    if not self.causal:
      return keep
    at = lambda axis: jax.lax.broadcasted_iota(
        jnp.int32, (self.rows, self.held), axis)
    return keep & (at(1) <= at(0) + pl.program_id(2) * self.rows)

  @property
  def heads(self):
    """Numbers of the heads within a tile."""
    return range(LANES // self.head_width)


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


def _call_forward(sizes, qkv, mask, interpret):
  out = (sizes.groups, sizes.tokens, sizes.width)
  return pl.pallas_call(
      functools.partial(_forward_kernel, sizes),
      out_shape=jax.ShapeDtypeStruct(out, qkv.dtype),
      in_specs=[sizes.of_all, sizes.of_mask], out_specs=sizes.of_rows,
      **sizes.options(interpret, 2, 4, qkv.dtype.itemsize),
  )(qkv, sizes.of(mask))


def _forward_kernel(sizes, qkv_ref, mask_ref, out_ref):
  keep, scale = sizes.seen(mask_ref), sizes.head_width ** -0.5
  for lanes, (of_q, of_k, of_v) in sizes.tiles():
    q = qkv_ref[0, sizes.own_rows(), of_q]
    k, v = (sizes.real(qkv_ref[0, :, own]) for own in (of_k, of_v))
    out = jnp.zeros(q.shape, jnp.float32)
    for head in sizes.heads:
      own = lambda x: _own_lanes(x, head, sizes.head_width)
      p = _softmax(own(q), k, keep, scale).astype(v.dtype)
      out += own(jnp.dot(p, v, preferred_element_type=jnp.float32))
    out_ref[0, :, lanes] = out.astype(out_ref.dtype)


def _call_backward(sizes, qkv, mask, out, grad, interpret):
  return pl.pallas_call(
      functools.partial(_backward_kernel, sizes),
      out_shape=jax.ShapeDtypeStruct(qkv.shape, qkv.dtype),
      in_specs=[sizes.of_all, sizes.of_mask, sizes.of_rows, sizes.of_rows],
      out_specs=sizes.of_all,
      scratch_shapes=[pltpu.VMEM((sizes.held, sizes.lanes), jnp.float32)] * 2,
      **sizes.options(interpret, 5, 8, qkv.dtype.itemsize),
  )(qkv, sizes.of(mask), out, grad)


def _backward_kernel(sizes, qkv_ref, mask_ref, out_ref, grad_ref, dqkv_ref,
                     dk_sum, dv_sum):
  block = pl.program_id(2)

  @pl.when(block == 0)
  def _():
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)

  keep, scale = sizes.seen(mask_ref), sizes.head_width ** -0.5
  rows = sizes.own_rows()
  real = functools.partial(sizes.real, first=block * sizes.rows)
  for lanes, (of_q, of_k, of_v) in sizes.tiles():
    k, v = (sizes.real(qkv_ref[0, :, own]) for own in (of_k, of_v))
    q = real(qkv_ref[0, rows, of_q])
    out, grad = (real(ref[0, :, lanes]) for ref in (out_ref, grad_ref))
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
    dqkv_ref[0, rows, of_q] = dq.astype(dqkv_ref.dtype)

  @pl.when(block == pl.num_programs(2) - 1)
  def _():
    for lanes, (_, of_k, of_v) in sizes.tiles():
      dqkv_ref[0, :, of_k] = dk_sum[:, lanes].astype(dqkv_ref.dtype)
      dqkv_ref[0, :, of_v] = dv_sum[:, lanes].astype(dqkv_ref.dtype)
