"""A small batch for the itemised losses, and a plain reference in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.losses import negatives
from itemclip_jax.models.dual_encoder import Outputs
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.objectives.itemized_clip import Objective

B, K, N, E, A = 4, 3, 10, 8, 2


def batch(seed: int = 0) -> dict:
  """Random features; study 0 has one item, study 3 is full."""
  rng = np.random.default_rng(seed)
  mask = np.arange(K) < np.array([1, 2, 2, 3])[:, None]
  return {
      "image": rng.normal(size=(B, E)), "tokens": rng.normal(size=(B, N, E)),
      "token_mask": np.ones((B, N), bool), "items": rng.normal(size=(B, K, E)),
      "item_mask": mask, "normal": np.array([True, False, True, False]),
      "offsets": rng.integers(0, mask.sum(1), size=(B, B)),
  }


def objective(**settings) -> Objective:
  """The default loss but for `settings`."""
  return Objective(schema.Loss(**({"kta_rate": 0.3} | settings)),
                   ItemAttention(E, A))


def params(seed: int = 0) -> dict:
  """Item attention whose biases and norms are not at their defaults."""
  tree = ItemAttention(E, A).init(
      jax.random.key(0), jnp.zeros((1, 1, E)), jnp.zeros((1, 1, E)),
      jnp.ones((1, 1), bool))["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape), tree)


def terms(x: dict, which: Objective, attention=None, keep=None, **kwargs):
  """The terms of a batch, summed over groups by their mean."""
  out = Outputs(
      *(jnp.asarray(x[k]) for k in ("image", "tokens", "token_mask", "items")),
      logit_scale=jnp.asarray(5.0), logit_bias=jnp.asarray(-1.0))
  index = negatives.lists(jnp.asarray(x["offsets"]), max_items=K,
                          groups=which.settings.groups)
  found, _ = which.terms(
      out, {"item_attention": params() if attention is None else attention},
      x["item_mask"], x["normal"], index, keep, **kwargs)
  return {k: v.mean() for k, v in found.items()}


def plain_terms(x: dict, keep: np.ndarray | None, *, kta_rate=0.3, uwp=1.5,
                scale=5.0, bias=-1.0) -> dict[str, float]:
  """The four terms by loops over images, texts and heads (the oracle).

  `keep` is [B, A, J, N] with own items first, then images i + 1, i + 2, ...
  """
  p = jax.tree.map(np.asarray, params())
  unit = lambda v: v / np.linalg.norm(v)
  norm = lambda v, q: ((v - v.mean()) / np.sqrt(v.var() + 1e-5)
                       * p[q]["scale"] + p[q]["bias"])
  heads = lambda v, q: np.einsum("e,eaf->af", v, p[q]["kernel"]) + p[q]["bias"]
  nll = lambda z, c: np.logaddexp(0, -z * (scale * c + bias))

  def pool(i, text, allowed):
    """Pooled vector and head-mean weights; `allowed` [A, N]."""
    q = heads(norm(text, "ln_query"), "query")
    pooled, mean = np.zeros((A, E // A)), np.zeros(N)
    for a in range(A):
      logits = np.full(N + 1, -np.inf)
      logits[N] = 0.0
      for n in np.flatnonzero(allowed[a] & x["token_mask"][i]):
        k = heads(norm(x["tokens"][i, n], "ln_key"), "key")
        logits[n] = q[a] @ k[a] / np.sqrt(E // A)
      w = np.exp(logits - logits.max())
      w /= w.sum()
      for n in range(N):
        v = heads(norm(x["tokens"][i, n], "ln_value"), "value")
        pooled[a] += w[n] * v[a]
      mean += w[:N] / A
    out = np.einsum("af,afe->e", pooled, p["out"]["kernel"]) + p["out"]["bias"]
    return unit(out), mean

  ila = kta = iis = mps = 0.0
  for i in range(B):
    rows = [(i, k) for k in range(K)]
    rows += [((i + d) % B, x["offsets"][i, (i + d) % B]) for d in range(1, B)]
    found = []
    for j, (study, k) in enumerate(rows):
      text = x["items"][study, k]
      drawn = x["item_mask"][study, k]
      dropped = study != i and x["normal"][i] and x["normal"][study]
      if not drawn or dropped:
        continue
      allowed = np.ones((A, N), bool) if keep is None else keep[i, :, j]
      pooled, mean = pool(i, text, allowed)
      real = np.where(x["token_mask"][i], mean, -1)
      count = max(1, int(kta_rate * x["token_mask"][i].sum()))
      top = np.zeros((A, N), bool)
      top[:, np.argsort(-real, kind="stable")[:count]] = True
      again, _ = pool(i, text, top)
      sign = 1 if study == i else -1
      found.append((sign, pooled @ unit(text), again @ unit(text)))
      if sign > 0:
        for other in np.flatnonzero(x["item_mask"][i]):
          iis += nll(1 if other == k else -1,
                     pooled @ unit(x["items"][i, other]))
    positives = [c for sign, c, _ in found if sign > 0]
    for sign, c, again in found:
      worst = sign > 0 and c == min(positives)
      weight = uwp if worst else 1.0
      ila += weight * nll(sign, c)
      kta += weight * nll(sign, again)
    for study, k in np.argwhere(x["item_mask"]):
      if study == i or not (x["normal"][i] and x["normal"][study]):
        mps += nll(1 if study == i else -1,
                   unit(x["image"][i]) @ unit(x["items"][study, k]))
  return {"ila": ila / B, "kta": kta / B, "iis": iis / (B * K),
          "mps": mps / (B * K)}
