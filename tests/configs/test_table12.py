"""Every domain's config against the paper's Table 12, value by value."""

import importlib

import pytest

from itemclip_jax.config import schema

DOMAINS = ("brain_mri", "head_ct", "chest_ct", "remote_sensing",
           "natural_images")

# Setting -> its row of Table 12 (Lyu et al. 2025), columns as in DOMAINS.
TABLE = {
    "loss.iis_weight": (1, 1, 1, 1, 0.1),
    "loss.mps_weight": (0.01, 0.1, 0.1, 2.0, 0.1),
    "loss.kta_rate": (0.05, 0.05, 0.05, 0.2, 0.2),
    "loss.kta_weight": (1, 1, 1, 1.5, 0.2),
    "loss.token_drop_rate": (0.1, 0.1, 0.05, 0.4, 0.1),
    "loss.uwp_factor": (1.5, 1.5, 1.5, 2.0, 2.0),
    "loss.ila_weight": (1,) * 5,
    "loss.init_logit_scale": (2.65926,) * 5,
    "loss.init_logit_bias": (-10,) * 5,
    "loss.groups": (1,) * 5,
    "joint.num_heads": (8,) * 5,
    "text.max_items": (7, 7, 10, 6, 7),
    "text.diverse_max_merge": (0, 0, 0, 3, 3),
    "text.diverse_prob": (0.5,) * 5,
    "train.global_batch": (256, 256, 512, 1024, 1024),
    "train.epochs": (24, 21, 80, 120, 60),
    "train.warmup_steps": (2000, 2000, 100, 100, 2000),
    "optimizer.learning_rate": (1.75e-4, 1.75e-4, 1e-4, 3e-4, 5e-4),
    "optimizer.weight_decay": (0.2, 0.5, 0.5, 1.5, 0.8),
    "optimizer.beta1": (0.9,) * 5,
    "optimizer.beta2": (0.98,) * 5,
    # Not in the table: the text of the paper, or the public code.
    "optimizer.eps": (1e-6, 1e-6, 1e-6, 1e-8, 1e-8),
    "train.examples_per_epoch": (0, 0, 0, 10_240, 0),
    "text.max_tokens": (256, 256, 256, 100, 100),
    "text.lower_case": (False, False, True, False, False),
    "text.frozen": (False, False, True, False, False),
    "vision.drop_path": (0.2, 0.2, 0.0, 0.0, 0.0),
}

# What the public scripts passed instead.
RELEASED = {
    "brain_mri": {},
    "head_ct": {"loss.mps_weight": 0.01, "optimizer.weight_decay": 0.2,
                "train.epochs": 24},
    "chest_ct": {"loss.uwp_factor": 1.0},
    "remote_sensing": {"loss.uwp_factor": 1.5, "train.epochs": 100},
    "natural_images": {"loss.uwp_factor": 1.5, "train.epochs": 100,
                       "loss.kta_weight": 1.0, "loss.token_drop_rate": 0.2},
}


def config_of(domain: str, variant: str = "") -> schema.Config:
  module = importlib.import_module(f"configs.{domain}")
  return schema.from_config_dict(module.get_config(variant))


def value_of(config: schema.Config, setting: str):
  section, name = setting.split(".")
  return getattr(getattr(config, section), name)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_default_is_the_table(domain):
  config, column = config_of(domain), DOMAINS.index(domain)
  for setting, row in TABLE.items():
    assert value_of(config, setting) == row[column], setting


@pytest.mark.parametrize("domain", DOMAINS)
def test_released_is_the_script(domain):
  config, column = config_of(domain, "released"), DOMAINS.index(domain)
  wanted = {setting: row[column] for setting, row in TABLE.items()}
  wanted |= RELEASED[domain] | {"loss.groups": 8}
  for setting, value in wanted.items():
    assert value_of(config, setting) == value, setting


@pytest.mark.parametrize("domain, shape, patch, tokens", [
    ("brain_mri", (48, 224, 224), (8, 16, 16), (6, 14, 14)),
    ("head_ct", (48, 224, 224), (8, 16, 16), (6, 14, 14)),
    ("chest_ct", (112, 336, 336), (8, 24, 24), (14, 14, 14)),
    ("remote_sensing", (3, 224, 224), (3, 16, 16), (1, 14, 14)),
    ("natural_images", (3, 224, 224), (3, 16, 16), (1, 14, 14)),
])
def test_geometry(domain, shape, patch, tokens):
  vision = config_of(domain).vision
  assert (vision.volume_shape, vision.patch) == (shape, patch)
  assert tuple(v // p for v, p in zip(shape, patch)) == tokens
  assert (vision.width, vision.depth, vision.num_heads) == (768, 12, 12)
