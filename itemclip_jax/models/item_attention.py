"""Item cross-attention: a text item pools the image tokens it speaks of.

    o = W_o concat_h softmax0(W_q LN_q(t) . W_k LN_k(v) / sqrt(F)) W_v LN_v(v)

one layer, no residual, no norm behind it. softmax0 has an extra slot of logit
0 and value 0 for items that match nothing (`ops.attention`). The projections
are separate methods, so that each item and each token is projected once and
`ops.item_pairs` combines them for any choice of pairs.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141; initial values are
those of torch's MultiheadAttention, which the published code uses.
"""

import flax.linen as nn
import jax

from itemclip_jax.models.layers import layer_norm
from itemclip_jax.ops import item_pairs

# Xavier over the packed [3 E, E] matrix: variance 2 / (3 E + E).
_IN_VARIANCE = 0.5
# U(-1 / sqrt(E), 1 / sqrt(E)): variance 1 / (3 E).
_OUT_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ItemAttention(nn.Module):
  """Queries are text items, keys and values are image tokens.

  Attributes:
    width: E.
    num_heads: A; must divide E.
    query_key_gain: multiplies the initial query and key kernels; 1 is torch's.
      Training from scratch starts sooner where attention is not flat at first.
    dtype: type of the matmuls, None for the input's.
  """
  width: int = 512
  num_heads: int = 8
  query_key_gain: float = 1.0
  dtype: jax.typing.DTypeLike | None = None

  def setup(self):
    heads = (self.num_heads, self.width // self.num_heads)
    dense = lambda gain: nn.DenseGeneral(
        heads, dtype=self.dtype, kernel_init=nn.initializers.variance_scaling(
            _IN_VARIANCE * gain**2, "fan_in", "uniform"))
    norm = lambda: layer_norm(1e-5, self.dtype)
    self.query = dense(self.query_key_gain)
    self.key, self.value = dense(self.query_key_gain), dense(1.0)
    self.ln_query, self.ln_key, self.ln_value = norm(), norm(), norm()
    self.out = nn.DenseGeneral(self.width, (-2, -1), dtype=self.dtype,
                               kernel_init=_OUT_INIT)

  def project_items(self, items: jax.Array) -> item_pairs.Items:
    """[M, E] item embeddings -> embeddings and queries [M, A, F]."""
    return item_pairs.Items(items, self.query(self.ln_query(items)))

  def project_tokens(
      self,
      tokens: jax.Array,        # [B, N, E]
      token_mask: jax.Array,    # [B, N] bool, False = padding
      values: jax.Array | None = None,  # [B, N, E]; None: the tokens
  ) -> item_pairs.Tokens:
    """Keys and values [B, N, A, F]."""
    values = tokens if values is None else values
    return item_pairs.Tokens(self.key(self.ln_key(tokens)),
                             self.value(self.ln_value(values)), token_mask)

  def output(self, pooled: jax.Array) -> jax.Array:
    """[B, J, A, F] -> [B, J, E]."""
    return self.out(pooled)

  def __call__(self, items, tokens, token_mask, values=None):
    """Every item over one image each: [B, J, E] x [B, N, E] -> [B, J, E]."""
    B, J, E = items.shape
    projected = self.project_items(items.reshape(B * J, E))
    keys = self.project_tokens(tokens, token_mask, values)
    query = projected.query.reshape(B, J, self.num_heads, -1)
    weights = item_pairs.attention_weights(query, keys)
    return item_pairs.pool(weights, keys.value, self.output)
