"""BERT-family text encoder: post-norm layers, first token of the last one.

    x = LN(word + position + type);  x = LN(x + Attention x);  x = LN(x + MLP x)

exact GELU, epsilon 1e-12, padding (id 0) hidden from attention.

Reference: Devlin et al. 2019, https://arxiv.org/abs/1810.04805; widths and
names follow the Hugging Face models.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = embed(self.vocab_size, "word", self.word_init)(ids)
    x = x + embed(self.max_positions, "position")(jnp.arange(T))
    x = x + embed(2, "type")(jnp.zeros((), jnp.int32))
    x = drop(layer_norm(_EPSILON, self.dtype, "norm")(x))
    # The first token is always read, so a row of padding stays finite.
    mask = (ids != PAD_ID) | (jnp.arange(T) == 0)
    for i in range(self.depth):
      attention = SelfAttention(self.num_heads, self.dtype,
                                name=f"layer{i}_attention")
      x = x + drop(attention(x, mask))
      x = layer_norm(_EPSILON, self.dtype, f"layer{i}_norm1")(x)
      x = x + drop(Mlp(self.hidden, self.dtype, name=f"layer{i}_mlp")(x))
      x = layer_norm(_EPSILON, self.dtype, f"layer{i}_norm2")(x)
      self.sow("intermediates", f"hidden{i + 1}", x)
    return x[:, 0]
