"""Gradients of a contrastive batch whose towers see a part of it at a time.

    1. features of all micro-batches, nothing else of the towers is kept
    2. the loss of the whole batch: its gradient with respect to the features
    3. every micro-batch again, forward and backward, from those gradients

Every image is contrasted with the whole batch, as without micro-batches; loss
and gradients are the same numbers (but for dropout, which each micro-batch
draws for itself). It costs one more forward pass of the towers.

Reference: Gao et al. 2021, https://arxiv.org/abs/2101.06983.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from itemclip_jax.parallel.sharding import join_rows, split_rows


def encoded(encode: Callable, views: tuple, key: jax.Array, *, count: int):
  """`encode(views, key)`, a micro-batch at a time, all rows joined."""
  parts = split_rows(views, count), jax.random.split(key, count)
  features = jax.lax.map(lambda part: encode(*part), parts)
  # What has no rows, as scale and bias, is the same in all of them.
  return jax.tree.map(lambda x: join_rows(x) if x.ndim > 1 else x[0], features)


def gradients(
    encode: Callable,    # (params, views, key) -> outputs
    loss: Callable,      # (outputs, params) -> (scalar, metrics)
    params: dict,
    views: tuple,        # trees of arrays [B, ...]
    key: jax.Array,
    *,
    count: int,
):
  """Gradients of `loss(encode(params, views))` and its metrics."""
  outputs = encoded(lambda *part: encode(params, *part), views, key,
                    count=count)
  (own, wanted), metrics = jax.grad(
      lambda p, out: loss(out, p), argnums=(0, 1), has_aux=True,
      allow_int=True)(params, outputs)
  cotangents = jax.tree.map(
      lambda x: split_rows(x, count) if x.ndim
      else jnp.broadcast_to(x / count, (count,)), wanted)

  def add(total, part):
    micro, key, cotangent = part
    _, back = jax.vjp(lambda p: encode(p, micro, key), params)
    return jax.tree.map(jnp.add, total, back(cotangent)[0]), None

  parts = split_rows(views, count), jax.random.split(key, count), cotangents
  return jax.lax.scan(add, own, parts)[0], metrics
