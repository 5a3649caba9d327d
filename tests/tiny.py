"""The demo's run, small enough that its parts compile in seconds."""

import pathlib

import jax.numpy as jnp
import numpy as np

from configs import demo
from itemclip_jax.config import schema, variants
from itemclip_jax.data import record, series_name, tokens
from itemclip_jax.interop import mapping, model_shapes
from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.tools import release


def config(root="", **changes) -> schema.Config:
  """demo:smoke, shrunk; `changes` are sections with what differs."""
  raw = demo.get_config("smoke")
  variants.shrink(raw)
  raw.data.update(root=str(root), num_threads=2)
  raw.eval.evaluators = ("zeroshot_auc", "segmentation")
  raw.vision.update(patch=(12, 16, 16), width=24, depth=2, study_blocks=(1,),
                    name_encoder=(16, 1, 2, 16))
  for section, values in changes.items():
    raw[section].update(values)
  return schema.from_config_dict(raw)


def batch(c: schema.Config, *, size: int = 2, num_series: int = 2) -> dict:
  """A raw training batch of random studies; study 1 has padding."""
  rng = np.random.default_rng(0)
  K, T = c.text.max_items, c.text.max_tokens
  names = np.stack([series_name.codes(n, c.vision.name_length)
                    for n in ("AX_T1", "AX_SWI", "COR_T1_POST")[:num_series]])
  ids = rng.integers(5, c.text.vocab_size, size=(size, K, T))
  x = {
      "volume": rng.integers(
          0, 256, (size, num_series, *c.vision.volume_shape), dtype=np.uint8),
      "series_mask": np.ones((size, num_series), bool),
      "series_names": np.repeat(names[None], size, axis=0),
      "item_tokens": ids.astype(np.int32),
      "item_mask": np.ones((size, K), bool),
      "normal": np.zeros(size, bool),
      "example_mask": np.ones(size, bool),
  }
  x["series_mask"][1, 1:] = False
  x["item_mask"][1, 1:] = False
  return x


def init_example(c: schema.Config) -> dict:
  """Zeros of the shapes that a model is initialised with."""
  return {
      "volume": jnp.zeros((1, 1, *c.vision.volume_shape)),
      "series_mask": jnp.ones((1, 1), bool),
      "series_names": jnp.zeros((1, 1, c.vision.name_length), jnp.int32),
      "item_tokens": jnp.zeros((1, 1, c.text.max_tokens), jnp.int32),
  }


def model(c: schema.Config) -> DualEncoder:
  """The model of a run whose bias is a number."""
  return DualEncoder(c, logit_bias=-2.0)


def released(c: schema.Config, folder: pathlib.Path) -> pathlib.Path:
  """A released model of random parameters; its words are those of the set."""
  root, words = pathlib.Path(c.data.root), folder / "words.json"
  tokens.train_vocabulary(record.read_items(root, "train"), words,
                          c.text.vocab_size)
  rng = np.random.default_rng(0)
  params = mapping.unflatten({
      path: rng.normal(size=shape, scale=0.1).astype(np.float32)
      for path, shape in model_shapes.of(c).items()})
  release.write(folder / "model", release.Parts(
      params=params, config=c, contract=record.read_contract(root),
      vocabulary=words.read_bytes(), step=0, origin="Random."), {})
  return folder / "model"
