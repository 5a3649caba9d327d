"""The loss of several processes against ours with as many groups.

A process compares its images first with its own lists of items, then with the
lists of each partner; we keep the partners in the order of their numbers.
"""

import jax
import numpy as np

from itemclip_jax.objectives.itemized_clip import Objective
from tests.parity import itemized_case
from tests.parity.compare import assert_close

FAMILY = "loss_multi_"


def _draws(data) -> itemized_case.Draws:
  """Lists [B, L] with global item numbers; masks in our order of partners."""
  W, b = int(data["cfg.world_size"]), int(data["cfg.local_batch"])
  K = data["in.textmask"].shape[1]
  index = np.concatenate([
      data[f"in.rank{r}.combined_indices_local"] + r * b * K for r in range(W)])
  keep = None
  if "in.rank0.ila_keep_mask.partner0" in data:
    keep = np.concatenate([
        np.concatenate([data[f"in.rank{r}.ila_keep_mask.partner{(r + i) % W}"]
                        for i in range(W)], axis=2)
        for r in range(W)]).astype(bool)
  selected = None
  if "mid.rank0.uwp_selected_column" in data:
    selected = np.concatenate([
        data[f"mid.rank{r}.uwp_selected_column"] for r in range(W)])
  return itemized_case.draws(data, index, keep, selected)


def test_loss_and_gradients_agree(data):
  with jax.enable_x64(True):
    W = int(data["cfg.world_size"])
    settings = itemized_case.settings(data)
    weights = itemized_case.weights_of_terms(settings)
    draws = _draws(data)
    terms, grads = itemized_case.run(
        data, draws, {k: np.full(W, v / W) for k, v in weights.items()})

    total = np.asarray(Objective(settings, None).total(terms))
    assert_close(total.mean(), data["out.mean_total_over_ranks"], "mean total")
    for r in range(W):
      assert_close(total[r], data[f"out.rank{r}.total"], f"total of {r}")
      for name in itemized_case.reported(data, f"out.rank{r}"):
        assert_close(terms[name][r], data[f"out.rank{r}.{name}_loss"],
                     f"{name} of {r}")
    itemized_case.assert_gradients_close(
        data, grads, "grad.mean_over_ranks", "grad.concat_ranks_div_world")

    for r in range(W):  # one group's loss, differentiated by what all share
      one = {k: v * np.eye(W)[r] for k, v in weights.items()}
      _, grads = itemized_case.run(data, draws, one)
      itemized_case.assert_scalars_close(data, grads, f"grad.rank{r}")
      if f"grad.rank{r}.visual_proj.ln_q.bias" in data:
        itemized_case.assert_attention_close(data, grads, f"grad.rank{r}")


def test_draws_follow_the_published_rule(data):
  """The same offsets give the same set of items for every image."""
  W, b = int(data["cfg.world_size"]), int(data["cfg.local_batch"])
  B, K = data["in.textmask"].shape
  offsets = np.zeros((B, B), np.int32)
  within = np.kron(np.eye(W, dtype=bool), ~np.eye(b, dtype=bool))
  offsets[within] = np.concatenate([
      data[f"in.rank{r}.sampled_item_offsets"] for r in range(W)]).reshape(-1)
  index = itemized_case.lists(offsets, max_items=K, groups=W)
  np.testing.assert_array_equal(np.sort(index, axis=1), _draws(data).index)
