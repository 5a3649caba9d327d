"""BERTs in Hugging Face folders: ours from theirs, and what is refused."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from itemclip_jax.config import schema
from itemclip_jax.data import tokens
from itemclip_jax.interop import hf_text
from itemclip_jax.models.dual_encoder import make_text
from tests.parity import torch_names

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/text_hf_bert.npz"
TEXT = schema.Text(vocab_size=99, width=32, depth=3, num_heads=4, mlp_width=64,
                   max_tokens=11)
SIZES = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3,
         "num_attention_heads": 4, "intermediate_size": 64,
         "max_position_embeddings": 512}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "ef", "##fus",
         "##ion", "."]
WORDS += [f"[unused{i}]" for i in range(99 - len(WORDS))]


@pytest.fixture(name="golden", scope="module")
def _golden():
  with np.load(GOLDEN) as file:
    return dict(file)


@pytest.fixture(name="state")
def _state(golden):
  """The golden tower with as many positions as public ones have."""
  state = torch_names.under(golden, "param.transformer")
  name = "embeddings.position_embeddings.weight"
  return state | {name: np.pad(state[name], ((0, 512 - 32), (0, 0)))}


def write(folder: pathlib.Path, state, **config) -> pathlib.Path:
  (folder / "config.json").write_text(json.dumps(
      SIZES | {"model_type": "bert"} | config))
  (folder / "vocab.txt").write_text("\n".join(WORDS))
  safetensors.numpy.save_file(state, folder / "model.safetensors")
  return folder


def of_pretraining(state):
  """The names of a model that was saved with its heads, as CXR-BERT's are."""
  return {f"bert.{k}": v for k, v in state.items()} | {
      "cls.predictions.bias": np.zeros(99, np.float32),
      "cls_projection_head.dense_to_hidden.bias": np.zeros(9, np.float32)}


def from_tensorflow(state):
  rename = lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta")
  return {rename(k): v for k, v in state.items()} | {
      "embeddings.position_ids": np.arange(512)[None]}


@pytest.mark.parametrize("variant", [dict, of_pretraining, from_tensorflow])
def test_the_tower_reproduces_the_golden_activations(
    golden, state, tmp_path, variant):
  folder = write(tmp_path, variant(state))
  params = hf_text.params(folder, TEXT)
  ours = make_text(TEXT, None).apply({"params": params}, golden["in.input_ids"])
  np.testing.assert_allclose(ours, golden["out.cls_hidden"],
                             rtol=1e-4, atol=1e-4)  # float32, three layers


def test_half_precision_is_read_as_float32(state, tmp_path):
  half = {k: v.astype(np.float16) for k, v in state.items()}
  params = hf_text.params(write(tmp_path, half), TEXT)
  assert params["word"]["embedding"].dtype == np.float32
  np.testing.assert_array_equal(
      params["word"]["embedding"],
      half["embeddings.word_embeddings.weight"].astype(np.float32))


def test_a_file_of_torch_is_read_where_torch_is(state, tmp_path):
  folder = write(tmp_path, state)
  (folder / "model.safetensors").unlink()
  if importlib.util.find_spec("torch") is None:
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"torch, which .* itemclip_jax\[torc"):
      hf_text.params(folder, TEXT)
    return
  import torch
  torch.save({k: torch.tensor(v) for k, v in state.items()},
             folder / "pytorch_model.bin")
  params = hf_text.params(folder, TEXT)
  np.testing.assert_array_equal(params["norm"]["bias"],
                                state["embeddings.LayerNorm.bias"])


def test_settings_are_those_of_the_config_file(state, tmp_path):
  folder = write(tmp_path, state)
  assert schema.Text(**hf_text.settings(folder), max_tokens=11) == TEXT


@pytest.mark.parametrize("config, message", [
    ({"hidden_size": 64}, "text.width is 32, there 64. Take its sizes"),
    ({"num_hidden_layers": 4}, "text.depth is 3, there 4"),
    ({"model_type": "roberta"}, "is a 'roberta'; want one of bert"),
    ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new', but the text tower"),
    ({"layer_norm_eps": 1e-5}, "layer_norm_eps 1e-05"),
    ({"max_position_embeddings": 32}, "knows 32 positions, the tower has 512")])
def test_another_model_is_refused(state, tmp_path, config, message):
  with pytest.raises(ValueError, match=message):
    hf_text.params(write(tmp_path, state, **config), TEXT)


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("embeddings.LayerNorm.bias"), "lacks embeddings.LayerNor"),
    (lambda s: s.update({"extra": np.zeros(1)}), "unexpected extra;"),
    (lambda s: s.update({"embeddings.word_embeddings.weight": np.zeros(
        (98, 32))}), r"has shape \(98, 32\), wanted \(99, 32\)")])
def test_weights_that_do_not_fit_are_refused(state, tmp_path, change, message):
  change(state)
  with pytest.raises(ValueError, match=message):
    hf_text.params(write(tmp_path, state), TEXT)


def test_a_folder_without_a_file_is_one_sentence(state, tmp_path):
  with pytest.raises(ValueError, match="There is no config.json in"):
    hf_text.settings(tmp_path)
  folder = write(tmp_path, state)
  (folder / "model.safetensors").write_bytes(b"cut off")
  with pytest.raises(ValueError, match="cannot be read as weights"):
    hf_text.params(folder, TEXT)
  (folder / "model.safetensors").unlink()
  with pytest.raises(ValueError, match="neither model.safetensors nor pytorch"):
    hf_text.params(folder, TEXT)


def read(folder, texts, tmp_path):
  path = tmp_path / "tokenizer.json"
  path.write_text(hf_text.tokenizer_json(folder))
  return tokens.Tokenizer(path, max_tokens=8, vocab_size=99)(texts)


def test_vocab_txt_becomes_a_tokenizer(state, tmp_path):
  folder = write(tmp_path, state)
  ids = read(folder, ["No EFFUSION.", "Abscess"], tmp_path)
  np.testing.assert_array_equal(
      ids, [[2, 5, 6, 7, 8, 9, 3, 0], [2, 1, 3, 0, 0, 0, 0, 0]])


def test_case_is_kept_where_the_folder_says_so(state, tmp_path):
  folder = write(tmp_path, state)
  (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
  ids = read(folder, ["No effusion."], tmp_path)
  np.testing.assert_array_equal(ids, [[2, 1, 6, 7, 8, 9, 3, 0]])


def test_a_tokenizer_of_the_folder_is_taken_without_its_padding(
    state, tmp_path):
  folder = write(tmp_path, state)
  ready = tokenizers.Tokenizer.from_str(hf_text.tokenizer_json(folder))
  ready.enable_padding(length=3)
  ready.enable_truncation(3)
  ready.save(str(folder / "tokenizer.json"))
  (folder / "vocab.txt").unlink()
  ids = read(folder, ["No effusion."], tmp_path)
  np.testing.assert_array_equal(ids, [[2, 5, 6, 7, 8, 9, 3, 0]])


def test_a_vocabulary_that_is_not_the_models_is_refused(state, tmp_path):
  folder = write(tmp_path, state, vocab_size=30522)
  with pytest.raises(ValueError, match="99 word pieces, but its model a table"):
    hf_text.tokenizer_json(folder)
  (folder / "vocab.txt").write_text("no\neffusion\n")
  with pytest.raises(ValueError, match=r"lacks \[PAD\], \[UNK\]"):
    hf_text.tokenizer_json(folder)
  (folder / "vocab.txt").unlink()
  with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.txt"):
    hf_text.tokenizer_json(folder)
