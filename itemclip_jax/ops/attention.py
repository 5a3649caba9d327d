"""Scaled dot-product attention, and the softmax with a slot for "nothing".

    softmax0(x)_n = exp(x_n) / (1 + sum_m exp(x_m))

is the softmax over `[x; 0]` without its last entry: a query that matches no
token leaves its weight in the extra slot, whose value is the zero vector.

`attend` computes one thing in several ways, which `attention_backends` holds:

    xla      all logits at once; any device, and the reference
    chunked  a block of queries at a time; any device, memory of one block
    fused    own TPU kernels for self-attention that fits in fast memory; they
             take queries, keys and values as one product (`attend_packed`)
    splash   JAX's TPU kernel, keys in blocks as well: any length
    cudnn    NVIDIA's kernel, in half precision

"auto" takes what suits the platform and the size of each call.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (zero attention of
the item cross-attention); Vaswani et al. 2017 for the rest.
"""

import contextlib
import contextvars

import jax
import jax.numpy as jnp

from itemclip_jax.ops import attention_backends as backends
from itemclip_jax.ops.attention_backends import wide

_MOST_LOGITS = 1 << 29       # of a device, 2 GiB in float32
_SHORT = 64                  # tokens, of which all logits are no burden

# (name or "auto", platform; "" = of the default device), of what is traced.
_CHOSEN = contextvars.ContextVar("attention", default=("auto", ""))


@contextlib.contextmanager
def using(name: str = "auto", platform: str = ""):
  """What is traced within it takes this back-end.

  Args:
    name: of `backends.NAMES`, or "auto".
    platform: that the program is compiled for; "" = of the default device.
  """
  token = _CHOSEN.set((name, platform))
  try:
    yield
  finally:
    _CHOSEN.reset(token)


def describe(name: str) -> str:
  """What `name` comes to on this machine, for the log."""
  platform = jax.default_backend()
  if name != "auto":
    return f"attention: {name}"
  if platform == "tpu":
    return "attention: fused and splash kernels, xla for short groups"
  if platform == "gpu":
    reason = backends.cudnn_fault()
    return (f"attention: xla and chunked, for cudnn does not run ({reason})"
            if reason else "attention: cudnn, xla in float32")
  return "attention: xla, chunked where logits are many"


def attend(
    query: jax.Array,              # [G, Q, A, F]
    key: jax.Array,                # [G, N, A, F]
    value: jax.Array,              # [G, N, A, F]
    mask: jax.Array | None = None,  # [G, N] bool, False = padding
    *,
    causal: bool = False,          # query i sees keys 0 .. i only
) -> jax.Array:                    # [G, Q, A, F]
  """Self- or cross-attention inside each group; softmax in float32 or wider.

  A group whose tokens are all padding attends to them evenly or not at all:
  finite, and for the caller to ignore.
  """
  name, platform = _CHOSEN.get()
  if name == "auto":
    name = _suited(query, key, causal, platform or jax.default_backend())
  return backends.NAMES[name](query, key, value, mask, causal)


def takes_packed(groups: int, tokens: int, num_heads: int, head_width: int,
                 dtype, causal: bool = False) -> bool:
  """Whether self-attention of this size wants `attend_packed`."""
  name, platform = _CHOSEN.get()
  if name == "auto":
    x = jax.ShapeDtypeStruct((groups, tokens, num_heads, head_width), dtype)
    name = _suited(x, x, causal, platform or jax.default_backend())
  return name == "fused"


def attend_packed(
    qkv: jax.Array,                # [G, T, 3 A F], by `backends.packed`
    mask: jax.Array | None,        # [G, T] bool, False = padding
    num_heads: int,                # A
    causal: bool = False,
) -> jax.Array:                    # [G, T, A F]
  """`attend` on what one product made, where `takes_packed`."""
  return backends.fused_packed(qkv, mask, num_heads, causal)


def _suited(query, key, causal: bool, platform: str) -> str:
  """The back-end for one call."""
  G, Q, A, F = query.shape
  N = key.shape[1]
  devices = max(1, jax.sharding.get_abstract_mesh().size)
  many = G * A * Q * N > _MOST_LOGITS * devices
  kernels = query.dtype.itemsize <= 4 and G % devices == 0
  if platform == "tpu" and kernels and N > _SHORT:
    # pylint: disable=g-import-not-at-top
    from itemclip_jax.ops import fused_attention, splash_attention
    if Q == N and fused_attention.fits(N, A, F, backends.chip()):
      return "fused"
    if splash_attention.fits(F) and not causal:
      return "splash"
  if (platform in ("gpu", "cuda") and kernels and query.dtype.itemsize == 2
      and not backends.cudnn_fault()):
    return "cudnn"
  return "chunked" if many else "xla"


def softmax_zero_slot(
    logits: jax.Array,        # [..., N]
    keep: jax.Array | None,   # broadcasts to [..., N] bool, False = excluded
) -> jax.Array:               # [..., N]
  """Softmax over the kept entries and one extra logit 0, which is cut off."""
  if keep is not None:
    logits = jnp.where(keep, logits, -jnp.inf)
  top = jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), 0.0)
  top = jax.lax.stop_gradient(top)  # a common shift changes no weight
  weights = jnp.exp(logits - top)
  return weights / (weights.sum(-1, keepdims=True) + jnp.exp(-top))


def softmax_gradient(weights: jax.Array, toward: jax.Array) -> jax.Array:
  """By the logits, of either softmax over the last axis: w (dw - sum w dw)."""
  mean = jnp.sum(weights * toward, axis=-1, keepdims=True)
  return weights * (toward - mean)
