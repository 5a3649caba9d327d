"""configs/medfilip.py against the paper and the code, value by value."""

import pytest

from configs import medfilip
from itemclip_jax.config import schema
from itemclip_jax.evaluators import prompts

# Setting -> (paper, code).
TABLE = {
    "medfilip.loss": ("paper_fixed", "code"),
    "medfilip.targets": ("soft", "soft"),
    "medfilip.same_category_only": ("no", "yes"),
    "medfilip.knowledge": ("paper", "code"),
    "medfilip.label": ("triplet", "triplet"),
    "medfilip.denied": ("kept", "kept"),
    "medfilip.mask_severity": (0.5, 0.0),
    "medfilip.mask_location": (0.5, 0.0),
    "medfilip.mask_category": (0.0, 0.0),
    "optimizer.name": ("sgd", "sgd"),
    "optimizer.learning_rate": (0.006, 1e-4),
    "optimizer.weight_decay": (1e-4, 1e-4),
    "optimizer.min_learning_rate": (1e-6, 1e-6),
    "optimizer.cycles": (50, 10),
    "train.epochs": (100, 20),
    "train.global_batch": (32, 32),
    "train.warmup_steps": (0, 0),
    "vision.tower": ("resnet", "resnet"),
    "vision.volume_shape": ((3, 448, 448),) * 2,
    "vision.stages": ((3, 4, 6, 3),) * 2,
    "text.tower": ("clip", "clip"),
    "text.form": ("triplets", "triplets"),
    "text.max_tokens": (77, 77),
    "text.width": (512, 512),
    "text.depth": (12, 12),
    "joint.width": (768, 768),
    "loss.init_logit_scale": (2.65926, 2.65926),
}


def _value(config, setting):
  section, name = setting.split(".")
  return getattr(getattr(config, section), name)


@pytest.mark.parametrize("variant, column", [("", 0), ("released", 1)])
def test_paper_and_code(variant, column):
  config = schema.from_config_dict(medfilip.get_config(variant))
  for setting, row in TABLE.items():
    assert _value(config, setting) == row[column], setting
  # T_0 is two epochs.
  assert config.train.epochs / config.optimizer.cycles == 2


@pytest.mark.parametrize("variant", ["phantom", "smoke", "released,smoke"])
def test_small_variants_ask_the_phantoms(variant):
  config = schema.from_config_dict(medfilip.get_config(variant))
  assert config.data.dataset == "phantom_radiograph"
  assert set(config.eval.evaluators) <= set(prompts.names())
  assert (config.medfilip.targets == "hard") == ("smoke" in variant)
