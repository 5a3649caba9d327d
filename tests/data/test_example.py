"""From a record to a model input: which series fill its slots."""

import numpy as np
import pytest

from itemclip_jax.data.example import repeat_to_fill


@pytest.mark.parametrize("order, num_series, cut, wanted", [
    ([1, 2, 0], 5, True, [1, 2, 0, 1, 2]),
    ([1, 2, 0], 5, False, [1, 2, 0, 1, 2, 0]),
    ([1, 0], 4, False, [1, 0, 1, 0]),
    ([2, 0, 1], 2, True, [2, 0]),
    ([0, 1, 2], 2, False, [0, 1, 2])])
def test_series_repeat_in_their_order(order, num_series, cut, wanted):
  out = repeat_to_fill(np.array(order), num_series, cut=cut)
  np.testing.assert_array_equal(out, wanted)
