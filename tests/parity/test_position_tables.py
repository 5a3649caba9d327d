"""Fixed position tables and their resampling against the published ones."""

import re

import numpy as np

from itemclip_jax.models import layers
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "hlip_posembed"
# 2-D tables serve only to inflate 2-D towers; a source is an input.
_LEFT_OUT = re.compile(r"out\.(sincos2d\..+|.+\.source)")


def _ours(name: str, data) -> np.ndarray | None:
  """Our counterpart of the entry `name`; None where it is not known."""
  sizes = lambda text: tuple(map(int, text.split("x")))
  if m := re.match(r"out\.sincos3d(?:_float64)?\.dim(\d+)\.grid(.+)", name):
    return layers.sincos_3d(sizes(m[2]), int(m[1]))
  if m := re.match(r"out\.sincos1d\.dim(\d+)\.len(\d+)", name):
    return layers.sincos_1d(np.arange(int(m[2])), int(m[1]))
  if m := re.match(r"out\.resample3d\.from.+_to(.+)", name):
    return jit(layers.resample_grid, static_argnums=1)(
        data["out.resample3d.source"][0], sizes(m[1]))
  if m := re.match(r"out\.resample1d\.to(\d+)_", name):
    return jit(layers.series_positions, static_argnums=1)(
        data["out.resample1d.source"][0], int(m[1]), None)
  return None


def test_tables_and_their_resampling_agree(data):
  names = [k for k in data
           if k.startswith("out.") and not _LEFT_OUT.match(k)]
  assert names
  for name in names:
    ours = _ours(name, data)
    assert ours is not None, f"{name} is of no known kind."
    assert_close(ours, data[name].reshape(ours.shape), name)
