"""The compiled functions of evaluation: encode studies and texts, compare them.

Two rules are published. Zero-shot scores normalise image tokens and texts
before the item attention; retrieval, like training, does not. Parameters are
arguments of every function, so that a trained and an untrained model share
what was compiled.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 4.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from itemclip_jax.models.dual_encoder import DualEncoder
from itemclip_jax.ops import item_pairs
from itemclip_jax.ops.intensity import Window, standardise
from itemclip_jax.parallel.sharding import constrain

# Texts compared at a time: as many as keep the attention of a batch of studies
# below this many numbers, at most 64.
_ATTENTION_SIZE, _MOST_TEXTS = 2**25, 64


class Features(NamedTuple):
  """Studies as the vision tower gives them; independent of any text."""
  image: jax.Array            # [B, E]
  tokens: jax.Array           # [B, N, E]
  mask: jax.Array             # [B, N] bool, False = padding


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
  """
  model: DualEncoder
  window: Window
  dtype: jax.typing.DTypeLike

  def _attention(self, params, *args, method):
    return self.model.apply(
        {"params": params},
        *args, method=lambda m, *a: getattr(m.item_attention, method)(*a))

  @functools.partial(jax.jit, static_argnums=0)
  def features(self, params, volume, series_mask, series_names) -> Features:
    """[B,S,D,H,W] stored voxels, [B,S] bool, [B,S,L] codes -> `Features`."""
    volume = standardise(volume, *self.window, dtype=self.dtype)
    out = self.model.apply({"params": params}, volume, series_mask,
                           series_names, method="image")
    # Every process keeps the rows that it sent, so they must not move.
    return Features(*(constrain(x, ("batch", *[None] * (x.ndim - 1)))
                      for x in out))

  @functools.partial(jax.jit, static_argnums=0)
  def organs(self, params, volume, series_mask, organ_mask) -> jax.Array:
    """[B,1,D,H,W] voxels, [B,1] bool, [B,D,H,W] r + 1 on organ r -> [B, R, E].

    Unit norm, of what each organ's tokens say; 0 for one without a token.
    """
    volume = standardise(volume, *self.window, dtype=self.dtype)
    out = self.model.apply({"params": params}, volume, series_mask, organ_mask,
                           method="organs")
    return item_pairs.unit(out.vectors)

  @functools.partial(jax.jit, static_argnums=0, static_argnames="normalise")
  def prepare(self, params, features: Features, *,
              normalise: bool = True) -> Encoded:
    """Projects keys and values, of normalised tokens or of plain ones."""
    image, tokens, mask = features
    tokens = item_pairs.unit(tokens) if normalise else tokens
    return Encoded(
        item_pairs.unit(image),
        self._attention(params, tokens, mask, method="project_tokens"))

  @functools.partial(jax.jit, static_argnums=0)
  def embed(self, params, ids) -> jax.Array:
    """[P, T] word-piece ids -> [P, E]."""
    return self.model.apply({"params": params}, ids, method="text")

  @functools.partial(jax.jit, static_argnums=0, static_argnames="normalise")
  def ask(self, params, embedding, *, normalise: bool = True) -> Texts:
    """[P, E] -> `Texts`."""
    unit = item_pairs.unit(embedding)
    items = self._attention(params, unit if normalise else embedding,
                            method="project_items")
    return Texts(unit, items.query)

  def studies(self, params, volume, series_mask, series_names) -> Encoded:
    """`features`, then `prepare`, by the zero-shot rule."""
    return self.prepare(
        params, self.features(params, volume, series_mask, series_names))

  def texts(self, params, ids) -> Texts:
    """`embed`, then `ask`, by the zero-shot rule."""
    return self.ask(params, self.embed(params, ids))

  @functools.partial(jax.jit, static_argnums=0)
  def scores(self, params, encoded: Encoded, texts: Texts):
    """TCSim and cosine with the global vector, [B, P] each."""
    B, P = len(encoded.image), len(texts.embedding)
    everything = jnp.broadcast_to(jnp.arange(P), (B, P))
    return (self._tcsim(params, encoded, texts, everything),
            encoded.image @ texts.embedding.T)

  @functools.partial(jax.jit, static_argnums=0)
  def chosen(self, params, encoded: Encoded, texts: Texts, which) -> jax.Array:
    """TCSim [B, J] of each study with its own texts `which` [B, J]."""
    return self._tcsim(params, encoded, texts, which)

  def _tcsim(self, params, encoded, texts, which):
    out = lambda pooled: self._attention(params, pooled, method="output")
    B, N, A, _ = encoded.tokens.key.shape
    block = max(1, min(_MOST_TEXTS, _ATTENTION_SIZE // (B * N * A)))
    return item_pairs.compare(
        item_pairs.Items(*texts), encoded.tokens, which, out, num_own=0,
        block=block).local

  @functools.partial(jax.jit, static_argnums=0)
  def attention(self, encoded: Encoded, texts: Texts, which) -> jax.Array:
    """Head-averaged weights [B, n, N] of texts `which` [B, n]."""
    weights = item_pairs.attention_weights(texts.query[which], encoded.tokens)
    return weights.mean(1)
