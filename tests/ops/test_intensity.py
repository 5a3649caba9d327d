"""Stored numbers become what the published loaders hand to the towers."""

import numpy as np
import pytest

from itemclip_jax.ops import intensity


def test_a_window_is_clipped_and_standardised_by_one_number():
  hounsfield = np.array([-3000, -1150, -400, 350, 3000], np.int16)
  window = intensity.Window(-1150.0, 350.0)
  np.testing.assert_allclose(  # float32
      intensity.standardise(hounsfield, *window),
      (np.array([0, 0, 0.5, 1, 1]) - 0.449) / 0.226, rtol=1e-6)


@pytest.mark.parametrize("dtype, rtol", [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_pictures_have_the_statistics_of_each_channel(dtype, rtol):
  picture = np.random.default_rng(0).integers(
      0, 256, (2, 1, 3, 4, 5), dtype=np.uint8)
  ours = intensity.standardise(picture, *intensity.RGB, dtype=dtype)
  assert ours.dtype == dtype and ours.shape == picture.shape
  for c, (mean, std) in enumerate([(0.48145466, 0.26862954),
                                   (0.4578275, 0.26130258),
                                   (0.40821073, 0.27577711)]):
    np.testing.assert_allclose(
        np.asarray(ours[:, :, c], np.float32),
        (picture[:, :, c] / 255 - mean) / std, rtol=rtol, atol=rtol)
