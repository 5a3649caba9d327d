"""BERT-family text encoder: post-norm layers, first token of the last one.

    x = LN(word + position + type);  x = LN(x + Attention x);  x = LN(x + MLP x)

exact GELU, epsilon 1e-12, padding (id 0) hidden from attention.

Reference: Devlin et al. 2019, https://arxiv.org/abs/1810.04805; widths and
names follow the Hugging Face models.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models import repeated
from itemclip_jax.models.dropout import Dropout
from itemclip_jax.models.layers import Mlp, SelfAttention, layer_norm

PAD_ID = 0
_EPSILON = 1e-12


class Bert(nn.Module):
  """Token ids to one vector a row.

  Attributes:
    vocab_size, width, depth, num_heads, hidden: sizes; `hidden` of the MLP.
    max_positions: rows of the position table.
    dropout: rate after embeddings and in each branch, in training.
    word_init: standard deviation of the initial word vectors. With BERT's 0.02
      position and type weigh as much as the word: untrained texts are alike.
    scan: compile one layer and loop, see `repeated`.
    remat: in the loop, recompute each layer in the backward pass, but for what
      it `keeps`.
    keeps: names of activations, see `config.towers`.
    dtype: type of the matmuls, None for the parameters'.
  """
  vocab_size: int = 30522
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  hidden: int = 3072
  max_positions: int = 512
  dropout: float = 0.1
  word_init: float = 0.02
  scan: bool = False
  remat: bool = False
  keeps: tuple[str, ...] = ()
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(
      self,
      ids: jax.Array,       # [M, T] int32, 0 = padding
      *,
      train: bool = False,
  ) -> jax.Array:           # [M, width] state of the first token
    T = ids.shape[1]
    embed = lambda n, name, std=0.02: nn.Embed(
        n, self.width, dtype=self.dtype, name=name,
        embedding_init=nn.initializers.normal(std))
    drop = functools.partial(Dropout(self.dropout), train=train)
    x = embed(self.vocab_size, "word", self.word_init)(ids)
    x = x + embed(self.max_positions, "position")(jnp.arange(T))
    x = x + embed(2, "type")(jnp.zeros((), jnp.int32))
    x = drop(layer_norm(_EPSILON, self.dtype, "norm")(x))
    # The first token is always read, so a row of padding stays finite.
    mask = (ids != PAD_ID) | (jnp.arange(T) == 0)
    shape, x = x.shape, x.reshape(-1, self.width)
    if self.scan and not self.is_initializing():
      x = self._looped(x, mask, train)
    else:
      for i in range(self.depth):
        x = _layer(x, mask, drop, **_parts(
            self.num_heads, self.hidden, self.dtype, f"layer{i}_"))
        self.sow("intermediates", f"hidden{i + 1}", x.reshape(shape))
    return x.reshape(shape)[:, 0]

  def _looped(self, x, mask, train):
    """All layers as a loop over their stacked parameters."""
    drops = train and self.dropout > 0
    keys = jax.random.split(
        self.make_rng("dropout") if drops else jax.random.key(0), self.depth)
    own = lambda i: {part: self.get_variable("params", f"layer{i}_{part}")
                     for part in _PARTS}
    inputs = [(repeated.for_matmuls(own(i), self.dtype), keys[i])
              for i in range(self.depth)]
    layer = _Layer(self.num_heads, self.hidden, self.dropout, self.dtype,
                   parent=None)
    run = lambda params, key, x: layer.apply(
        {"params": params}, x, mask, train, rngs={"dropout": key})
    if self.remat:
      run = jax.checkpoint(run, policy=repeated.policy(self.keeps),
                           prevent_cse=False)
    return repeated.loop(lambda x, own: run(*own[0], x), x, inputs, size=1)


_PARTS = ("attention", "norm1", "mlp", "norm2")


def _parts(num_heads, hidden, dtype, prefix: str) -> dict:
  """The modules of one layer, to be made in a compact method."""
  norm = lambda name: layer_norm(_EPSILON, dtype, prefix + name)
  return {"attention": SelfAttention(num_heads, dtype,
                                     name=f"{prefix}attention"),
          "norm1": norm("norm1"),
          "mlp": Mlp(hidden, dtype, name=f"{prefix}mlp"),
          "norm2": norm("norm2")}


def _layer(x, mask, drop, *, attention, norm1, mlp, norm2):
  """[M T, C] -> [M T, C], see the header; flat for the reason told in Block."""
  pooled = attention(x.reshape(*mask.shape, -1), mask)
  x = norm1(x + drop(pooled.reshape(x.shape)))
  return norm2(x + drop(mlp(x)))


class _Layer(nn.Module):
  """One layer by itself, for the loop."""
  num_heads: int
  hidden: int
  dropout: float
  dtype: jax.typing.DTypeLike | None

  @nn.compact
  def __call__(self, x, mask, train):
    drop = functools.partial(Dropout(self.dropout), train=train)
    return _layer(x, mask, drop, **_parts(
        self.num_heads, self.hidden, self.dtype, ""))
