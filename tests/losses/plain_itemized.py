"""The itemised loss as the specification reads, for comparison.

    pooled(t, v)  = W_o concat_h softmax([q_h k_h^T / sqrt(F); 0]) [v_h; 0] + b
    local attention    all candidates J of an image, tokens dropped by `keep`
    key tokens         a second pass, without gradient, says how much each token
                       is attended to on average; the largest share is kept
    key attention      a third pass, over the key tokens alone
    separation         an image's own candidates of the first pass

Every pass takes embeddings of candidates and tokens and does all of the item
attention: norms, projections, softmax, output. The two that carry a gradient
are recomputed in the backward pass, as the published code does. Nothing here
is shared with the package, and all of it is fit to be compiled.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, section 3.
"""

import jax
import jax.numpy as jnp


def layer_norm(x, p):
  centred = x - x.mean(-1, keepdims=True)
  variance = jnp.square(centred).mean(-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]


def cross_attention(
    params,
    texts,                 # [B, J, E]
    tokens,                # [B, N, E]
    seen,                  # [B, A, J, N] or [B, 1, J, N] bool
):                         # [B, J, E], [B, A, J, N]
  """Pooled vectors, and the weights without the zero slot."""
  project = lambda x, name: jnp.einsum(
      "bne,eaf->banf", layer_norm(x, params[f"ln_{name}"]),
      params[name]["kernel"]) + params[name]["bias"][:, None]
  query, key, value = (project(texts, "query"), project(tokens, "key"),
                       project(tokens, "value"))
  logits = jnp.einsum("bajf,banf->bajn", query, key) * query.shape[-1] ** -0.5
  logits = jnp.where(seen, logits, -jnp.inf)
  nothing = jnp.zeros((*logits.shape[:-1], 1), logits.dtype)
  weights = jax.nn.softmax(jnp.concatenate([logits, nothing], -1))[..., :-1]
  pooled = jnp.einsum("bajn,banf->bajf", weights, value)
  out = params["out"]
  return jnp.einsum("bajf,afe->bje", pooled, out["kernel"]) + out["bias"], (
      weights)


def cosine(a, b):
  norm = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  return jnp.sum(norm(a) * norm(b), axis=-1)


def key_tokens(weights, rate: float):
  """[B, A, J, N] -> [B, 1, J, N] bool, the max(1, floor(rate N)) largest."""
  attention = weights.mean(1)                                    # [B, J, N]
  B, J, N = attention.shape
  _, index = jax.lax.top_k(attention, max(1, int(rate * N)))
  none = jnp.zeros((B, J, N), bool)
  return none.at[jnp.arange(B)[:, None, None], jnp.arange(J)[:, None],
                 index].set(True)[:, None]


def terms(
    x: dict,               # image, tokens, items, log_scale, bias, attention
    index,                 # [B, J] int, candidates among the B K items
    item_mask,             # [B, K] bool, False = padding
    normal,                # [B] bool, the report says nothing is abnormal
    keep,                  # [B, A, J, N] bool, False = dropped token
    *,
    kta_rate: float,
    uwp_factor: float,
):                         # four numbers
  """L_ILA, L_KTA, L_IIS and L_MPS; every image and every token is real."""
  tokens, items, params = x["tokens"], x["items"], x["attention"]
  B, K, E = items.shape
  loss = lambda sign, cos: -jax.nn.log_sigmoid(
      sign * (jnp.exp(x["log_scale"]) * cos + x["bias"]))

  texts = items.reshape(B * K, E)[index]                         # [B, J, E]
  attend = jax.checkpoint(
      lambda *arguments: cross_attention(*arguments)[0])
  pooled = attend(params, texts, tokens, keep)
  _, weights = jax.lax.stop_gradient(
      cross_attention(params, texts, tokens, keep))
  pooled_key = attend(params, texts, tokens, key_tokens(weights, kta_rate))

  study = index // K
  own = study == jnp.arange(B)[:, None]                          # [B, J]
  sign = jnp.where(own, 1, -1)
  both_normal = normal[:, None] & normal & ~jnp.eye(B, dtype=bool)
  counted = item_mask.reshape(-1)[index] & ~jnp.take_along_axis(
      both_normal, study, axis=1)
  local = cosine(pooled, texts)
  worst = jnp.argmin(jnp.where(own & counted, local, jnp.inf), axis=1)
  weight = counted * jnp.where(jnp.arange(index.shape[1]) == worst[:, None],
                               uwp_factor, 1.0)
  ila = jnp.sum(weight * loss(sign, local)) / B
  kta = jnp.sum(weight * loss(sign, cosine(pooled_key, texts))) / B

  pairs = cosine(pooled[:, :, None], items[:, None])             # [B, J, K]
  same = index[..., None] == jnp.arange(B * K).reshape(B, 1, K)
  real = (own & counted)[..., None] & item_mask[:, None]
  iis = jnp.sum(real * loss(jnp.where(same, 1, -1), pairs)) / (B * K)

  globals_ = cosine(x["image"][:, None, None], items[None])      # [B, B, K]
  real = item_mask[None] & ~both_normal[..., None]
  sign = jnp.where(jnp.eye(B, dtype=bool), 1, -1)[..., None]
  mps = jnp.sum(real * loss(sign, globals_)) / (B * K)
  return {"ila": ila, "kta": kta, "iis": iis, "mps": mps}
