"""Published weights become a released model, and come back as they were."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.config import schema
from itemclip_jax.data import tokens
from itemclip_jax.interop import mapping, model_shapes, torch_io
from itemclip_jax.interop.rules import itemized_2d, itemized_radiology
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.tools import convert as convert_lib
from itemclip_jax.train import trained
from tests import tiny

ROOT = pathlib.Path(__file__).parents[2]
PICTURES = schema.Config(
    data=schema.Data(max_series=1),
    vision=schema.Vision(
        tower="vit", volume_shape=(3, 24, 24), patch=(3, 8, 8), width=48,
        depth=2, num_heads=4, series_embedding="none", study_blocks=()),
    text=schema.Text(tower="clip", vocab_size=99, width=32, depth=2,
                     num_heads=4, mlp_width=64, max_tokens=10, dropout=0.0),
    joint=schema.Joint(width=32, num_heads=4))
CONTRACT = {
    "schema_version": 1, "modality": "RGB", "dtype": "uint8",
    "intensity": "8-bit sRGB", "window": None, "orientation": {},
    "resize": None, "shape": None, "spacing_mm": None, "dataset": "scenes",
    "records": "records", "recipe": {}}
RADIOLOGY = tiny.config()
FAMILIES = {"radiology": (RADIOLOGY, itemized_radiology),
            "pictures": (PICTURES, itemized_2d)}


def random_params(config: schema.Config) -> dict:
  rng = np.random.default_rng(0)
  return mapping.unflatten({
      path: rng.normal(size=shape).astype(np.float32)
      for path, shape in model_shapes.of(config).items()})


@pytest.fixture(name="mesh", scope="module")
def _mesh():
  return make_mesh(1, 1, jax.devices()[:1])


@pytest.fixture(name="vocabulary", scope="module")
def _vocabulary(tmp_path_factory):
  path = tmp_path_factory.mktemp("words") / "tokenizer.json"
  tokens.train_vocabulary(["A cyst on the left.", "No cyst."], path, 90)
  return path


@pytest.fixture(name="contracts", scope="module")
def _contracts(tiny_set, tmp_path_factory):
  path = tmp_path_factory.mktemp("contract") / "contract.json"
  path.write_text(json.dumps(CONTRACT))
  return {"radiology": tiny_set, "pictures": path}


@pytest.fixture(name="convert")
def _convert(vocabulary, contracts, tmp_path):
  def convert(family, state, config=None, /, **changes):
    file = tmp_path / "weights.safetensors"
    torch_io.write_state(file, state)
    parts = {"state": file, "tokenizer": vocabulary,
             "contract": contracts[family], "out": tmp_path / "converted"}
    lacking = convert_lib.convert(
        config or FAMILIES[family][0], **parts | changes)
    return tmp_path / "converted", lacking
  return convert


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_is_a_released_model_and_comes_back(
    convert, mesh, tmp_path, vocabulary, family):
  config, rules = FAMILIES[family]
  params = random_params(config)
  state = rules.from_params(params, config)
  folder, lacking = convert(family, state)
  model = trained.load(folder, mesh)
  assert not lacking and model.step == 0
  assert (model.config.vision, model.config.joint) == (
      config.vision, config.joint)
  jax.tree.map(np.testing.assert_array_equal, model.params, params)
  assert model.vocabulary.read_bytes() == vocabulary.read_bytes()
  card = (folder / "README.md").read_text()
  assert "Converted by itemclip_jax" in card and "initial" not in card
  assert str(tmp_path) not in card

  file = tmp_path / "new" / "back.safetensors"
  convert_lib.back(folder, file)
  again = torch_io.read_state(file)
  assert again.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(again[name], value, err_msg=name)


@pytest.mark.parametrize("naming", ["open_clip", "open_clip_text"])
def test_a_plain_clip_gets_an_initial_item_attention(
    convert, mesh, tmp_path, naming):
  params = random_params(PICTURES)
  given = {k: v for k, v in params.items()
           if k not in ("item_attention", "logit_bias")}
  folder, lacking = convert("pictures", itemized_2d.from_params(
      given, PICTURES, naming))
  assert lacking == ["item_attention", "logit_bias"]
  model = trained.load(folder, mesh)
  for name, tree in given.items():
    jax.tree.map(np.testing.assert_array_equal, model.params[name], tree)
  assert model.params["logit_bias"] == PICTURES.loss.init_logit_bias
  kernel = model.params["item_attention"]["query"]["kernel"]
  assert 0 < float(jnp.std(kernel)) < 0.5 and bool(jnp.isfinite(kernel).all())
  assert "has no item_attention and no logit_bias" in (
      folder / "README.md").read_text()

  file = tmp_path / "clip.safetensors"
  convert_lib.back(folder, file, naming)
  ours = itemized_2d.to_params(torch_io.read_state(file), PICTURES)
  assert itemized_2d.naming_of(torch_io.read_state(file)) == naming
  assert ours.keys() == params.keys() - {"item_attention", "logit_bias"} or (
      ours.keys() == params.keys() - {"item_attention"})
  jax.tree.map(np.testing.assert_array_equal, ours["vision"], params["vision"])


def _sized(**changes):
  return dataclasses.replace(
      PICTURES, text=dataclasses.replace(PICTURES.text, **changes))


@pytest.mark.parametrize("config, changes, message", [
    (None, {"contract": pathlib.Path("nowhere")}, "no contract at nowhere; na"),
    (None, {"tokenizer": pathlib.Path("nowhere")}, "no vocabulary at nowhere;"),
    (None, {"state": pathlib.Path("nowhere.pt")}, "no weights at nowhere.pt;"),
    (None, {"out": pathlib.Path(".")}, "--out=. exists already; name a new"),
    (_sized(max_tokens=12), {}, r"has shape \(10, 32\), wanted \(12, 32\)"),
    (_sized(vocab_size=9), {}, "text.vocab_size is 9; set it to"),
    (RADIOLOGY, {}, r"contract.json holds pictures of 3 colours, but vision.v"),
    (dataclasses.replace(PICTURES, text=schema.Text()), {},
     "'vit' and text.tower='bert' are no published pair; want")])
def test_parts_that_do_not_fit_are_one_sentence_and_leave_nothing(
    convert, tmp_path, config, changes, message):
  state = itemized_2d.from_params(random_params(PICTURES), PICTURES)
  with pytest.raises(ValueError, match=message):
    convert("pictures", state, config, **changes)
  assert not (tmp_path / "converted").exists()


def test_the_bias_of_a_plain_clip_must_be_a_number(convert):
  params = random_params(PICTURES)
  del params["item_attention"]
  loss = schema.Loss(init_logit_bias="prior")
  with pytest.raises(ValueError, match="'prior' is known in a run alone"):
    convert("pictures", itemized_2d.from_params(params, PICTURES, "open_clip"),
            dataclasses.replace(PICTURES, loss=loss))


def test_the_way_back_is_refused_where_names_do_not_fit(convert, tmp_path):
  folder, _ = convert("radiology", itemized_radiology.from_params(
      random_params(RADIOLOGY), RADIOLOGY))
  file = tmp_path / "back.safetensors"
  with pytest.raises(ValueError, match="--naming=open_clip is for pictures"):
    convert_lib.back(folder, file, "open_clip")
  assert not file.exists()
  for wrong in (tmp_path / "back.pt", tmp_path / "weights.safetensors"):
    with pytest.raises(ValueError, match="must be a new .safetensors file"):
      convert_lib.back(folder, wrong)


@pytest.mark.parametrize("given, sentence", [
    (["--config=configs/chest_ct.py:smok"], "Unknown variant 'smok'; have"),
    (["--config=configs/chest_ct.py", "--out=x"], "--state, --tokeniz"),
    (["--checkpoint=x", "--state_out=y", "--state=z"], "--state goes the"),
])
def test_the_command_line_is_told_in_one_sentence(given, sentence):
  done = subprocess.run(
      [sys.executable, "-m", "itemclip_jax.tools.convert", *given], cwd=ROOT,
      capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith(f"itemclip_jax: {sentence}")
  assert "Traceback" not in done.stderr
