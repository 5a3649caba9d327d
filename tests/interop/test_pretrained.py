"""Runs that start from public weights, through the set-up of training."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from tokenizers import implementations

from itemclip_jax.config import schema
from itemclip_jax.data import tokens
from itemclip_jax.interop import inflate, mapping, model_shapes, pretrained
from itemclip_jax.interop.rules import bert
from itemclip_jax.models.dual_encoder import make_text, make_vision
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import loop, setup
from tests import tiny

VOCAB = 600


@pytest.fixture(name="mesh", scope="module")
def _mesh():
  return make_mesh(1, 1, jax.devices()[:1])


@pytest.fixture(name="config", scope="module")
def _config(tiny_set, tmp_path_factory):
  """A run that starts from a small BERT and a small MAE of random weights."""
  folder = tmp_path_factory.mktemp("public")
  text = {"max_tokens": 12, "width": 16, "depth": 1, "num_heads": 2,
          "mlp_width": 24, "vocab_size": VOCAB}
  config = tiny.config(
      tiny_set, text=text | {"pretrained": str(folder)},
      vision={"pretrained": str(folder / "mae.safetensors")},
      train={"steps": 2, "warmup_steps": 1, "save_every": 2})
  _write_bert(folder, config.text)
  _write_mae(folder / "mae.safetensors", make_vision(config.vision, None))
  return config


def _random(shapes, seed):
  rng = np.random.default_rng(seed)
  return {k: (0.1 * rng.normal(size=s)).astype(np.float32)
          for k, s in shapes.items()}


def _write_bert(folder, text):
  shapes = mapping.init_shapes(make_text(text, None), np.zeros((1, 1), int))
  entries = mapping.expand(bert.RULES, shapes, "BERT")
  safetensors.numpy.save_file(
      _random({e.torch: e.torch_shape for e in entries}, 0),
      folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps({
      "model_type": "bert", "vocab_size": VOCAB, "hidden_size": text.width,
      "num_hidden_layers": text.depth, "num_attention_heads": text.num_heads,
      "intermediate_size": text.mlp_width, "max_position_embeddings": 512}))
  letters = [chr(i) for i in range(33, 127)]
  words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
  words += [f"##{letter}" for letter in letters]
  words += [f"[unused{i}]" for i in range(VOCAB - len(words))]
  (folder / "vocab.txt").write_text("\n".join(words))


def _write_mae(path, model):
  shapes = inflate.mae_shapes(model) | {
      "patch_embed.proj.weight": (model.width, 3, 16, 16),
      "pos_embed": (1, 1 + 14 ** 2, model.width)}
  decoder = {"mask_token": (1, 1, 8), "decoder_embed.bias": (8,)}
  safetensors.numpy.save_file(_random(shapes | decoder, 1), path)


@pytest.fixture(name="run", scope="module")
def _run(config, mesh, tmp_path_factory):
  return setup.make_run(config, mesh, tmp_path_factory.mktemp("run"),
                        training=True)


def test_initial_towers_are_the_public_ones_and_the_rest_is_not(config, run):
  public, ours = pretrained.read(config), run.init().params
  assert public.keys() == {"text_tower", "vision"}
  fresh = mapping.flatten(run._make_state().params)
  given, found = mapping.flatten(public), mapping.flatten(ours)
  assert fresh.keys() == found.keys()
  for path, value in found.items():
    np.testing.assert_allclose(value, given.get(path, fresh[path]), rtol=1e-5,
                               atol=1e-6, err_msg=path)  # jit against not
  assert not any("series_name" in path for path in given)
  # Every block and table is of the file, not of the initialiser.
  assert mapping.shapes(public["text_tower"]) == mapping.shapes(
      ours["text_tower"])


def test_the_vocabulary_is_that_of_the_folder(config, run):
  own = tokenizers.Tokenizer.from_file(str(run.workdir / "tokenizer.json"))
  assert own.token_to_id("[unused0]") == 5 + 2 * 94
  assert own.encode("Ab").tokens == ["[CLS]", "a", "##b", "[SEP]"]
  assert own.get_vocab_size() == config.text.vocab_size


def test_a_checkpoint_is_not_overwritten_by_public_weights(
    config, mesh, tmp_path):
  loop.train(config, mesh, tmp_path)
  run = setup.make_run(config, mesh, tmp_path, training=True)
  with setup_checkpoints(run) as checkpoints:
    state = loop.start(run, checkpoints)
  final = json.loads((tmp_path / "final.json").read_text())
  assert int(state.step) == 2
  assert loop.digest(state.params) == final["params_sha256"]
  assert loop.digest(run.init().params) != final["params_sha256"]


def setup_checkpoints(run):
  from itemclip_jax.train.checkpoint import Checkpoints
  return Checkpoints(run.workdir)


def test_without_files_nothing_is_touched(config):
  raw = vars(config) | {
      "text": schema.Text(**vars(config.text) | {"pretrained": ""}),
      "vision": schema.Vision(**vars(config.vision) | {"pretrained": ""})}
  params = {"a": {"b": jax.numpy.ones(3)}}
  assert pretrained.lay_over(params, schema.Config(**raw))["a"]["b"] is (
      params["a"]["b"])


def test_public_weights_take_the_layout_of_the_mesh(config):
  mesh = make_mesh(1, 2, jax.devices()[:2])
  layout = setup.sharding.tree_shardings(
      model_shapes.abstract_params(config), mesh)
  zeros = jax.tree.map(lambda x, s: jax.device_put(np.zeros(x.shape), s),
                       model_shapes.abstract_params(config), layout)
  params = pretrained.lay_over(zeros, config)
  assert jax.tree.map(lambda x: x.sharding, params) == layout
  kernel = params["text_tower"]["layer0_mlp"]["fc1"]["kernel"]
  assert not kernel.sharding.is_fully_replicated
  np.testing.assert_array_equal(
      kernel, pretrained.read(config)["text_tower"]["layer0_mlp"]["fc1"][
          "kernel"])


def test_a_vocabulary_that_does_not_know_the_reports_is_refused(
    tiny_set, mesh, tmp_path):
  words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "no"]
  made = implementations.BertWordPieceTokenizer(
      {w: i for i, w in enumerate(words)})
  path = tmp_path / "other.json"
  made.save(str(path))
  config = tiny.config(tiny_set, text={"vocabulary": str(path)})
  with pytest.raises(ValueError, match=(
      r"does not know \d\d% of the word pieces of the first \d+ training")):
    setup.make_run(config, mesh, tmp_path / "run", training=True)


@pytest.mark.parametrize("section, changes, message", [
    ("text", {"width": 32}, "text.width is 32, there 16"),
    ("text", {"pretrained": "nowhere"}, "no config.json in nowhere"),
    ("text", {"max_tokens": 600}, "knows 512 positions, the tower has 600"),
    ("vision", {"pretrained": "x.safetensors"}, "no weights at x.safetensors"),
    ("vision", {"depth": 3}, "lacks blocks.2.attn.proj.bias,")])
def test_files_that_do_not_fit_the_config_are_refused(
    config, section, changes, message):
  part = getattr(config, section)
  other = schema.Config(**vars(config) | {
      section: type(part)(**vars(part) | changes)})
  with pytest.raises(ValueError, match=message):
    pretrained.read(other)


def test_towers_of_pictures_take_no_bert_and_no_mae():
  picture = {"tower": "vit", "volume_shape": (3, 32, 32), "patch": (3, 16, 16),
             "series_embedding": "none", "study_blocks": ()}
  data = schema.Data(max_series=1)
  clip = schema.Text(tower="clip", dropout=0.0, pretrained="x",
                     vocabulary="tokenizer.json")
  with pytest.raises(ValueError, match="at x; .* of an open_clip model"):
    pretrained.read(schema.Config(
        text=clip, vision=schema.Vision(**picture), data=data))
  with pytest.raises(ValueError, match="at y; .* of an open_clip model"):
    pretrained.read(schema.Config(
        vision=schema.Vision(**picture, pretrained="y"), data=data))
