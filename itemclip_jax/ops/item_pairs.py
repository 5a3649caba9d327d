"""One image against its candidate items: one query-key product feeds all.

For image i and candidate item j with query q_j, keys k_n and values v_n

    w_jn  = softmax0_n(q_j . k_n / sqrt(F))         (per head, kept tokens)
    o_j   = W_o [sum_n w_jn v_n]                     the item's pooled vector
    local = cos(o_j, t_j)                            alignment, scoring (TCSim)
    key   = cos(o'_j, t_j)                          o' pools the key tokens only
    own   = cos(o_j, t_k), k the image's own items   separation

where the key tokens of (i, j) are the `kta_rate` share of image i's real tokens
with the largest head-averaged w_jn.

`compare` works off pieces, some candidates of some images at a time, which are
recomputed in the backward pass: what memory holds of all images, candidates and
tokens is a byte, whether it is a key token, and a piece stays in the cache of a
processor.
`compare_images` projects an image's tokens within its piece as well, on every
device for its own images.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.ops import item_pooling
from itemclip_jax.ops.attention import wide
from itemclip_jax.ops.item_pooling import Tokens, recomputed
from itemclip_jax.parallel import sharding

# Attention weights of a piece: those of a CPU fit its cache, and accelerators
# want large products.
_PIECE = {"cpu": 2**20}
_LARGE_PIECE = 2**24


class Items(NamedTuple):
  """All M text items of a batch, each projected once."""
  embedding: jax.Array  # [M, E] not normalised
  query: jax.Array      # [M, A, F]


class Pairs(NamedTuple):
  """Cosines of each image's J candidates."""
  local: jax.Array             # [B, J] pooled over the kept tokens
  key: jax.Array | None        # [B, J] pooled over the key tokens
  own: jax.Array               # [B, J, K] candidate j's pooled vector, item k


class Layer(NamedTuple):
  """An attention layer as functions of its parameters."""
  items: Callable       # (params, [M, E]) -> Items
  tokens: Callable      # (params, [b, N, E], [b, N] bool) -> Tokens
  out: Callable         # (params, [b, j, A, F]) -> [b, j, E]


# `keep(images, start, size)` returns bool [b, A, size, N]: which tokens of the
# images [b] each head of the candidates start .. start + size - 1 may see.
# Where it holds arrays it is a tree of them, as `jax.tree_util.Partial` is.
KeepFn = Callable[[jax.Array, jax.Array, int], jax.Array]

attention_weights, pool = item_pooling.attention_weights, item_pooling.pool


def unit(x: jax.Array) -> jax.Array:
  """L2-normalises the last axis in float32 or wider; zero stays zero."""
  x = wide(x)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def compare_images(
    layer: Layer,
    params,                         # of `layer`
    items: jax.Array,               # [B K, E] embeddings
    tokens: jax.Array,              # [B, N, E]
    token_mask: jax.Array,          # [B, N] bool
    candidates: jax.Array,          # [B, J] int, rows of `items`
    *,
    keep: jax.Array | KeepFn | None = None,
    **settings,                     # of `compare`
) -> Pairs:
  """`compare` with all projections, on every device for its own images.

  Devices exchange the embeddings of items, and the gradients of these and of
  the parameters, once each.
  """
  bits, keep = (None, keep) if callable(keep) else (keep, None)

  def own_rows(images, tokens, candidates, bits, items, params, keep):
    return compare(
        layer.items(params, items), tokens, candidates,
        lambda pooled: layer.out(params, pooled), images=images,
        project=lambda some: layer.tokens(params, *some),
        keep=keep if bits is None else bits, **settings)

  return sharding.over_rows(own_rows, num_whole=3)(
      jnp.arange(len(candidates)), (tokens, token_mask), candidates, bits,
      items, params, keep)


def compare(
    items: Items,
    tokens: Tokens | tuple,         # what `project` takes; the mask is last
    candidates: jax.Array,          # [B, J] int, rows of `items`
    out: Callable[[jax.Array], jax.Array],  # [B, J, A, F] -> [B, J, E]
    *,
    num_own: int,                   # K; image i owns items i K .. i K + K - 1
    kta_rate: float | None = None,  # None: no key tokens
    keep: jax.Array | KeepFn | None = None,  # [B, A, J, N] bool, or a function
    block: int = 0,                 # candidates at a time; see `_sizes`
    project: Callable[[tuple], Tokens] | None = None,  # of some images
    images: jax.Array | None = None,  # [B] int, i of each row; None: 0 .. B - 1
) -> Pairs:
  """Compares every image with its candidate items; see the header."""
  B, J = candidates.shape
  items = Items(*map(jnp.asarray, items))
  bits, keep = (None, keep) if callable(keep) else (keep, None)
  A, F = items.query.shape[1:]
  num_images, size = _sizes(B, J, A * tokens[-1].shape[1], block)
  # Where heads share keys, what they pool is kept anyway, and products of
  # several images at once are slower; see `shared_keys`.
  last = F > items.embedding.shape[-1] and size == J
  num_images = 1 if last and num_images < B else num_images

  images = jnp.arange(B) if images is None else images
  candidates = jnp.asarray(candidates)
  mine = images[:, None] * num_own + jnp.arange(num_own)

  def finish(pooled, index, mine):
    text = sharding.constrain(unit(items.embedding[index]),
                              ("batch", None, "embed"))
    return _cosines(*pooled, text, unit(items.embedding[mine]), out)

  def some(rows):
    images, mine, tokens, index, bits = rows
    tokens = tokens if project is None else project(tokens)

    def part(start, index):         # index [b, j]
      query = sharding.constrain(items.query[index],
                                 ("batch", None, "heads", None))
      seen = bits
      if bits is not None:
        seen = jax.lax.dynamic_slice_in_dim(bits, start, index.shape[1], axis=2)
      elif keep is not None:
        seen = keep(images, start, index.shape[1])
      pooled = item_pooling.pooled(query, tokens, kta_rate, seen)
      return pooled if last else finish(pooled, index, mine)

    return _in_blocks(part, index, size)

  found = _in_steps(some, (images, mine, tokens, candidates, bits), num_images)
  return finish(found, candidates, mine) if last else found


def _in_steps(some: Callable, rows: tuple, num_images: int):
  """`some(rows)`, of `num_images` at a time."""
  B = len(rows[0])
  if num_images == B:
    return some(rows)
  if num_images == 1:  # without reshaping, which would copy all tokens
    found = jax.lax.map(recomputed(lambda row: some(
        jax.tree.map(lambda x: x[None], row))), rows)
  else:
    found = jax.lax.map(recomputed(some), jax.tree.map(
        lambda x: x.reshape(B // num_images, num_images, *x.shape[1:]),
        rows))
  return jax.tree.map(lambda x: x.reshape(B, *x.shape[2:]), found)


def _sizes(B: int, J: int, row: int, block: int) -> tuple[int, int]:
  """Images and candidates of a piece, for `row` weights of a pair.

  `block` candidates; 0 takes as many as a piece holds. If all go in at once
  by request, so do all images, and nothing is recomputed.
  """
  if block >= J:
    return B, J
  most = _PIECE.get(sharding.platform(), _LARGE_PIECE)
  if not block:
    block = -(-J // -(-J * row // most))
  if not sharding.rows_are_here():
    return B, block
  fit = max(1, most // (block * row))
  return max(n for n in range(1, B + 1) if B % n == 0 and n <= fit), block


def _in_blocks(part: Callable, index: jax.Array, block: int) -> Pairs:
  """`part(start, index[:, start:start + block])` of all blocks, joined."""
  J = index.shape[1]
  if block >= J:
    return part(0, index)
  num_blocks = -(-J // block)
  # The last block starts early instead of being padded: no made-up candidates.
  starts = np.minimum(np.arange(num_blocks) * block, J - block)
  blocks = jax.lax.map(recomputed(lambda s: part(
      s, jax.lax.dynamic_slice_in_dim(index, s, block, axis=1))),
      jnp.asarray(starts))
  where = np.arange(J)
  which = where // block
  within = where - starts[which]
  return jax.tree.map(
      lambda x: jnp.moveaxis(x, 0, 1)[:, which, within], blocks)


def _cosines(local, key, text, own, out) -> Pairs:
  """`Pairs` from pooled vectors [B, j, A, F]."""
  pooled = unit(out(local))                                   # [B, j, E]
  own = jnp.einsum("bje,bke->bjk", pooled, own)
  local = jnp.einsum("bje,bje->bj", pooled, text)
  if key is not None:
    key = jnp.einsum("bje,bje->bj", unit(out(key)), text)
  return Pairs(local, key, own)
