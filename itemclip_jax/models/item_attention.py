"""Item cross-attention: a text item pools the image tokens it speaks of.

    o = W_o concat_h softmax0(W_q LN_q(t) . W_k LN_k(v) / sqrt(F)) W_v LN_v(v)

one layer, no residual, no norm behind it. softmax0 has an extra slot of logit
0 and value 0 for items that match nothing (`ops.attention`). The projections
are separate methods, so that each item and each token is projected once and
`ops.item_pairs` combines them for any choice of pairs.

Few queries are cheaper the other way round. With x = LN v without its gain,

    W_k LN_k(v) + b_k = U_k [x; 1],   q . U_k [x; 1] = (U_k^T q) . [x; 1]

so that U_k is absorbed into the queries and, as pooling is linear, U_v into the
output; keys and values of all heads are then [x; 1] itself (`shared_keys`).

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141; initial values are
those of torch's MultiheadAttention, which the published code uses.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from itemclip_jax.models.layers import layer_norm
from itemclip_jax.ops import item_pairs
from itemclip_jax.ops.attention import wide

# Xavier over the packed [3 E, E] matrix: variance 2 / (3 E + E).
_IN_VARIANCE = 0.5
# U(-1 / sqrt(E), 1 / sqrt(E)): variance 1 / (3 E).
_OUT_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@jax.custom_vjp
def _normalise(x: jax.Array) -> jax.Array:
  """LayerNorm without gain, in float32 or wider; gradient in one pass."""
  return _normalise_fwd(x)[0]


def _normalise_fwd(x):
  centred = wide(x) - jnp.mean(wide(x), axis=-1, keepdims=True)
  variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
  gain = jax.lax.rsqrt(variance + 1e-5)
  like = jnp.zeros((), x.dtype)
  return centred * gain, (centred * gain, gain, like)


def _normalise_bwd(saved, toward):
  x, gain, like = saved
  mean = jnp.mean(toward, axis=-1, keepdims=True)
  along = jnp.mean(toward * x, axis=-1, keepdims=True)
  return ((toward - mean - x * along) * gain).astype(like.dtype),


_normalise.defvjp(_normalise_fwd, _normalise_bwd)


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

  @nn.nowrap
  def layer(self, num_candidates: int) -> item_pairs.Layer:
    """The way that has fewer products for so many queries on an image."""
    apply = lambda method: lambda params, *args: self.apply(
        {"params": params}, *args, method=method)
    # Products a token, forward and backward: 6 J A E of the absorbed, which
    # recompute none, against 8 E^2 of the others.
    if 3 * num_candidates * self.num_heads <= 4 * self.width:
      names = ("absorbed_items", "absorbed_tokens", "absorbed_output")
    else:
      names = ("project_items", "project_tokens", "output")
    return item_pairs.Layer(*map(apply, names))

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

  def absorbed_items(self, items: jax.Array) -> item_pairs.Items:
    """[M, E] item embeddings -> embeddings and queries [M, A, E + 1]."""
    query = self.query(self.ln_query(items))
    query = query * query.shape[-1] ** -0.5
    kernel = self._affine(self.ln_key, self.key)
    return item_pairs.Items(items, jnp.einsum("maf,eaf->mae", query, kernel))

  def absorbed_tokens(
      self,
      tokens: jax.Array,        # [B, N, E]
      token_mask: jax.Array,    # [B, N] bool, False = padding
  ) -> item_pairs.Tokens:
    """Keys and values [B, N, 1, E], the same; the 1 is left to the reader."""
    tokens = _normalise(tokens).astype(self.dtype or tokens.dtype)[:, :, None]
    return item_pairs.Tokens(tokens, tokens, token_mask)

  def absorbed_output(self, pooled: jax.Array) -> jax.Array:
    """[B, J, A, E + 1] -> [B, J, E]."""
    kernel = self._affine(self.ln_value, self.value)
    return self.out(jnp.einsum("bjae,eaf->bjaf", pooled, kernel))

  def _affine(self, norm, dense) -> jax.Array:
    """U of the header, [E + 1, A, F]."""
    norm, dense = norm.variables["params"], dense.variables["params"]
    kernel = norm["scale"][:, None, None] * dense["kernel"]
    bias = dense["bias"] + jnp.einsum(
        "e,eaf->af", norm["bias"], dense["kernel"])
    kernel = jnp.concatenate([kernel, bias[None]])
    return kernel if self.dtype is None else kernel.astype(self.dtype)

  def __call__(self, items, tokens, token_mask, values=None):
    """Every item over one image each: [B, J, E] x [B, N, E] -> [B, J, E]."""
    B, J, E = items.shape
    projected = self.project_items(items.reshape(B * J, E))
    keys = self.project_tokens(tokens, token_mask, values)
    query = projected.query.reshape(B, J, self.num_heads, -1)
    weights = item_pairs.attention_weights(query, keys)
    return item_pairs.pool(weights, keys.value, self.output)
