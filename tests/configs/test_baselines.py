"""Every system that ItemizedCLIP is compared with resolves and is made."""

import itertools

import pytest

from configs import baselines, chest_ct, remote_sensing
from itemclip_jax import objectives
from itemclip_jax.config import schema
from itemclip_jax.errors import UserError

SYSTEMS = {  # variant: (objective, form, texts, pooling)
    "clip": ("clip", "report", 1, "similarity"),
    "siglip": ("siglip", "report", 1, "similarity"),
    "multi_positive": ("multi_positive", "items", 6, "similarity"),
    "dreamlip": ("dreamlip", "items", 6, "similarity"),
    "flair": ("flair", "items", 6, "item_attention"),
    "llip": ("llip", "report", 1, "item_attention"),
    "hlip": ("hlip", "report", 1, "similarity"),
    "hlip_sentence": ("hlip", "sentence", 1, "similarity"),
    "hlip_dual": ("hlip", "report_and_sentence", 2, "similarity"),
    "hlip_raw": ("hlip", "report", 1, "similarity"),
    "hlip_organ": ("hlip", "report", 1, "similarity"),
}
TAKES_ANY = [name for name in SYSTEMS if name != "llip"]  # a ViT of pictures


def config_of(variant: str) -> schema.Config:
  return schema.from_config_dict(baselines.get_config(variant))


@pytest.mark.parametrize("name", SYSTEMS)
def test_texts_and_loss_are_those_of_the_system(name):
  config = config_of(name)
  assert (config.objective, config.text.form, config.text.max_items,
          config.joint.pooling) == SYSTEMS[name]
  assert config.vision.class_tokens == (2 if name == "hlip_dual" else 1)
  objectives.make(config)


@pytest.mark.parametrize("name", SYSTEMS)
def test_towers_and_optimiser_are_those_of_the_domain(name):
  on_chest = name.startswith("hlip")
  domain = schema.from_config_dict(
      (chest_ct if on_chest else remote_sensing).get_config())
  config = config_of(name)
  assert config.data == domain.data
  assert (config.vision.width, config.vision.patch, config.text.tower) == (
      domain.vision.width, domain.vision.patch, domain.text.tower)
  if not on_chest:
    assert (config.optimizer, config.train) == (domain.optimizer, domain.train)


@pytest.mark.parametrize("name, domain", [
    *itertools.product(TAKES_ANY, ["chest_ct", "brain_mri", "natural_images",
                                   "remote_sensing"]),
    ("llip", "natural_images")])
def test_every_domain_and_size_is_a_valid_config(name, domain):
  full = config_of(f"{name},{domain}")
  small = config_of(f"smoke,{domain},{name}")
  assert small.train.steps == 2 and small.train.global_batch == 8
  for config in (full, small):
    objectives.make(config)
  assert full.text.form == small.text.form


def test_mri_reports_say_what_they_are():
  assert config_of("hlip,brain_mri").text.prefix == "This MRI study shows: "
  for other in ("hlip", "hlip,remote_sensing"):
    assert config_of(other).text.prefix == ""


def test_without_a_system_it_is_clip_and_another_word_is_told():
  assert config_of("") == config_of("clip")
  with pytest.raises(UserError, match="Unknown variant 'klip'"):
    baselines.get_config("klip")
