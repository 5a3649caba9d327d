"""Which items each image is contrasted with, drawn as a pure function.

Image i's candidates are its own K slots and, from every other image, one item
drawn uniformly among the real ones. With `groups = W` the batch is W virtual
ranks of b = B / W rows, as in the published multi-device code: an image draws
inside its rank only, and takes over, from the image in the same row of every
other rank, that image's whole list (its K own slots and its b - 1 draws), so

    J = W (K + b - 1).

An image without items has no positive and is never drawn as a negative (the
published code contrasts all others with its padding text).

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from itemclip_jax.ops.hashing import mix, threshold
class Candidates(NamedTuple):
  """The texts each image is compared with."""
  index: jax.Array   # [B, J] int32, rows of the B K flattened items
  sign: jax.Array    # [B, J] +1 own item, -1 another image's
  weight: jax.Array  # [B, J] bool, False = padding or two normal studies


def no_negatives(
    normal: jax.Array,        # [B] bool
    example_mask: jax.Array,  # [B] bool, False = padding
    normal_check: bool,
) -> jax.Array:               # [B, B] bool
  """True for pairs of different studies that are not contrasted.

  These are two normal studies, and all pairs with a padded example.
  """
  pair = normal[:, None] & normal & normal_check
  padded = ~(example_mask[:, None] & example_mask)
  return (pair | padded) & ~jnp.eye(len(normal), dtype=bool)


def draw_offsets(
    rng: jax.Array,
    num_items: jax.Array,   # [B] int, real items of each image
) -> jax.Array:             # [B, B] int32: which item image i takes from j
  """Independent uniform draws for every ordered pair of images."""
  B = len(num_items)
  u = jax.random.uniform(rng, (B, B))
  drawn = jnp.floor(u * num_items[None]).astype(jnp.int32)
  # float32: u * n can round up to n itself
  return jnp.clip(drawn, 0, jnp.maximum(num_items - 1, 0)[None])


def lists(
    offsets: jax.Array,     # [B, B] from `draw_offsets`; the diagonal is unused
    *,
    max_items: int,         # K
    groups: int = 1,
) -> jax.Array:             # [B, K + b - 1] int32
  """Each image's own slots, then its draws from the others of its group.

  Assumes that an image's real items come first in its slots.
  """
  B = offsets.shape[0]
  b = B // groups
  image = jnp.arange(B)
  own = image[:, None] * max_items + jnp.arange(max_items)
  first = image // b * b
  other = first[:, None] + (image[:, None] + jnp.arange(1, b)) % b  # [B, b-1]
  drawn = other * max_items + jnp.take_along_axis(offsets, other, axis=1)
  return jnp.concatenate([own, drawn], axis=1).astype(jnp.int32)


def exchange(
    index: jax.Array,       # [B, L] each image's list, from `lists`
    item_mask: jax.Array,   # [B, K] bool
    excluded: jax.Array,    # [B, B] bool, from `no_negatives`
    *,
    groups: int = 1,
) -> Candidates:
  """Adds the lists of the same row in every other group, signs and weights.

  A padded example gets no weight, neither as image nor as text, if its items
  are masked and its pairs excluded.
  """
  B, K = item_mask.shape
  b = B // groups
  image = jnp.arange(B)
  partner = (image[:, None] + b * jnp.arange(groups)) % B      # [B, W]
  index = index[partner].reshape(B, -1)                        # [B, J]
  study = index // K
  own = study == image[:, None]
  real = item_mask.reshape(-1)[index]
  left_out = jnp.take_along_axis(excluded, study, axis=1)
  weight = real & ~left_out
  return Candidates(index, jnp.where(own, 1, -1), weight)


def keep_function(
    rng: jax.Array,
    drop_rate: float,
    *,
    num_heads: int,         # A
    num_tokens: int,        # N
):
  """Returns `keep(images, start, size)`: which tokens some candidates may see.

  Every bit is a hash of (key, image, head, candidate, token), so that neither
  blocks nor devices change a draw.
  """
  seed = jax.random.bits(rng, (2,), jnp.uint32)
  least = threshold(drop_rate)

  def keep(seed, images, start, size):            # bool [b, A, size, N]
    image = images.astype(jnp.uint32)[:, None, None]
    head = jnp.arange(num_heads, dtype=jnp.uint32)[:, None]
    candidate = jnp.arange(size, dtype=jnp.uint32) + jnp.asarray(
        start, jnp.uint32)
    row = mix(mix(seed[0] ^ mix(image * num_heads + head)) ^ candidate)
    token = jnp.arange(num_tokens, dtype=jnp.uint32)
    return mix(row[..., None] ^ mix(seed[1] ^ token)) >= least

  return jax.tree_util.Partial(keep, seed)
