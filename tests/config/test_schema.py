"""Mistakes in settings are told; every shipped config says what it should."""

import dataclasses
import importlib
import itertools
import math
import pathlib
import subprocess
import sys

from absl import flags
from ml_collections import config_flags
import pytest

from itemclip_jax.config import schema

ROOT = pathlib.Path(__file__).parents[2]

DOMAINS = ("brain_mri", "head_ct", "chest_ct", "remote_sensing",
           "natural_images")
VARIANTS = {"demo": ("smoke",)} | dict.fromkeys(
    DOMAINS, ("adapt", "released", "smoke"))
# Those of other systems, whose variants are not composed at will.
SYSTEMS = {
    "baselines": ("clip", "siglip", "multi_positive", "dreamlip", "flair",
                  "llip", "hlip", "hlip_sentence", "hlip_dual", "hlip_raw",
                  "hlip_organ"),
    "fvlm": ("", "released", "phantom"),
    "medfilip": ("", "released", "phantom"),
    "eclip": ("", "released", "clip", "naive", "mixed", "unprimed", "continual",
              "dacl", "m3_mix", "vit_small", "vit_base", "resnet", "phantom",
              "naive,phantom", "m3_mix,phantom")}
BUILDS = [(name, ",".join(chosen)) for name, known in VARIANTS.items()
          for n in range(len(known) + 1)
          for chosen in itertools.permutations(known, n)]

# Table 12 of the paper's supplement (arXiv 2512.11141), by setting.
TABLE_12 = {
    "loss.iis_weight": (1.0, 1.0),
    "loss.mps_weight": (0.01, 0.1),
    "loss.kta_rate": (0.05, 0.05),
    "loss.kta_weight": (1.0, 1.0),
    "loss.token_drop_rate": (0.1, 0.05),
    "train.global_batch": (256, 512),
    "loss.uwp_factor": (1.5, 1.5),
    "text.max_items": (7, 10),
    "optimizer.learning_rate": (1.75e-4, 1e-4),
    "optimizer.weight_decay": (0.2, 0.5),
    "optimizer.beta1": (0.9, 0.9),
    "optimizer.beta2": (0.98, 0.98),
    "train.epochs": (24.0, 80.0),
    "train.warmup_steps": (2000, 100),
    "loss.init_logit_bias": (-10.0, -10.0),
    "text.diverse_max_merge": (0, 0),
    "joint.num_heads": (8, 8),
}


def build(name: str, variant: str = "") -> schema.Config:
  module = importlib.import_module(f"configs.{name}")
  return schema.from_config_dict(module.get_config(variant))


def get(config, path: str):
  for part in path.split("."):
    config = getattr(config, part)
  return config


@pytest.fixture(name="parse")
def _parse(monkeypatch):
  """Settings of a config file under flags of the command line."""
  def parse(name: str, *overrides: str) -> schema.Config:
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", None, flag_values=values, lock_config=True)
    argv = ["main", f"--config={ROOT}/configs/{name}.py", *overrides]
    monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks
    values(argv)
    return schema.from_config_dict(holder.value)
  return parse


def test_every_config_file_is_listed_here():
  files = {p.stem for p in (ROOT / "configs").glob("[!_]*.py")}
  assert files == set(VARIANTS) | set(SYSTEMS)


@pytest.mark.parametrize("name, variant", [
    (name, variant) for name, known in SYSTEMS.items() for variant in known])
def test_configs_of_other_systems_build_and_shrink(name, variant):
  config = build(name, variant)
  assert config == build(name, variant)
  assert config.joint.pooling == "similarity" or config.objective in (
      "flair", "llip")
  small = build(name, ",".join(filter(None, (variant, "smoke"))))
  assert (small.objective, small.train.steps) == (config.objective, 2)


@pytest.mark.parametrize("name, variant", BUILDS)
def test_every_config_and_variant_builds(name, variant):
  config = build(name, variant)
  assert hash(config) == hash(build(name, variant))
  assert config == build(name, variant)
  small = "smoke" in variant
  assert (config.train.global_batch <= 8) == small
  if "released" in variant:
    assert config.loss.groups == 8
  else:
    assert config.loss.groups == 1


def test_a_misspelt_variant_is_refused_with_the_choices():
  with pytest.raises(ValueError, match="'smok'.*'adapt', 'bench', 'rel"):
    build("chest_ct", "smok")


@pytest.mark.parametrize("column, name", [(0, "brain_mri"), (1, "chest_ct")])
def test_values_are_those_of_the_paper(column, name):
  config = build(name)
  ours = {path: get(config, path) for path in TABLE_12}
  assert ours == {path: row[column] for path, row in TABLE_12.items()}
  assert config.loss.init_logit_scale == pytest.approx(math.log(1 / 0.07),
                                                       abs=1e-5)


def test_released_chest_ct_switches_up_weighting_off():
  assert build("chest_ct", "released").loss.uwp_factor == 1.0


@pytest.mark.parametrize("name", DOMAINS)
def test_adapting_is_a_short_gentle_training_of_the_same_model(name):
  plain, adapted = build(name), build(name, "adapt")
  assert adapted.train.start_from and not plain.train.start_from
  assert adapted.optimizer.learning_rate == pytest.approx(
      plain.optimizer.learning_rate / 10)
  assert (adapted.train.warmup_steps, adapted.train.epochs) == (100, 5.0)
  for part in ("vision", "text", "joint", "loss"):
    assert getattr(adapted, part) == getattr(plain, part)


def test_the_frozen_config_cannot_be_changed():
  with pytest.raises(dataclasses.FrozenInstanceError):
    build("demo").seed = 1


def test_a_misspelt_key_in_a_file_raises_with_a_suggestion():
  config = schema.defaults()
  with pytest.raises(AttributeError, match='Did you mean "max_items"'):
    config.text.max_item = 3
  with pytest.raises(KeyError, match="max_item"):
    config.text.update(max_item=3)


def test_a_misspelt_key_on_the_command_line_raises_with_a_suggestion(parse):
  with pytest.raises(AttributeError, match='Did you mean "max_tokens"'):
    parse("demo", "--config.text.max_token=32")


def test_an_unknown_key_of_a_stored_config_is_named():
  raw = dataclasses.asdict(schema.Config())
  raw["loss"]["uwp"] = 2.0
  with pytest.raises(ValueError, match=r"config\.loss settings \['uwp'\]"):
    schema.from_dict(raw)


def test_a_stored_config_reads_back():
  config = build("demo")
  assert schema.from_dict(dataclasses.asdict(config)) == config


@pytest.mark.parametrize("name", ["demo", "brain_mri"])
@pytest.mark.parametrize("given, value", [
    ("-5.5", -5.5), ("-7", -7.0), ("prior", "prior")])
def test_the_initial_bias_is_a_number_or_the_prior(parse, name, given, value):
  config = parse(name, f"--config.loss.init_logit_bias={given}")
  assert config.loss.init_logit_bias == value
  assert isinstance(config.loss.init_logit_bias, type(value))


def test_command_line_values_take_the_type_of_the_setting(parse):
  config = parse("demo", "--config.optimizer.learning_rate=1",
                 "--config.data.series_buckets=(3,5)",
                 "--config.train.steps=7")
  assert config.optimizer.learning_rate == 1.0
  assert config.data.series_buckets == (3, 5) and config.train.steps == 7


@pytest.mark.parametrize("section, key, value, sentence", [
    ("text", "max_items", "six", "config.text.max_items is 'six'; want int"),
    ("text", "max_items", True, "want int"),
    ("text", "lower_case", 1, "want bool"),
    ("optimizer", "eps", "small", "want float"),
    ("vision", "patch", (8, 16), "want 3 values"),
    ("vision", "patch", 8, "want a tuple"),
    ("vision", "remat", "all", "use one of"),
    ("loss", "init_logit_bias", "auto", "config.loss.init_logit_bias"),
    ("loss", "kta_rate", 1.5, r"loss.kta_rate must lie in \[0, 1\], got 1.5"),
    ("text", "max_items", 0, "text.max_items must be > 0, got 0"),
    ("loss", "block", -1, "loss.block must be >= 0"),
    ("train", "warmup_steps", -1, "must be >= 0"),
    ("vision", "num_heads", 7, "num_heads=7 does not divide"),
    ("text", "num_heads", 7, "num_heads=7 does not divide"),
    ("text", "tower", "clip", "text.dropout=0.1, but text.tower='clip' has no"),
    ("joint", "num_heads", 7, "num_heads=7 does not divide"),
    ("vision", "patch", (8, 16, 15), "does not tile"),
    ("vision", "study_blocks", (2, 12), "distinct and below"),
    ("vision", "slice_blocks", (2,), "distinct and below"),
    ("data", "series_buckets", (5, 3), "increasing"),
    ("data", "series_buckets", (3, 5), "must be data.max_series = 10"),
    ("loss", "groups", 3, "loss.groups=3 does not divide"),
])
def test_wrong_values_are_told_in_one_sentence(section, key, value, sentence):
  raw = dataclasses.asdict(schema.Config())
  raw[section][key] = value
  with pytest.raises(ValueError, match=sentence):
    schema.from_dict(raw)


PICTURES = {"tower": "vit", "volume_shape": (3, 224, 224),
            "patch": (3, 16, 16), "series_embedding": "none",
            "study_blocks": ()}


@pytest.mark.parametrize("wrong, sentence", [
    ({"volume_shape": (48, 224, 224)}, r"volume_shape=\(48, .* start with 3"),
    ({"patch": (1, 16, 16)}, r"patch=\(1, 16, 16\) must start with 3"),
    ({"volume_shape": (6, 224, 224)}, "must start with 3"),
    ({"series_embedding": "name"}, "series_embedding='none'"),
    ({"study_blocks": (2,)}, "study_blocks empty"),
    ({"slice_blocks": (0,)}, "study_blocks empty"),
])
def test_a_tower_for_pictures_takes_one_picture_of_three_colours(
    wrong, sentence):
  assert schema.Vision(**PICTURES).tower == "vit"
  with pytest.raises(ValueError, match=sentence):
    schema.Vision(**PICTURES | wrong)


def test_the_program_tells_a_wrong_setting_before_it_starts(tmp_path):
  done = subprocess.run(
      [sys.executable, "-m", "itemclip_jax.main", "--config=configs/demo.py",
       "--config.loss.kta_rate=2.0", f"--workdir={tmp_path / 'run'}"],
      cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1] == (
      "itemclip_jax: loss.kta_rate must lie in [0, 1], got 2.0.")
  assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()
