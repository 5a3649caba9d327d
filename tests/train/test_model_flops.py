"""The arithmetic of docs/performance.md is what the traced step holds."""

import importlib
import pathlib

import jax
import pytest

from itemclip_jax.config import schema
from itemclip_jax.parallel import mesh as mesh_lib
from itemclip_jax.train import compile as compile_lib
from itemclip_jax.train.ahead import dataless


def block(tokens: int, keys: int, C: int) -> int:
  """Forward, of the tokens of one block: dense layers, attention."""
  return tokens * (24 * C**2 + 4 * keys * C)


def losses(N: int, J: int, K: int, B: int, E: int = 512) -> int:
  """Keys and values; logits and two poolings; two output projections; cosines
  with own items (IIS) and with all items (MPS); queries, once an item."""
  return (4 * N * E**2 + 6 * J * N * E + 4 * J * E**2 + 2 * J * K * E
          + 2 * B * K * E + 2 * K * E**2)


def chest_ct() -> int:
  B, K, T, N, C, E = 512, 10, 256, 2744, 768, 512
  patch = 2 * 112 * 336 * 336 * C
  # Class tokens have a place in every finest group; coarser ones need one.
  vision = 8 * block(14 * 197, 197, C) + 4 * block(14 * 197, 14 * 197, C)
  dense = 12 * K * T * 24 * C**2           # of the text tower, which is frozen
  attention = 12 * K * T * 4 * T * C
  projections = 2 * C * E * (N + 1 + K)
  return (2 * patch + 3 * vision + 2 * dense + 3 * attention
          + 3 * projections + 3 * losses(N, K + B - 1, K, B))


def brain_mri() -> int:
  B, K, T, S, N, C, E = 256, 7, 256, 10, 11_760, 768, 512
  patch = 2 * S * 48 * 224 * 224 * C
  vision = 8 * block(S * 1177, 1177, C) + 4 * block(S * 1177, S * 1177, C)
  # 110 characters of a name, width 256, MLP 300, three layers, then to C.
  name = 3 * 110 * (8 * 256**2 + 4 * 256 * 300 + 4 * 110 * 256) + 2 * 256 * C
  text = 12 * block(K * T, T, C)
  projections = 2 * C * E * (N + 1 + K)
  return (2 * patch + 3 * (vision + S * name + text + projections
                           + losses(N, K + B - 1, K, B)))


def natural_images() -> int:
  B, K, T, N, C, E = 1024, 7, 100, 196, 768, 512
  patch = 2 * 3 * 224 * 224 * C
  vision = 12 * block(N + 1, N + 1, C)
  text = 12 * block(K * T, T, 512)
  projections = 2 * C * E * (N + 1) + 2 * 512 * E * K
  return (2 * patch + 3 * (vision + text + projections
                           + losses(N, K + B - 1, K, B)))


@pytest.mark.parametrize(
    "by_hand", [brain_mri, chest_ct, natural_images])
def test_flops_by_hand_are_those_of_the_step(by_hand):
  config = schema.from_config_dict(
      importlib.import_module(f"configs.{by_hand.__name__}").get_config())
  run = dataless.make_run(
      config, mesh_lib.make_mesh(1, 1, jax.devices("cpu")[:1]), pathlib.Path())
  counted = compile_lib.model_flops(run) / config.train.global_batch
  assert counted == pytest.approx(by_hand(), rel=5e-5)  # printed to four digits
