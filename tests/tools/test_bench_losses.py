"""The item losses equal a plain program of the specification."""

import numpy as np
import pytest

from itemclip_jax.errors import UserError
from itemclip_jax.models.item_attention import ItemAttention
from itemclip_jax.ops import item_pairs
from itemclip_jax.tools.benchmarks import losses

# Five candidates and two heads: fewer queries than columns, so that
# projections are absorbed; sixteen heads: more.
SIZES = dict(B=4, K=2, N=24, E=32)
WAYS = {"absorbed": 2, "projected": 16}


@pytest.mark.parametrize("weights", [24 * 2 * 2, 24 * 40, 2**19],
                         ids=["blocks", "images", "all at once"])
@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradients_equal_the_plain_program(monkeypatch, way, weights):
  monkeypatch.setitem(item_pairs._PIECE, "cpu", weights)
  found = losses.differences(heads=WAYS[way], **SIZES)
  # The key's bias moves only what goes to the slot: a small sum of large terms.
  near = lambda name: 1e-3 if name.endswith(("key/bias")) else 2e-5
  assert {name: value for name, value in found.items()
          if not value < near(name)} == {}
  assert {"loss", "tokens", "items", "image", "attention/value/kernel",
          "log_scale", "bias"} <= set(found)


def test_the_two_ways_are_what_the_sizes_choose():
  num_candidates = SIZES["K"] + SIZES["B"] - 1
  widths = {}
  for way, heads in WAYS.items():
    layer = ItemAttention(SIZES["E"], heads).layer(num_candidates)
    inputs = losses.make_inputs(heads=heads, **SIZES)[0]
    widths[way] = layer.tokens(inputs["attention"], inputs["tokens"],
                               np.ones((4, 24), bool)).key.shape[2]
  assert widths == {"absorbed": 1, "projected": 16}


def test_more_candidates_are_more_draws_of_other_images():
  index = losses.make_inputs(heads=2, times=3, **SIZES)[1]
  own = np.asarray(index) // SIZES["K"] == np.arange(4)[:, None]
  assert index.shape == (4, 3 * 5) and (own.sum(1) == SIZES["K"]).all()


def test_of_candidates_times_tokens_memory_holds_a_bit_in_a_byte():
  """As the compiler plans it: 252 candidates a piece, of 504 and of 2016."""
  def temporary(times):
    sizes = dict(B=8, K=2, N=512, E=64, heads=8, times=times)
    inputs = losses.make_inputs(**sizes)
    compiled = losses._compiled("ours", inputs, **sizes)
    return compiled.memory_analysis().temp_size_in_bytes
  pairs = 8 * (2016 - 504)
  # Indices, signs, weights, cosines (K + 2 of a pair), gradients of these; and
  # which of the 512 tokens are key tokens. Logits would be 4 * 8 * 512.
  assert temporary(224) < 1.05 * temporary(56) + pairs * (20 * 4 + 512)


def test_without_tests_beside_it_the_benchmark_says_so(monkeypatch, tmp_path):
  monkeypatch.setattr(losses, "_ORACLE", tmp_path / "plain_itemized.py")
  with pytest.raises(UserError, match="run this in a checkout"):
    losses.measured(heads=2, **SIZES)
