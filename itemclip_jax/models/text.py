"""CLIP text transformer: causal pre-norm layers, state of the end token.

    x = word + position;  blocks;  LN;  row at the last id that is not 0

exact GELU, epsilon 1e-5. A token sees itself and those before it, so the end
token has read the whole text and nothing reads the padding behind it; there is
no other mask.

The original takes the row of the largest id, which in CLIP's vocabulary is the
end token. The last id that is not 0 is the same row there (id 0 is "!", but
"!" is never last), and it is also the end token of a vocabulary learnt from the
reports, where [SEP] is 3.

Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020; initial values
are open_clip's.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models import layers, repeated

PAD_ID = 0
_EPSILON = 1e-5


class ClipText(nn.Module):
  """Token ids to one vector a row.

  Attributes:
    vocab_size, width, depth, num_heads, hidden: sizes; `hidden` of the MLP.
    max_positions: rows of the position table, the longest text.
    word_init: standard deviation of the initial word vectors.
    scan: compile one block and loop, see `repeated`.
    remat: in the loop, recompute each block in the backward pass, but for what
      it `keeps`.
    keeps: names of activations, see `config.towers`.
    dtype: type of the matmuls, None for the parameters'.
  """
  vocab_size: int = 49408
  width: int = 512
  depth: int = 12
  num_heads: int = 8
  hidden: int = 2048
  max_positions: int = 77
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
  ) -> jax.Array:           # [M, width] state of the last real token
    T = ids.shape[1]
    embed = lambda n, name, std: nn.Embed(
        n, self.width, dtype=self.dtype, name=name,
        embedding_init=nn.initializers.normal(std))
    x = embed(self.vocab_size, "word", self.word_init)(ids)
    x = x + embed(self.max_positions, "position", 0.01)(jnp.arange(T))
    # Rows behind the last, which none before them sees.
    filler = layers.filler(T, self.dtype)
    x = jnp.pad(x, ((0, 0), (0, filler), (0, 0)))
    inits = _inits(self.width, self.depth, self.hidden)
    block = functools.partial(
        layers.Block, self.num_heads, self.hidden, epsilon=_EPSILON,
        dtype=self.dtype, causal=True, inits=inits)
    if self.scan and not self.is_initializing():
      x = repeated.blocks(
          self, lambda rate: block(drop_path=rate, parent=None),
          lambda blocks, x: blocks[0](x, None), x, depth=self.depth, size=1,
          drop_path=0.0, train=train, remat=self.remat, keeps=self.keeps,
          dtype=self.dtype)
    else:
      for i in range(self.depth):
        x = block(name=f"block{i}")(x, None, train)
    x = layers.layer_norm(_EPSILON, self.dtype, "norm")(x)
    # A row of padding reads position 0 and is masked later.
    end = jnp.max(jnp.where(ids != PAD_ID, jnp.arange(T), 0), axis=1)  # [M]
    return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]


def _inits(width: int, depth: int, hidden: int) -> layers.Inits:
  """Branch outputs start the smaller the more of them are summed."""
  normal = nn.initializers.normal
  outputs = normal((2 * depth * width) ** -0.5)
  return layers.Inits(
      project=normal(width ** -0.5), out=outputs,
      fc1=normal((2 * width) ** -0.5), fc2=outputs,
      bias1=layers.torch_bias(width), bias2=layers.torch_bias(hidden))
