"""The series-name encoder reads a name up to its terminator."""

import jax
import numpy as np
import pytest

from itemclip_jax.data import series_name
from itemclip_jax.models.series_name import (
    NUM_CODES, TERMINATOR, SeriesNameEncoder)

MODEL = SeriesNameEncoder(width=16, depth=2, num_heads=2, hidden=16)
NAMES = ("AX_T1", "AX_T2", "COR_T1_POST")


def codes(length: int) -> np.ndarray:
  return np.stack([series_name.codes(n, length) for n in NAMES])


apply = jax.jit(MODEL.apply)


@pytest.fixture(name="params", scope="module")
def _params():
  return jax.jit(MODEL.init)(jax.random.key(0), codes(16))


def test_the_length_of_trailing_padding_changes_nothing(params):
  short, long = (apply(params, codes(n)) for n in (12, 40))
  # float32: softmax sums of 12 and of 40 terms.
  np.testing.assert_allclose(short, long, rtol=1e-5, atol=1e-6)


def test_what_follows_the_terminator_is_not_read(params):
  given = codes(16)
  changed = given.copy()
  changed[0, 6:] = 17
  np.testing.assert_array_equal(apply(params, changed), apply(params, given))


def test_names_that_differ_in_a_letter_differ_from_the_start(params):
  vectors = np.asarray(apply(params, codes(16)))
  for a, b in ((0, 1), (0, 2)):
    assert np.linalg.norm(vectors[a] - vectors[b]) > 0.1


def test_a_padded_series_stays_finite(params):
  assert np.isfinite(apply(params, np.zeros((1, 16), np.int32))).all()


def test_codes_fit_the_table_of_letters():
  assert series_name.codes("a", 4).tolist() == [1, TERMINATOR, 0, 0]
  assert TERMINATOR == NUM_CODES - 1


def test_width_of_the_published_encoder_takes_names_of_any_length():
  """The fixed position table has 200 rows; names are cut to 110 codes."""
  out = jax.eval_shape(
      lambda ids: SeriesNameEncoder().init_with_output(jax.random.key(0), ids),
      jax.ShapeDtypeStruct((2, 110), np.int32))
  assert out[0].shape == (2, 256)
