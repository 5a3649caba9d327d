"""Retrieval by TCSim and by the global vectors against recorded numbers."""

import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from itemclip_jax.evaluators import embed, retrieval
from itemclip_jax.models.item_attention import ItemAttention
from tests.parity import torch_names
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "retrieval_"


class Attention(nn.Module):
  """A model of which only the item attention is asked."""
  item_attention: ItemAttention


class Scorer:
  """Scores the file's features; a text is the number of its row."""

  def __init__(self, data):
    heads = int(data["cfg.n_head"])
    params = torch_names.item_attention(
        torch_names.under(data, "param.visual_proj"), heads)
    model = Attention(ItemAttention(data["in.text_features"].shape[1], heads))
    self._encoder = embed.Encoder(model, (0.0, 1.0), jnp.float32)
    self._params, self._data = {"item_attention": params}, data

  def blocks(self, studies, texts, *, normalise):
    asked = self._data["in.text_features"][[int(t) for t in texts]]
    images, tokens = (self._data[f"in.image_{k}"] for k in ("global", "tokens"))

    @jit
    def scores(params, asked, *features):
      encoded = self._encoder.prepare(
          params, embed.Features(*features), normalise=normalise)
      return self._encoder.scores(
          params, encoded, self._encoder.ask(params, asked,
                                             normalise=normalise))

    rows = np.arange(len(studies))
    for some in np.array_split(rows, 2):
      mask = np.ones(tokens[some].shape[:2], bool)
      yield some, *map(np.asarray, scores(
          self._params, asked, images[some], tokens[some], mask))


class Studies:
  """One study per image; its texts are their numbers."""

  def __init__(self, data):
    self._data = data
    self.study_id = np.arange(len(self)).astype(str)
    self.patient_id = self.study_id

  def __len__(self):
    return len(self._data["in.image_tokens"])

  def items(self, row):
    return [str(p) for p in np.flatnonzero(
        self._data["in.text_to_image"] == row)]


def _measured(data):
  """The evaluator's table, and its numbers by name."""
  of = lambda start: sorted({
      int(k.split("@")[1]) for k in data if k.startswith(start)})
  complete = (of("out.item_val.FlairRankI2T_COMPLETE@") + sorted(
      {int(k.split("@")[1].removesuffix("_worst")) for k in data
       if "R@" in k and k.endswith("_worst")}))
  ranks_at = of("out.tcsim.text_to_image_R@") + of(
      "out.item_val.FlairRankI2T@")
  evaluator = retrieval.Evaluator(types.SimpleNamespace(
      name="r", studies=Studies(data), scorer=Scorer(data),
      spec=types.SimpleNamespace(options={
          "ranks_at": sorted(set(ranks_at)),
          "complete_at": sorted(set(complete))})))
  table = evaluator.collect()
  found = retrieval.measure("r", table, evaluator.meta())
  values = found.statistic(np.ones((1, len(table["query"])), int))[0]
  return dict(zip(found.names, values))


def _ours(name: str, values: dict) -> float:
  """The number that the file knows under another name.

  Their median is rounded down where it lies between two ranks.
  """
  if name.startswith("item_val."):
    ours = {"Flair_Rank_All_Entry": "mean_own_rank",
            "Flair_Rank_Worst_Entry": "mean_worst_rank"}
    what = name.split(".")[1]
    if what in ours:
      return values[f"r/image_to_text/{ours[what]}"] - 1  # theirs are from 0
    what, k = what.split("@")
    way = "text_to_image" if "T2" in what else "image_to_text"
    kind = "complete" if what.endswith("COMPLETE") else "r"
    return values[f"r/{way}/{kind}@{k}"]
  score, what = name.split(".")
  start = "r/" + {"tcsim": "", "cosine": "global/"}[score]
  way = what[:len("text_to_image")]
  what = what[len(way) + 1:]
  if what.endswith("_worst"):
    what = {"mean_rank": "mean_worst_rank", "median_rank": "median_worst_rank"
            }.get(what.removesuffix("_worst"),
                  what.removesuffix("_worst").replace("R@", "complete@"))
  value = values[f"{start}{way}/{what.replace('R@', 'r@')}"]
  return np.floor(value) if "median" in what else value


def test_numbers_agree(data):
  values = _measured(data)
  names = [k.removeprefix("out.") for k in data if k.startswith(
      ("out.tcsim.", "out.cosine.", "out.item_val."))]
  assert len(names) > 30
  for name in names:
    # They are means of float32 ranks.
    assert _ours(name, values) == pytest.approx(
        float(data[f"out.{name}"]), rel=1e-6), name


def test_scores_agree(data):
  texts = [str(p) for p in range(len(data["in.text_features"]))]
  parts = list(Scorer(data).blocks(Studies(data), texts, normalise=False))
  scale = np.exp(data["cfg.log_logit_scale"])
  for column, name in ((1, "tcsim"), (2, "cosine")):
    assert_close(scale * np.concatenate([p[column] for p in parts]),
                 data[f"out.{name}_scaled_similarity"], name)
