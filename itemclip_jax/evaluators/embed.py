"""Encodes studies and texts for evaluation, and scores one by the other.

As in the published evaluation, image tokens and texts are L2-normalised before
the item attention. The parameters are arguments of every function, so that the
trained and the untrained model share what was compiled.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 4.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.ops import item_pairs
from itemclip_jax.ops.intensity import Window, standardise


class Encoded(NamedTuple):
  """Studies, ready to be compared with texts."""
  image: jax.Array            # [B, E] unit norm
  tokens: item_pairs.Tokens   # projected keys and values


class Texts(NamedTuple):
  """P texts, ready to be compared with studies."""
  embedding: jax.Array        # [P, E] unit norm
  query: jax.Array            # [P, A, F]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, for jit
class Encoder:
  """The compiled functions of one model.

  Attributes:
    model: as trained.
    window: of the stored intensities.
    dtype: of the standardised volume.
    block: texts compared at a time, to bound memory.
  """
  model: DualEncoder
  window: Window
  dtype: jax.typing.DTypeLike
  block: int = 64

  def _attention(self, params, *args, method):
    return self.model.apply(
        {"params": params},
        *args, method=lambda m, *a: getattr(m.item_attention, method)(*a))

  @functools.partial(jax.jit, static_argnums=0)
  def studies(self, params, volume, series_mask, series_names) -> Encoded:
    """[B,S,D,H,W] stored voxels, [B,S] bool, [B,S,L] codes -> `Encoded`."""
    volume = standardise(volume, *self.window, dtype=self.dtype)
    image, tokens, mask = self.model.apply(
        {"params": params}, volume, series_mask, series_names, method="image")
    keys = self._attention(params, item_pairs.unit(tokens), mask,
                           method="project_tokens")
    return Encoded(item_pairs.unit(image), keys)

  @functools.partial(jax.jit, static_argnums=0)
  def texts(self, params, ids) -> Texts:
    """[P, T] word-piece ids -> `Texts`."""
    text = item_pairs.unit(
        self.model.apply({"params": params}, ids, method="text"))
    return Texts(text, self._attention(params, text,
                                       method="project_items").query)

  @functools.partial(jax.jit, static_argnums=0)
  def scores(self, params, encoded: Encoded, texts: Texts):
    """TCSim and cosine with the global vector, [B, P] each."""
    B, P = len(encoded.image), len(texts.embedding)
    out = lambda pooled: self._attention(params, pooled, method="output")
    pairs = item_pairs.compare(
        item_pairs.Items(*texts), encoded.tokens,
        jnp.broadcast_to(jnp.arange(P), (B, P)), out, num_own=0,
        block=self.block)
    return pairs.local, encoded.image @ texts.embedding.T

  @functools.partial(jax.jit, static_argnums=0)
  def attention(self, encoded: Encoded, texts: Texts, which) -> jax.Array:
    """Head-averaged weights [B, n, N] of texts `which` [B, n]."""
    weights = item_pairs.attention_weights(texts.query[which], encoded.tokens)
    return weights.mean(1)


def prompt_ids(tokenize, findings: dict) -> tuple[np.ndarray, np.ndarray]:
  """Word pieces of all prompts [P, T], and the finding of each [P]."""
  prompts = [(p, i) for i, f in enumerate(findings.values())
             for p in f["prompts"]]
  texts, owner = zip(*prompts)
  return tokenize(list(texts)), np.array(owner)


def mean_over_prompts(
    x: np.ndarray,       # [..., P]
    owner: np.ndarray,   # [P] finding of each prompt
) -> np.ndarray:         # [..., F]
  """Averages the scores of each finding's prompts."""
  one_hot = owner[:, None] == np.arange(owner.max() + 1)
  return x @ (one_hot / one_hot.sum(0))
