"""Series-name encoder of HLIP-SN: "AX_T2" -> a vector, character by character.

Characters are embedded, joined with a fixed position code, passed through
bidirectional pre-norm layers, and read off at the terminator. Attention sees
the characters up to and including the terminator.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141 (HLIP-SN); the
encoder is that of Prima (Lyu et al. 2025). Trained from scratch here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models.layers import (
    SelfAttention, Mlp, interleaved_sincos, layer_norm)

NUM_CODES = 47     # padding, 45 character classes, terminator
TERMINATOR = 46
_POSITION_WIDTH = 10
_POSITION_ROWS = 200


class SeriesNameEncoder(nn.Module):
  """Reads character codes (see `data.series_name.codes`).

  Attributes:
    width: of the layers; the last 10 channels of the input are position.
    depth: number of layers.
    num_heads: A.
    hidden: width of the MLPs.
    dtype: type of the matmuls, None for the input's.
  """
  width: int = 256
  depth: int = 3
  num_heads: int = 4
  hidden: int = 300
  dtype: jax.typing.DTypeLike | None = None

  @nn.compact
  def __call__(self, codes: jax.Array) -> jax.Array:  # [G, L] -> [G, width]
    # N(0, 1) as in torch: names that differ in one letter must differ early.
    letters = nn.Embed(NUM_CODES, self.width - _POSITION_WIDTH,
                       dtype=self.dtype, name="letters",
                       embedding_init=nn.initializers.normal(1.0))(codes)
    table = jnp.asarray(interleaved_sincos(_POSITION_ROWS, _POSITION_WIDTH),
                        letters.dtype)
    G, L = codes.shape
    position = jnp.broadcast_to(table[:L], (G, L, _POSITION_WIDTH))
    x = jnp.concatenate([letters, position], axis=-1)

    # A padded series has no terminator: reads position 0, is masked later.
    end = jnp.argmax(codes == TERMINATOR, axis=1)                  # [G]
    mask = jnp.arange(L) <= end[:, None]
    for i in range(self.depth):
      norm1 = layer_norm(1e-5, self.dtype, f"layer{i}_norm1")
      attention = SelfAttention(self.num_heads, self.dtype, use_bias=False,
                                name=f"layer{i}_attention")
      x = x + attention(norm1(x), mask)
      norm2 = layer_norm(1e-5, self.dtype, f"layer{i}_norm2")
      x = x + Mlp(self.hidden, self.dtype, name=f"layer{i}_mlp")(norm2(x))
    return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
