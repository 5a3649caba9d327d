"""Zero-shot classes from two prompts each, against recorded numbers.

The file's features go through the same evaluator, scorer and compiled functions
as a model's.
"""

import flax.linen as nn
import jax
import numpy as np

from itemclip_jax.evaluators import classify, embed, scoring
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.parallel.mesh import make_mesh
from tests.evaluators import embedded
from tests.parity import torch_names
from tests.parity.compare import assert_close

FAMILY = "zeroshot_rsicd"

METRICS = ("top1", "top5", "mean_rank")
FAMILIES = {"tcsim": "tcsim", "global_cosine": "global"}  # theirs -> ours


class Given(nn.Module):
  """Stands where the model stands; texts come as their vectors."""
  item_attention: ItemAttention

  def text(self, ids):
    return ids


class Studies(embedded.Studies):
  """All studies of the file in one batch."""
  steps = 1

  @property
  def batch(self):
    return len(self)

  def rows(self, step):
    return np.arange(step, len(self))

  def local(self, step):
    del step
    return {"image": self.image, "tokens": self.tokens,
            "mask": np.ones(self.tokens.shape[:2], bool)}


def _evaluator(data) -> classify.Evaluator:
  prompts = np.stack([data["in.text_features_prompt1"],
                      data["in.text_features_prompt2"]], 1)      # [C, 2, E]
  C, _, E = prompts.shape
  heads = int(data["cfg.n_head"])
  params = {
      "item_attention": torch_names.item_attention(
          torch_names.under(data, "param.visual_proj"), heads),
      "logit_scale": np.zeros(()), "logit_bias": np.zeros(())}
  vectors = {f"{c} {p}": prompts[c, p] for c in range(C) for p in range(2)}
  encoder = embed.Encoder(Given(ItemAttention(E, heads)), (0.0, 1.0), "float32")
  scorer = scoring.Scorer(
      encoder, params, lambda texts: np.stack([vectors[t] for t in texts]),
      make_mesh(1, 1, jax.devices()[:1]), grid=(1, 1, 1), quiet=True)
  names = tuple(map(str, range(C)))
  studies = Studies(image=data["in.image_global"], findings=names,
                    labels=np.eye(C, dtype=int)[data["in.labels"]])
  studies.tokens = data["in.image_tokens"]
  return classify.Evaluator(embedded.context(
      "rsicd", studies, scorer, combine="vector", options={
          "classes": {c: {"label": c, "prompts": [f"{c} 0", f"{c} 1"]}
                      for c in names},
          "metrics": METRICS}))


def test_scores_and_metrics_agree(data):
  evaluator = _evaluator(data)
  table = evaluator.collect()
  ours = embedded.once(classify.measure("rsicd", table, evaluator.meta()),
                       len(table["truth"]))
  assert table["truth"].tolist() == data["in.labels"].astype(str).tolist()
  for theirs, family in FAMILIES.items():
    logits = data[f"out.{theirs}.logits"]
    assert_close(np.stack([table[f"{family}/{c}"]
                           for c in range(logits.shape[1])], 1), logits, theirs)
    infix = "" if family == "tcsim" else f"{family}/"
    for metric in METRICS:
      # Computed in float32, whatever it was stored as.
      assert_close(ours[f"rsicd/{infix}{metric}"],
                   data[f"out.{theirs}.{metric}"].astype(np.float32),
                   f"{theirs} {metric}")
