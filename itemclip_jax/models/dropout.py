"""Leaves numbers, or whole branches, out in training; the expectation stays."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.ops import hashing


class Dropout(nn.Module):
  """Leaves single numbers out, chosen by hashes of their places.

  Attributes:
    rate: probability.
  """
  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:  # [..., C]
    if not train or not self.rate:
      return x
    stays = hashing.stays(self.make_rng("dropout"), x.shape, self.rate)
    return _kept(x, stays, self.rate)


class DropPath(nn.Module):
  """Leaves a branch out for whole groups; the expectation stays.

  Attributes:
    rate: probability, a number or a traced scalar.
  """
  rate: float | jax.Array

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:  # [G, ...]
    if not train or (isinstance(self.rate, float) and not self.rate):
      return x
    shape = (len(x),) + (1,) * (x.ndim - 1)
    stays = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
    return _kept(x, stays, self.rate)


def _kept(x: jax.Array, stays: jax.Array, rate) -> jax.Array:
  """`x` where it stays, larger by as much as is lost."""
  scaled = x / jnp.asarray(1 - rate, x.dtype)
  return jnp.where(stays, scaled, jnp.zeros((), x.dtype))
