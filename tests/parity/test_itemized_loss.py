"""The itemised loss in one process against the published code.

Two kinds of files record defects of the original: without its MPS module it
ignores the ILA weight and reports the total as ILA; and with far-spread logits
the column that it up-weights is a negative or padding, so that its choice is
injected and ours is checked apart.
"""

import jax
import jax.numpy as jnp
import numpy as np

from itemclip_jax.losses import itemized, negatives
from itemclip_jax.objectives.itemized_clip import Objective
from tests.parity import itemized_case
from tests.parity.compare import assert_close
from tests.parity.compile import jit

FAMILY = "loss_single_"


def test_loss_and_gradients_agree(data):
  with jax.enable_x64(True):
    keep, block = data.get("in.ila_keep_mask"), 0
    if keep is not None:
      # Blocks cut the mask; without one they are no more than a loop.
      keep, block = keep.astype(bool), 3
    settings = itemized_case.settings(data)
    weights = itemized_case.weights_of_terms(settings)
    terms, grads = itemized_case.run(
        data,
        itemized_case.draws(data, data["in.combined_indices"], keep,
                            data.get("mid.uwp_selected_column")),
        {k: np.full(1, v) for k, v in weights.items()}, block=block)

    terms = {k: v[0] for k, v in terms.items()}
    total = Objective(settings, None).total(terms)
    assert_close(total, data["out.total"], "total")
    for name in itemized_case.reported(data, "out"):
      assert_close(terms[name], data[f"out.{name}_loss"], name)
    itemized_case.assert_gradients_close(data, grads, "grad", "grad")


def test_draws_follow_the_published_rule(data):
  """The same offsets give the same set of items for every image."""
  B, K = data["in.textmask"].shape
  offsets = np.zeros((B, B), np.int32)
  offsets[~np.eye(B, dtype=bool)] = data["in.sampled_item_offsets"].reshape(-1)
  index = itemized_case.lists(offsets, max_items=K)
  np.testing.assert_array_equal(np.sort(index, axis=1),
                                data["in.combined_indices"])


def test_worst_positive_is_a_real_positive(data):
  with jax.enable_x64(True):
    mask, logits = data["in.textmask"].astype(bool), data["mid.ila_logits"]
    index = data["in.combined_indices"]
    worst, real = jit(_worst_positive)(logits, index, mask)
    for row, column in enumerate(worst):
      if real[row].any():
        assert real[row, column]
        assert logits[row, column] == logits[row][real[row]].min()


def _worst_positive(logits, index, mask):
  """Columns [B], and which columns are real positives [B, J]."""
  nothing = jnp.zeros((len(mask), len(mask)), bool)
  candidates = negatives.exchange(index, mask, nothing)
  real = (candidates.sign > 0) & candidates.weight
  return itemized.worst_positive(logits, candidates), real
