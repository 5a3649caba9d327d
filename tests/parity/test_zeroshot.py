"""Zero-shot scores of chest CT and their metrics against recorded numbers."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from itemclip_jax.evaluators import embed
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.ops import item_pairs
from tests.parity import torch_names
from tests.parity.compare import assert_close
from tests.parity.compile import jit
from tests.parity.test_metrics import at_best_threshold

FAMILY = "zeroshot_ct_rate"


class Given(nn.Module):
  """Stands where the model stands, and hands the file's features through."""
  item_attention: ItemAttention

  def image(self, volume, series_mask, tokens):
    """The features come in the place of the series names."""
    del volume
    return tokens[:, 0], tokens, series_mask

  def text(self, features):
    return features


def _attention(data) -> tuple[ItemAttention, dict]:
  heads = int(data["cfg.n_head"])
  params = torch_names.item_attention(
      torch_names.under(data, "param.visual_proj"), heads)
  return ItemAttention(data["in.text_features"].shape[1], heads), params


def test_scores_agree(data):
  attention, params = _attention(data)
  encoder = embed.Encoder(Given(attention), (0.0, 1.0), jnp.float32)
  tokens, texts = data["in.image_tokens"], data["in.text_features"]

  @jit
  def scores(params, tokens, texts):
    mask = jnp.ones(tokens.shape[:2], bool)
    studies = encoder.studies(params, tokens, mask, tokens)
    return encoder.scores(params, studies, encoder.texts(params, texts))[0]

  ours = scores({"item_attention": params}, tokens, texts)
  # Computed in float32, whatever it was stored as.
  assert_close(ours, data["out.similarity"].astype(np.float32), "similarity")


def test_scores_as_in_training_agree(data):
  """Without the normalisation before the attention."""
  attention, params = _attention(data)

  @jit
  def scores(params, tokens, texts):
    mask = jnp.ones(tokens.shape[:2], bool)
    pooled = attention.apply(
        {"params": params},
        jnp.broadcast_to(texts, (len(tokens), *texts.shape)), tokens, mask)
    return jnp.einsum("bje,je->bj", item_pairs.unit(pooled),
                      item_pairs.unit(texts))

  ours = scores(params, data["in.image_tokens"], data["in.text_features"])
  assert_close(ours, data["out.extra.similarity_without_prenormalisation"],
               "similarity without prenormalisation")


def test_metrics_agree(data):
  rows = [at_best_threshold(scores, labels) for scores, labels
          in zip(data["out.similarity"].T, data["in.labels"].T)]
  ours = {name: np.array([row[name] for row in rows]) for name in rows[0]}

  assert_close(ours.pop("threshold"), data["out.threshold"], "threshold")
  assert_close(ours.pop("balanced_accuracy"),
               data["out.extra.true_balanced_accuracy_per_class"],
               "balanced accuracy")
  ours["acc_balanced"] = ours.pop("accuracy")  # named so, but plain accuracy
  for name, values in ours.items():
    assert_close(values, data[f"out.per_class.{name}"], name)
    assert_close(values.mean(), data[f"out.mean.{name}"], f"mean {name}")
