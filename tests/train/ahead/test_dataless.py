"""A run without its data compiles what a run with them trains."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from configs import baselines, chest_ct, eclip, fvlm, medfilip, natural_images
from itemclip_jax.config import schema
from itemclip_jax.data import loader
from itemclip_jax.errors import UserError
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import compile as compile_lib
from itemclip_jax.train import setup
from itemclip_jax.train.ahead import dataless
from tests import tiny


def _run(config, devices=1):
  return dataless.make_run(config, make_mesh(-1, 1, jax.devices()[:devices]),
                           pathlib.Path("nowhere"))


def test_its_batch_is_one_of_the_loader(tiny_set, tmp_path):
  config = tiny.config(tiny_set)
  real = setup.make_run(config, make_mesh(1, 1, jax.devices()[:1]), tmp_path,
                        training=True)
  loaded = next(loader.train_loader(real.split, real.make_example, steps=1))
  made = dataless.batch(_run(config))
  assert {k: (v.shape, v.dtype) for k, v in made.items()} == {
      k: (v.shape, v.dtype) for k, v in loaded.items()}


def test_its_state_is_that_of_the_run(tiny_set, tmp_path):
  config = tiny.config(tiny_set)
  real = setup.make_run(config, make_mesh(1, 1, jax.devices()[:1]), tmp_path,
                        training=True)
  ours, theirs = _run(config).abstract_state(), real.abstract_state()
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  assert jax.tree.leaves(ours) == jax.tree.leaves(theirs)


@pytest.mark.parametrize("module, variant", [
    (chest_ct, "smoke"), (natural_images, "smoke"), (fvlm, "smoke"),
    (medfilip, "smoke"), (eclip, "smoke"), (eclip, "dacl,smoke"),
    (baselines, "siglip,smoke")])
def test_every_objective_finds_what_it_requires(module, variant):
  config = schema.from_config_dict(module.get_config(variant))
  run = _run(config)
  batch = dataless.batch(run)
  setup.require_keys(run.objective, batch, config)
  assert {x.shape[0] for x in batch.values()} == {config.batch_rows}


@pytest.mark.parametrize("module, modality, dtype", [
    (chest_ct, "CT", np.int16), (natural_images, "RGB", np.uint8),
    (tiny, "MRI", np.uint8)])
def test_what_is_stored_follows_from_the_set_and_its_tower(
    module, modality, dtype):
  config = tiny.config() if module is tiny else schema.from_config_dict(
      module.get_config("smoke"))
  run = _run(config)
  assert run.contract.modality == modality
  assert dataless.batch(run)["volume"].dtype == dtype


def test_a_batch_that_the_devices_do_not_divide_is_refused():
  config = schema.from_config_dict(chest_ct.get_config("smoke"))
  config = dataclasses.replace(config, train=dataclasses.replace(
      config.train, global_batch=12))
  with pytest.raises(UserError, match="global_batch=12 .* of the 8 devices"):
    _run(config, devices=8)


def test_model_flops_are_those_of_the_towers_by_hand():
  raw = chest_ct.get_config("smoke")
  raw.vision.update(width=96, depth=3, num_heads=4, mlp_ratio=4.0,
                    slice_blocks=(0, 1))
  raw.text.update(width=32, depth=2, num_heads=2, mlp_width=128, max_tokens=16,
                  frozen=False)
  raw.joint.update(width=8, num_heads=1)
  raw.train.global_batch = 8
  config = schema.from_config_dict(raw)
  B, C, d, P = 8, 96, 4, 16       # 4 slices of 4 x 4 tokens
  patch = 2 * d * P * (8 * 16 * 16) * C
  block = lambda groups, length: groups * (
      24 * length * C**2 + 4 * length**2 * C)
  blocks = 2 * block(d, 1 + P) + block(1, 1 + d * P)
  K, T, W = 4, 16, 32
  text = 2 * K * (24 * T * W**2 + 4 * T**2 * W)
  # Both gradients of every product, but none of the volume.
  towers = B * (2 * patch + 3 * (blocks + text))
  found = compile_lib.model_flops(_run(config))
  # Projections into the joint space of 8 and the losses come on top.
  assert towers < found < 1.1 * towers


def test_model_flops_know_no_recomputation_and_no_blocks():
  raw = chest_ct.get_config("smoke")
  counts = set()
  for remat, block in (("none", 0), ("block", 2), ("block", 16)):
    raw.vision.update(remat=remat, remat_keeps=())
    raw.loss.block = block
    counts.add(compile_lib.model_flops(_run(schema.from_config_dict(raw))))
  assert len(counts) == 1
