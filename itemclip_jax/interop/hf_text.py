"""A BERT in a local Hugging Face folder -> `models.bert.Bert`, its tokenizer.

    config.json                              what the model is
    model.safetensors or pytorch_model.bin   the weights; the latter needs torch
    tokenizer.json, or vocab.txt             the word pieces, with
    tokenizer_config.json                    (do_lower_case) beside the latter

BiomedBERT, CXR-BERT (of which the inner BERT is taken), ClinicalBERT and the
MiniLM shapes are such folders. Heads of pretraining, the pooler and tables of
position numbers are left out; anything else that is left over is an error.
"""

import pathlib

import numpy as np
import tokenizers
from tokenizers import implementations, processors

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError, read_json
from itemclip_jax.interop import mapping, torch_io
from itemclip_jax.interop.rules import bert
from itemclip_jax.models.dual_encoder import make_text

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_HEADS = (r"cls\..*", r"cls_projection_head\..*")  # of pretraining
_REPAIR = "Download the folder again."

# Our setting -> name in config.json.
_SIZES = {"vocab_size": "vocab_size", "width": "hidden_size",
          "depth": "num_hidden_layers", "num_heads": "num_attention_heads",
          "mlp_width": "intermediate_size"}

# What `Bert` computes -> (name in config.json, value where it is absent).
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
          "position_embedding_type": "absolute", "type_vocab_size": 2}
_KINDS = ("bert", "cxr-bert")


def settings(folder: pathlib.Path) -> dict[str, int]:
  """The sizes that the section `text` of a config must have for this folder.

  Raises:
    UserError: there is no config.json, or it is of another kind of model.
  """
  raw = _config(pathlib.Path(folder))
  return {ours: int(raw[theirs]) for ours, theirs in _SIZES.items()}


def params(folder: pathlib.Path, text: schema.Text) -> dict:
  """The weights of a folder as parameters of `Bert`, float32.

  Args:
    folder: see the head of this file.
    text: the settings of the tower that is to be filled.

  Raises:
    UserError: a file is missing or damaged, the model is of another kind or
      size than `text` says, or names or shapes of weights do not fit.
  """
  folder = pathlib.Path(folder)
  differ = [f"text.{k} is {getattr(text, k)}, there {v}"
            for k, v in settings(folder).items() if v != getattr(text, k)]
  if differ:
    raise UserError(f"The model in {folder} has other sizes than the config: "
                    f"{'; '.join(differ)}. Take its sizes.")
  model = make_text(text, None)
  rows = _config(folder)["max_position_embeddings"]
  if model.max_positions != rows:
    raise UserError(f"The model in {folder} knows {rows} positions, the tower "
                    f"has {model.max_positions}; choose another, or make "
                    f"text.max_tokens at most {rows}.")
  path = next((folder / n for n in _WEIGHTS if (folder / n).is_file()), None)
  if path is None:
    raise UserError(f"There is neither {' nor '.join(_WEIGHTS)} in {folder}. "
                    f"{_REPAIR}")
  state = _inner(torch_io.read_state(path))
  shapes = mapping.init_shapes(model, np.zeros((1, 1), np.int32))
  entries = mapping.expand(bert.RULES, shapes, str(path))
  return mapping.to_params(state, entries, str(path))


def tokenizer_json(folder: pathlib.Path) -> str:
  """The contents of a tokenizer.json that reads texts as the folder's does.

  Raises:
    UserError: there is no vocabulary, it lacks a special word piece, or it has
      other word pieces than the model.
  """
  folder = pathlib.Path(folder)
  ready, words = folder / "tokenizer.json", folder / "vocab.txt"
  if ready.is_file():
    try:
      tokenizer = tokenizers.Tokenizer.from_file(str(ready))
    except Exception as error:  # the library raises nothing narrower
      raise UserError(f"{ready} is no tokenizer.json ({error}). "
                      f"{_REPAIR}") from error
  elif words.is_file():
    tokenizer = _from_words(words, folder / "tokenizer_config.json")
  else:
    raise UserError(f"There is neither tokenizer.json nor vocab.txt in "
                    f"{folder}. {_REPAIR}")
  have, want = tokenizer.get_vocab_size(), settings(folder)["vocab_size"]
  # Tables are padded now and then, by less than a hundred rows. A vocabulary
  # of 5, what a failed loading gives, makes every word unknown.
  if not want - 100 <= have <= want:
    raise UserError(f"The tokenizer in {folder} has {have} word pieces, but "
                    f"its model a table of {want}. {_REPAIR}")
  return tokenizer.to_str(pretty=True)


def _from_words(path: pathlib.Path, options: pathlib.Path):
  """A tokenizer of vocab.txt: one word piece a line, its number the id."""
  ids = {w: i for i, w in enumerate(path.read_text("utf-8").splitlines())}
  if missing := [w for w in _SPECIAL if w not in ids]:
    raise UserError(f"{path} lacks {', '.join(missing)}. {_REPAIR}")
  raw = read_json(options, _REPAIR) if options.is_file() else {}
  # Lower-casing is what Hugging Face does where nothing is said.
  made = implementations.BertWordPieceTokenizer(
      ids, lowercase=raw.get("do_lower_case", True),
      strip_accents=raw.get("strip_accents"),
      handle_chinese_chars=raw.get("tokenize_chinese_chars", True))
  tokenizer = tokenizers.Tokenizer.from_str(made.to_str())
  tokenizer.add_special_tokens(list(_SPECIAL))
  tokenizer.post_processor = processors.TemplateProcessing(
      single="[CLS] $A [SEP]",
      special_tokens=[(w, ids[w]) for w in ("[CLS]", "[SEP]")])
  return tokenizer


def _config(folder: pathlib.Path) -> dict:
  """config.json of a model that `Bert` computes as it was trained."""
  path = folder / "config.json"
  if not path.is_file():
    raise UserError(f"There is no config.json in {folder}; name the local "
                    "folder of a Hugging Face BERT.")
  raw = read_json(path, _REPAIR)
  if (kind := raw.get("model_type", "bert")) not in _KINDS:
    raise UserError(f"The model in {folder} is a {kind!r}; want one of "
                    f"{', '.join(_KINDS)}.")
  for name, value in _FIXED.items():
    if (theirs := raw.get(name, value)) != value:
      raise UserError(f"The model in {folder} has {name} {theirs!r}, but the "
                      f"text tower computes {value!r}; choose another.")
  wanted = (*_SIZES.values(), "max_position_embeddings")
  if missing := [name for name in wanted if name not in raw]:
    raise UserError(f"{path} lacks {', '.join(missing)}. {_REPAIR}")
  return raw


def _inner(state: mapping.State) -> dict[str, np.ndarray]:
  """The BERT itself: no prefix, no heads; norms under torch's own names."""
  if any(k.startswith("bert.") for k in state):
    state = {k.removeprefix("bert."): v
             for k, v in mapping.drop(state, _HEADS).items()}
  # The first files, made from TensorFlow's, call weight and bias so.
  rename = lambda k: k.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
      "LayerNorm.beta", "LayerNorm.bias")
  return {rename(k): v for k, v in mapping.drop(state, bert.UNUSED).items()}
