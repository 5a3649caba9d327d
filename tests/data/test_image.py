"""Encoded pictures -> arrays: decoding, faults, what is cut and how."""

import io

import numpy as np
from PIL import Image
import pytest

from itemclip_jax.data import image


def _encoded(pixels, kind="PNG", mode=None, **options) -> bytes:
  picture = Image.fromarray(np.asarray(pixels))
  if mode:
    picture = picture.convert(mode)
  out = io.BytesIO()
  picture.save(out, kind, **options)
  return out.getvalue()


def _noise(height=40, width=60, *channels) -> np.ndarray:
  return np.random.default_rng(0).integers(
      0, 256, (height, width, *channels), dtype=np.uint8)


def test_a_png_comes_back_exactly():
  pixels = _noise(4, 5, 3)
  np.testing.assert_array_equal(image.decode(_encoded(pixels)), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_of_8_bits_becomes_rgb(mode):
  kind = "JPEG" if mode == "CMYK" else "PNG"
  picture = image.decode(_encoded(_noise(16, 16, 3), kind, mode))
  assert picture.mode == "RGB" and picture.size == (16, 16)


def test_grey_is_tripled_and_a_palette_looked_up():
  grey = np.asarray(image.decode(_encoded(_noise(8, 8), mode="L")))
  assert (grey == grey[..., :1]).all() and grey.std() > 50
  red = Image.new("P", (4, 4), 1)
  red.putpalette([0, 0, 0, 255, 0, 0])
  out = io.BytesIO()
  red.save(out, "PNG")
  assert image.decode(out.getvalue()).getpixel((0, 0)) == (255, 0, 0)


def test_the_orientation_of_the_camera_is_ignored():
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  encoded = _encoded(_noise(8, 24, 3), "JPEG", exif=exif)
  assert image.decode(encoded).size == (24, 8)


@pytest.mark.parametrize("encoded, told", [
    (b"", "no JPEG or PNG picture$"),
    (b"<html>not found</html>", "no JPEG or PNG picture$"),
    (_encoded(_noise(64, 64, 3), "JPEG")[:600], "a broken picture"),
    (_encoded(_noise(64, 64, 3))[:-400], "a broken picture"),
    (_encoded(_noise(8, 8, 3), "BMP"), "no JPEG or PNG picture$"),
    (_encoded(_noise(8, 8).astype(np.uint16) * 200), "want 8 bits a channel"),
], ids=["empty", "html", "half jpeg", "half png", "bmp", "16 bits"])
def test_broken_pictures_are_told_without_an_address(encoded, told):
  with pytest.raises(ValueError, match=told) as error:
    image.decode(encoded)
  assert "0x" not in str(error.value)


@pytest.mark.parametrize("height, width", [
    (40, 60), (60, 40), (32, 32), (7, 9), (33, 200)])
def test_evaluation_takes_the_middle_of_the_covering_picture(height, width):
  # A ramp along the longer side: the middle of the output is the middle of
  # the input, and one output pixel is `short / 32` input pixels.
  long, short = max(height, width), min(height, width)
  ramp = np.linspace(0, 250, long)
  pixels = np.broadcast_to(ramp, (short, long))
  pixels = pixels if width >= height else pixels.T
  pixels = np.rint(np.stack([pixels] * 3, -1)).astype(np.uint8)
  out = image.centre_crop(image.decode(_encoded(pixels)), (32, 32))
  assert out.shape == (3, 32, 32) and out.dtype == np.uint8
  out = out[0].astype(float) if width >= height else out[0].T.astype(float)
  step = 250 / (long - 1) * short / 32
  np.testing.assert_allclose(out[16, 8:24],
                             125 + step * (np.arange(8, 24) - 15.5),
                             atol=step / 2 + 1.5)


def test_a_picture_of_the_size_wanted_is_left_alone():
  pixels = _noise(32, 32, 3)
  out = image.centre_crop(image.decode(_encoded(pixels)), (32, 32))
  np.testing.assert_array_equal(out, pixels.transpose(2, 0, 1))


def test_masks_are_cut_like_their_pictures():
  mask = np.zeros((48, 96), np.uint8)
  mask[12:36, 36:60] = 7
  pixels = np.stack([255 * (mask > 0)] * 3, -1).astype(np.uint8)
  cut = image.centre_crop_mask(
      image.decode_mask(_encoded(mask)), (24, 24))
  assert set(np.unique(cut)) == {0, 7}
  bright = image.centre_crop(image.decode(_encoded(pixels)), (24, 24))[0] > 127
  assert (bright == (cut == 7)).mean() > 0.99


def test_a_mask_in_colour_is_refused():
  with pytest.raises(ValueError, match="a mask of mode RGB"):
    image.decode_mask(_encoded(_noise(4, 4, 3)))


def test_boxes_have_the_areas_and_ratios_of_the_published_crop():
  rng = np.random.default_rng(0)
  boxes = np.array([image.draw_box((400, 420), rng) for _ in range(4000)])
  left, top, width, height = boxes.T
  assert (left >= 0).all() and (left + width <= 400).all()
  assert (top >= 0).all() and (top + height <= 420).all()
  drawn = width * height < 0.999 * 400 * 420
  area = width[drawn] * height[drawn] / (400 * 420)
  assert area.min() > 0.89 and 0.8 < drawn.mean() < 0.95
  assert len(set(left.tolist())) > 10 and len(set(top.tolist())) > 10
  # Wide boxes do not fit a square; what fits is near to its own ratio.
  ratio = width / height
  assert 0.84 < ratio.min() < 0.88 and 1.04 < ratio.max() < 1.1


@pytest.mark.parametrize("size, box", [
    ((100, 1000), (0, 433, 100, 133)),   # ratio 3:4 at least
    ((1000, 90), (440, 0, 120, 90)),     # ratio 4:3 at most
])
def test_a_shape_that_no_box_fits_gives_its_middle(size, box):
  assert image.draw_box(size, np.random.default_rng(0)) == box


def test_training_crops_follow_from_the_seed_and_differ():
  picture = image.decode(_encoded(_noise(50, 50, 3)))
  draw = lambda seed: image.random_crop(
      picture, (32, 32), np.random.default_rng(seed))
  assert draw(0).shape == (3, 32, 32) and draw(0).dtype == np.uint8
  np.testing.assert_array_equal(draw(0), draw(0))
  assert len({draw(s).tobytes() for s in range(6)}) > 1


def test_a_crop_sees_nothing_outside_of_its_box():
  # Black but for both sides; boxes that leave them out must stay black.
  pixels = np.full((100, 100, 3), 255, np.uint8)
  pixels[:, 2:-2] = 0
  picture = image.decode(_encoded(pixels))
  for seed in range(200):
    left, top, width, height = image.draw_box(
        picture.size, np.random.default_rng(seed))
    if left >= 2 and left + width <= 98:
      out = image.random_crop(picture, (20, 20), np.random.default_rng(seed))
      assert out.max() == 0
      return
  raise AssertionError("no box left the sides out")


def test_a_wider_area_gives_smaller_boxes():
  rng = np.random.default_rng(0)
  boxes = np.array([image.draw_box((400, 420), rng, area=(0.5, 1.0))
                    for _ in range(2000)])
  area = boxes[:, 2] * boxes[:, 3] / (400 * 420)
  assert 0.49 < area.min() < 0.52 and 0.6 < np.median(area) < 0.8


def test_picture_and_heatmap_are_cut_alike():
  board = np.kron(np.indices((6, 6)).sum(0) % 2, np.ones((10, 10))) * 255
  board = board.astype(np.uint8)
  picture = image.decode(_encoded(board))
  corners = set()
  for seed in range(20):
    draw = lambda: np.random.default_rng(seed)
    cut, looked = image.random_crop_with_heatmap(
        picture, board, (24, 24), draw(), area=(0.5, 1.0))
    assert looked.shape == (24, 24) and looked.dtype == np.uint8
    for colour in cut:
      np.testing.assert_array_equal(looked, colour)
    np.testing.assert_array_equal(
        cut, image.random_crop(picture, (24, 24), draw(), area=(0.5, 1.0)))
    corners.add(looked.tobytes())
  assert len(corners) > 10


def test_a_heatmap_of_another_size_is_told():
  picture = image.decode(_encoded(_noise(20, 30, 3)))
  with pytest.raises(ValueError, match=r"a heatmap of \(30, 20\) pixels on a "
                     r"picture of \(20, 30\)"):
    image.random_crop_with_heatmap(picture, _noise(30, 20), (8, 8),
                                   np.random.default_rng(0))
