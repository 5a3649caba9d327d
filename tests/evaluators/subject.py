"""A small model of random parameters, and the tiny set as it sees it."""

import functools
import pathlib

import jax

from itemclip_jax.data import record, tokens
from itemclip_jax.data.example import MakeExample
from itemclip_jax.evaluators import embed, features, scoring
from itemclip_jax.parallel import sharding
from itemclip_jax.parallel.mesh import make_mesh
from itemclip_jax.train import setup
from tests import tiny

GRID = (2, 3, 3)


class Subject:
  """Encoder, parameters and tokenizer over some devices."""

  def __init__(self, root: pathlib.Path, folder: pathlib.Path,
               devices: int = 1):
    self.config = tiny.config(root)
    self.folder = folder
    self.mesh = make_mesh(devices, 1, jax.devices()[:devices])
    path = folder / "tokenizer.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      tokens.train_vocabulary(record.read_items(root, "train"), path,
                              self.config.text.vocab_size)
    self.tokenizer = tokens.Tokenizer(
        path, max_tokens=self.config.text.max_tokens,
        vocab_size=self.config.text.vocab_size)
    self.model = tiny.model(self.config)
    contract = record.read_contract(root)
    self.encoder = embed.Encoder(
        self.model, setup.intensity_window(contract), "float32")
    params = _params(root)
    self.params = jax.device_put(
        params, sharding.tree_shardings(params, self.mesh))

  def studies(self, split: str = "test", *, batch: int = 8, name: str = "kept"
              ) -> features.Studies:
    """A split, encoded."""
    with jax.set_mesh(self.mesh):
      return features.encode(
          split, MakeExample(self.config, self.tokenizer), self.encoder,
          self.params, self.mesh, folder=self.folder / name, batch=batch,
          what=split)

  def scorer(self) -> scoring.Scorer:
    return scoring.Scorer(self.encoder, self.params, self.tokenizer, self.mesh,
                          grid=GRID, quiet=True)


@functools.cache
def _params(root: pathlib.Path) -> dict:
  """Features so small that a LayerNorm's epsilon shows what it was given."""
  config = tiny.config(root)
  params = tiny.model(config).init(jax.random.key(1),
                                   tiny.init_example(config))["params"]
  small = {name: jax.tree.map(lambda x: 0.02 * x, params[name])
           for name in ("text_proj", "vision_proj")}
  return params | small
