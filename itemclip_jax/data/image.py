"""An encoded picture -> a square of it, as the depth axis of a volume.

A picture is kept as it came (JPEG or PNG) and decoded anew at every visit:

    training    a random rectangle of 90-100 % of the area (or another share)
                whose sides are as 3:4 to 4:3 (relative to one another), resized
                to the size wanted
    evaluation  resized until it covers the size wanted, then its middle

What lies on a picture pixel by pixel, as where an expert looked, is cut by the
same rectangle. All resize bicubically with antialiasing, as open_clip's default
transforms do (https://github.com/mlfoundations/open_clip). Like there, the
orientation that a camera noted (EXIF) is ignored. Unlike there, colours are
converted before the resize and not after it: a palette cannot be interpolated.
"""

import io
import math

import numpy as np
import PIL
from PIL import Image

FORMATS = ("JPEG", "PNG")
CROP_AREA = (0.9, 1.0)             # share of the picture; open_clip's
CROP_RATIO = (3 / 4, 4 / 3)        # width by height
_TRIES = 10                        # before the fall-back, as in torchvision
# Modes of one byte a channel; others would lose their range unnoticed.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def decode(encoded: bytes) -> Image.Image:
  """Returns the picture in RGB; transparency is dropped, grey is tripled.

  Raises:
    ValueError: the bytes are no whole picture, or have more than 8 bits a
      channel.
  """
  picture = _opened(encoded)
  if picture.mode not in _MODES:
    raise ValueError(f"pixels of mode {picture.mode}, want 8 bits a channel")
  return picture.convert("RGB")


def decode_mask(encoded: bytes) -> np.ndarray:  # [h, w] uint8
  """Reads a one-channel PNG of small numbers; errors are those of `decode`."""
  mask = _opened(encoded)
  if mask.mode != "L":
    raise ValueError(f"a mask of mode {mask.mode}, want L (one byte a pixel)")
  return np.asarray(mask)


def random_crop(
    picture: Image.Image,
    size: tuple[int, int],     # H, W
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = CROP_AREA,
) -> np.ndarray:               # [3, H, W] uint8
  """A random part of the picture at the size wanted; for training."""
  box = draw_box(picture.size, rng, area=area)
  return _channels_first(_part(picture, box, size))


def random_crop_with_heatmap(
    picture: Image.Image,
    heatmap: np.ndarray,       # [h, w] uint8, as large as the picture
    size: tuple[int, int],     # H, W
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = CROP_AREA,
) -> tuple[np.ndarray, np.ndarray]:  # [3, H, W], [H, W] uint8
  """The same random part of both; the picture's is that of `random_crop`.

  Raises:
    ValueError: they differ in size.
  """
  if heatmap.shape != picture.size[::-1]:
    raise ValueError(f"a heatmap of {heatmap.shape} pixels on a picture of "
                     f"{picture.size[::-1]}, want the same size")
  box = draw_box(picture.size, rng, area=area)
  return (_channels_first(_part(picture, box, size)),
          np.asarray(_part(Image.fromarray(heatmap), box, size)))


def centre_crop(
    picture: Image.Image,
    size: tuple[int, int],     # H, W
) -> np.ndarray:               # [3, H, W] uint8
  """The middle of the picture at the size wanted; for evaluation."""
  return _channels_first(_covering_middle(picture, size, Image.BICUBIC))


def centre_crop_mask(
    mask: np.ndarray,          # [h, w] uint8
    size: tuple[int, int],     # H, W
) -> np.ndarray:               # [H, W] uint8
  """The same part of a mask, nearest pixels."""
  return np.asarray(
      _covering_middle(Image.fromarray(mask), size, Image.NEAREST))


def draw_box(
    size: tuple[int, int],     # width, height of the picture
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = CROP_AREA,
) -> tuple[int, int, int, int]:  # left, top, width, height
  """Draws the part of a picture that training sees.

  Area and logarithm of the ratio are uniform; what does not fit is drawn anew.
  After ten tries it is the largest part in the middle whose ratio is allowed:
  the whole picture, mostly. (RandomResizedCrop of torchvision.)
  """
  have_width, have_height = size
  log_ratio = np.log(CROP_RATIO)
  for _ in range(_TRIES):
    pixels = have_width * have_height * rng.uniform(*area)
    ratio = math.exp(rng.uniform(*log_ratio))
    width, height = round(math.sqrt(pixels * ratio)), round(
        math.sqrt(pixels / ratio))
    if 0 < width <= have_width and 0 < height <= have_height:
      top = int(rng.integers(have_height - height + 1))
      left = int(rng.integers(have_width - width + 1))
      return left, top, width, height
  ratio = have_width / have_height
  width, height = size
  if ratio < CROP_RATIO[0]:
    height = round(width / CROP_RATIO[0])
  elif ratio > CROP_RATIO[1]:
    width = round(height * CROP_RATIO[1])
  return (have_width - width) // 2, (have_height - height) // 2, width, height


def _opened(encoded: bytes) -> Image.Image:
  try:
    picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
    picture.load()
  except PIL.UnidentifiedImageError as error:  # its text names an address
    raise ValueError("no JPEG or PNG picture") from error
  except Exception as error:  # decoders raise nothing narrower
    raise ValueError(f"a broken picture ({error})") from error
  return picture


def _part(picture, box, size: tuple[int, int]) -> Image.Image:
  """What lies in a box, at the size wanted; nothing outside is looked at."""
  left, top, width, height = box
  return _resized(picture.crop((left, top, left + width, top + height)), size)


def _covering_middle(picture, size: tuple[int, int], kernel) -> Image.Image:
  """Resizes to the smallest picture that covers `size` and cuts the middle."""
  (width, height), (H, W) = picture.size, size
  # In whole numbers, rounded down: the longer side as torchvision has it.
  if width * H >= height * W:
    width, height = max(W, width * H // height), H
  else:
    width, height = W, max(H, height * W // width)
  picture = _resized(picture, (height, width), kernel)
  left, top = round((width - W) / 2), round((height - H) / 2)
  return picture.crop((left, top, left + W, top + H))


def _resized(picture, size: tuple[int, int], kernel=Image.BICUBIC):
  H, W = size
  return picture if picture.size == (W, H) else picture.resize((W, H), kernel)


def _channels_first(picture: Image.Image) -> np.ndarray:
  return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
