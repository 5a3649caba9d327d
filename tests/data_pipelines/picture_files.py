"""Small pictures, and batches of the sets built from them."""

import io
import json
import pathlib

import numpy as np
from PIL import Image

from data_pipelines import datasets, prepare
from itemclip_jax.data import loader, record, tokens
from itemclip_jax.data.example import MakeExample
from tests import tiny

SIDE = 16   # of the pictures in a batch


def encoded(colour=0, size=(24, 20), kind="JPEG") -> bytes:
  """A picture of some texture; `colour` tells one from another."""
  rng = np.random.default_rng(colour)
  pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind)
  return out.getvalue()


def build(out: pathlib.Path, name: str, **options) -> pathlib.Path:
  prepare.build(datasets.make(name, **options), out, num_workers=1)
  return out


def rejected(out: pathlib.Path) -> dict[str, str]:
  """study -> reason, of ingest.jsonl."""
  lines = (out / "ingest.jsonl").read_text().splitlines()
  return {line["study"]: line["reason"] for line in map(json.loads, lines)}


def studies(out: pathlib.Path, split: str) -> dict[str, dict]:
  """Every record of a split by its name, checked against the contract."""
  opened = record.open_split(out, split)
  found = [opened.study(i) for i in range(len(opened.source))]
  return {study["study_id"]: study for study in found}


def make_example(out: pathlib.Path, split: str, **text) -> MakeExample:
  """With the words of `split` as vocabulary, which goes to <out>."""
  c = tiny.config(
      out, vision={"volume_shape": (3, SIDE, SIDE), "patch": (3, 8, 8),
                   "series_embedding": "none", "study_blocks": ()},
      data={"max_series": 1}, train={"global_batch": 2}, text=text)
  path = out / "words.json"
  tokens.train_vocabulary(record.read_items(out, split), path,
                          c.text.vocab_size)
  return MakeExample(c, tokens.Tokenizer(
      path, max_tokens=c.text.max_tokens, vocab_size=c.text.vocab_size))


def batch_for_training(out: pathlib.Path, **text) -> dict[str, np.ndarray]:
  split = record.open_split(out, "train", ground_truth=False)
  return next(iter(loader.train_loader(
      split, make_example(out, "train", **text), steps=1)))


def batch_for_evaluation(
    out: pathlib.Path, split: str, size: int, **text) -> dict[str, np.ndarray]:
  return next(loader.eval_batches(
      record.open_split(out, split), make_example(out, split, **text),
      batch=size))
