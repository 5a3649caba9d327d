"""Local scores of a model that learnt no item attention.

    w = softmax0_n(cos(t, v_n) / tau),   o = sum_n w_n v_n / |v_n|

with the zero slot of `ops.attention`. It has no parameters and the methods of
`item_attention.ItemAttention`, so everything that asks where a text looks asks
CLIP and its like in the same way. Comparing texts with the projected tokens of
a contrastive model goes back to Zhou et al. 2022,
https://arxiv.org/abs/2112.01071.
"""

import flax.linen as nn
import jax

from itemclip_jax.ops import item_pairs


class TokenSimilarity(nn.Module):
  """Queries are text items, keys and values are image tokens.

  Attributes:
    temperature: tau.
  """
  temperature: float = 0.07

  def project_items(self, items: jax.Array) -> item_pairs.Items:
    """[M, E] -> embeddings and queries [M, 1, E]."""
    # Attention divides by sqrt(E), which a cosine does not want.
    gain = items.shape[-1] ** 0.5 / self.temperature
    return item_pairs.Items(items, gain * item_pairs.unit(items)[:, None])

  def project_tokens(
      self,
      tokens: jax.Array,        # [B, N, E]
      token_mask: jax.Array,    # [B, N] bool, False = padding
  ) -> item_pairs.Tokens:
    """Keys and values [B, N, 1, E]."""
    token = item_pairs.unit(tokens)[:, :, None]
    return item_pairs.Tokens(token, token, token_mask)

  def output(self, pooled: jax.Array) -> jax.Array:
    """[B, J, 1, E] -> [B, J, E]."""
    return pooled[:, :, 0]

  def __call__(self, items, tokens, token_mask):
    """Every item over one image each: [B, J, E] x [B, N, E] -> [B, J, E]."""
    B, J, E = items.shape
    query = self.project_items(items.reshape(B * J, E)).query
    keys = self.project_tokens(tokens, token_mask)
    weights = item_pairs.attention_weights(query.reshape(B, J, 1, E), keys)
    return item_pairs.pool(weights, keys.value, self.output)
