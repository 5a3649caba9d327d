"""Equal blocks as one loop, and what of a block is kept for its backward pass.

A tower of twelve blocks compiles one block, or one round of blocks that differ,
and loops over their stacked parameters. Parameters keep the names and shapes of
the unrolled tower: stacking is a copy at the start of a step.
"""

from collections.abc import Callable, Sequence
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


def rounds(kinds: Sequence) -> int:
  """Blocks of the shortest round that `kinds` is a repetition of."""
  depth = len(kinds)
  return next(p for p in range(1, depth + 1) if depth % p == 0 and
              list(kinds) == list(kinds[:p]) * (depth // p))


def loop(
    apply: Callable,      # (carry, inputs of each block of a round) -> carry
    carry,
    inputs: Sequence,     # of every block: trees of equal structure
    *,
    size: int,            # blocks of a round
):
  """Runs all blocks, a round at a time."""
  stacked = tuple(
      jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs[place::size])
      for place in range(size))

  return jax.lax.scan(lambda carry, own: (apply(carry, own), None), carry,
                      stacked)[0]


def blocks(
    parent: nn.Module,
    make: Callable,       # (drop_path) -> a block without parent
    attend: Callable,     # (blocks of a round, carry) -> carry; block(x, mask)
    carry,
    *,
    depth: int,
    size: int,            # blocks of a round
    drop_path: float,     # of the last block; grows linearly from 0
    train: bool,
    remat: bool,
    keeps: Sequence[str] = (),
    dtype=None,
):
  """The blocks block0, block1 ... of a tower that has been initialised."""
  drops = train and drop_path > 0
  keys = jax.random.split(
      parent.make_rng("dropout") if drops else jax.random.key(0), depth)
  inputs = [
      (for_matmuls(parent.get_variable("params", f"block{i}"), dtype),
       jnp.float32(drop_path * i / max(depth - 1, 1)), keys[i])
      for i in range(depth)]

  def block_of(params, rate, key):
    block = make(rate if drops else 0.0)

    def attended(x, mask):
      # What is kept is a plain matrix, as the block wants it: of groups, a
      # TPU's compiler would turn it around and back.
      run = lambda params, flat: block.apply(
          {"params": params}, flat.reshape(x.shape), mask, train,
          rngs={"dropout": key})
      if remat:
        # Else the compiler recomputes all blocks of a round at once.
        run = jax.checkpoint(run, policy=policy(keeps), prevent_cse=size > 1)
      return run(params, x.reshape(-1, x.shape[-1]))

    return attended

  return loop(lambda carry, own: attend([block_of(*x) for x in own], carry),
              carry, inputs, size=size)


def for_matmuls(params: dict, dtype) -> dict:
  """Kernels in the type of the products: half of what is stacked and read."""
  if dtype is None:
    return params
  return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, params)


def policy(keeps: Sequence[str]):
  """Recompute all but the activations of these names (`checkpoint_name`)."""
  return jax.checkpoint_policies.save_only_these_names(*keeps)
