"""The BERT text tower and its projection against Hugging Face's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.models.bert import Bert
from itemclip_jax.train import optimizer
from tests.parity import torch_names
from tests.parity.compare import assert_close, assert_trees_close
from tests.parity.compile import jit

FAMILY = "text_hf_"


def _params(torch: dict, num_heads: int) -> dict:
  """Named as in `models.dual_encoder`."""
  return {"text_tower": torch_names.bert(
              torch_names.under(torch, "transformer"), num_heads),
          "text_proj": {"kernel": torch["proj.weight"].T}}


@functools.partial(jit, static_argnums=0)
def _run(model, params, ids, cotangent):
  def total(params):
    cls, state = model.apply(
        {"params": params["text_tower"]}, ids, mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name == "norm")
    features = cls @ params["text_proj"]["kernel"]
    return jnp.sum(features * cotangent), (
        cls, features, state["intermediates"])
  return jax.grad(total, has_aux=True)(params)


def test_tower_and_gradients_agree(data):
  heads, depth = int(data["cfg.heads"]), int(data["cfg.layers"])
  model = Bert(
      vocab_size=int(data["cfg.vocab"]), width=int(data["cfg.hidden"]),
      depth=depth, num_heads=heads, hidden=int(data["cfg.intermediate"]),
      max_positions=int(data["cfg.max_pos"]))
  params = _params(torch_names.under(data, "param"), heads)
  grads, (cls, features, seen) = _run(
      model, params, data["in.input_ids"], data["in.cotangent"])

  hidden = [seen["norm"]["__call__"][0]]
  hidden += [seen[f"hidden{i}"][0] for i in range(1, depth + 1)]
  for i, value in enumerate(hidden):
    assert_close(value, data[f"out.hidden_states.{i}"], f"hidden_states.{i}")
  assert_close(hidden[-1], data["out.last_hidden_state"], "last_hidden_state")
  assert_close(cls, data["out.cls_hidden"], "cls_hidden")
  assert_close(features, data["out.text_features"], "text_features")
  assert_trees_close(
      grads, _params(torch_names.under(data, "grad"), heads), "grad")


def test_a_frozen_tower_trains_the_same_parameters(data):
  """Marks what the original leaves trainable, and converts the marks."""
  trainable = set(data["cfg.trainable_after_lock_default"])
  marks = {name: np.full_like(value, name in trainable)
           for name, value in torch_names.under(data, "param").items()}
  marks = _params(marks, int(data["cfg.heads"]))
  labels = optimizer.labels(marks, text_frozen=True)
  ours = jax.tree.map(lambda label: label != "frozen", labels)
  theirs = jax.tree.map(lambda mark: bool(mark.all()), marks)
  assert ours == theirs
