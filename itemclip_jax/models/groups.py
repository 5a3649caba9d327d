"""Groups of HLIP, and the class tokens that go with them.

Groups of all levels are reshapes of one array [B, S, u, U, C] of the finest
groups, u of a series: the tokens of a group, places for its class tokens, and
in half precision rows up to a multiple of 8, with which tiles of a TPU are
whole. So levels change without a copy of the tokens. A level that is not the
finest uses the places of its first group alone; whatever else is no token is
hidden by its mask. A padded series takes part in no average, and its tokens are
keys for nobody.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax.experimental.layout import Layout, with_layout_constraint
import jax.numpy as jnp
import numpy as np

from itemclip_jax.parallel import sharding

_LEVELS = ("study", "series", "slice")  # coarse to fine


def regroup_cls(
    cls: jax.Array,          # [B, S, u, c, C]; a level reads its first place
    series_mask: jax.Array,  # [B, S] bool
    old: str,
    new: str,
) -> jax.Array:              # [B, S, u, c, C], equal in all places of a group
  """Copies the CLS tokens to finer groups, or averages them to coarser."""
  shape = cls.shape
  if old == "study":
    cls = cls[:, :1, :1]
  elif old == "series":
    cls = cls[:, :, :1]
  if _LEVELS.index(new) < _LEVELS.index(old):
    cls = cls.mean(2, keepdims=True)
    if new == "study":
      real = series_mask[..., None, None, None]
      count = jnp.maximum(real.sum(1, keepdims=True), 1)
      cls = jnp.sum(cls, axis=1, where=real, keepdims=True)
      cls = cls / count.astype(cls.dtype)
  return jnp.broadcast_to(cls, shape)


class Rows(NamedTuple):
  """What the rows of the finest groups are.

  groups: u of a series; tokens: P of a group; places: c of class tokens behind
  them; filler: rows behind those.
  """
  groups: int
  tokens: int
  places: int
  filler: int

  def of_cls(self, x: jax.Array) -> jax.Array:
    """[..., U, C] -> [..., c, C]."""
    return x[..., self.tokens:self.tokens + self.places, :]

  def regroup(self, x: jax.Array, series_mask: jax.Array, old: str, new: str
              ) -> jax.Array:
    """`x` [B, S, u, U, C] with class tokens of level `new` instead of `old`."""
    return _regroup(x, series_mask, self, old, new)

  def change_cls(self, x: jax.Array, series_mask: jax.Array,
                 change: Callable) -> jax.Array:
    """`x` [B, S, u, U, C] with `change(its class tokens, series_mask)`.

    In a fixed layout, for else a TPU's compiler turns all of `x` around to have
    an easier time with single rows; on every device by itself, since it splits
    nothing of fixed layout.
    """
    fixed = lambda x: with_layout_constraint(x, Layout(tuple(range(x.ndim))))

    def run(x, series_mask):
      cls = fixed(change(fixed(self.of_cls(x)), series_mask))
      return jax.lax.dynamic_update_slice_in_dim(x, cls, self.tokens, axis=-2)

    return sharding.over_rows_that_divide(run)(x, series_mask)

  def mask(self, series_mask: jax.Array, level: str) -> jax.Array | None:
    """[groups of the level, their rows] bool, False = for nobody; None: all."""
    B, S = series_mask.shape
    row = np.arange(self.tokens + self.places + self.filler)
    token = row < self.tokens
    real = row < self.tokens + self.places
    finest = level == "slice" or level == "series" and self.groups == 1
    if finest and real.all():
      return None
    if level == "slice":
      return jnp.broadcast_to(real, (B * S * self.groups, len(row)))
    first = np.arange(self.groups)[:, None] == 0          # [u, 1]
    if level == "series":
      own = (token | real & first).ravel()                # [u U]
      return jnp.broadcast_to(own, (B * S, len(own)))
    first = first & (np.arange(S)[:, None, None] == 0)    # [S, u, 1]
    seen = series_mask[..., None, None] & token | first & real & ~token
    return seen.reshape(B, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _regroup(x, series_mask, rows: Rows, old: str, new: str):
  """`Rows.regroup`, whose gradient changes the class tokens alone as well."""
  return rows.change_cls(
      x, series_mask, lambda cls, mask: regroup_cls(cls, mask, old, new))


def _regroup_fwd(x, series_mask, rows, old, new):
  return _regroup(x, series_mask, rows, old, new), series_mask


def _regroup_bwd(rows, old, new, series_mask, toward):
  def back(cls, mask):
    forward = lambda cls: regroup_cls(cls, mask, old, new)
    return jax.linear_transpose(forward, cls)(cls)[0]

  return rows.change_cls(toward, series_mask, back), None


_regroup.defvjp(_regroup_fwd, _regroup_bwd)
