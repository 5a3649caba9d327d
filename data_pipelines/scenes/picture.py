"""A scene: one to four handwritten digits on a textured ground, and its paint.

The digits are those of scikit-learn (8 x 8 pixels, 16 greys, collected by E.
Alpaydin and C. Kaynak, 1998). Thirteen people wrote them. The file does not
name them but keeps their digits together, so the splits take parts of the file
that do not overlap.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image

SIDE = 64                          # pixels of a scene
GRID = 3                           # places in a row and in a column
NUM_DIGITS = ((1, 2, 3, 4), (0.2, 0.35, 0.3, 0.15))   # values, probabilities

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
         "nine")
PLACES = ("upper left", "top", "upper right", "left", "centre", "right",
          "lower left", "bottom", "lower right")      # row by row
COLOURS = {"red": (238, 58, 48), "yellow": (252, 220, 64),
           "green": (72, 208, 84), "blue": (84, 140, 255),
           "purple": (206, 92, 234), "white": (244, 244, 240)}
SIZES = {"small": 13, "large": 19}                    # pixels of the glyph
# Brightness of each ground, of two waves that cross.
_PATTERNS = {"plain": lambda u, v: 0.0 * u,
             "striped": lambda u, v: np.tanh(4 * u),
             "checked": lambda u, v: np.tanh(8 * u * v),
             "dotted": lambda u, v: 2.5 * (u * v > 0.4) * (u > 0) - 0.3}
GROUNDS = tuple(_PATTERNS)
_TINTS = ((54, 60, 70), (74, 60, 48), (48, 66, 54), (66, 54, 70))

_WRITERS = 13
# Writers of each split: the first and the one after the last.
SPLITS = {"train": (0, 9), "valid": (9, 10), "test": (10, 13)}

_FINE = 3                          # draw this many times larger, then shrink
_TURN_DEGREES = 12.0
_INK = (0.22, 0.58)                # greys of a glyph that are clear and solid
_SHADOW, _SHADOW_PIXELS = 0.55, 1  # share of light taken; right and down
_CLOUDS, _PATTERN, _NOISE = 9.0, 17.0, 4.0            # brightness, of 255


@dataclasses.dataclass(frozen=True)
class Digit:
  """One digit of a scene."""
  value: int                       # 0..9
  glyph: int                       # row of `glyphs`
  colour: str
  size: str
  place: int                       # number in PLACES
  shift: tuple[float, float]       # right and down from the place, pixels
  degrees: float

  @property
  def name(self) -> str:
    return NAMES[self.value]

  @property
  def row(self) -> int:
    return self.place // GRID

  @property
  def column(self) -> int:
    return self.place % GRID


@dataclasses.dataclass(frozen=True)
class Scene:
  """What is there; digits are in different places."""
  ground: str
  digits: tuple[Digit, ...]


@functools.cache
def glyphs() -> tuple[np.ndarray, np.ndarray]:
  """Greys in [0, 1], [n, 8, 8] float32, and values [n] of all digits."""
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  found = datasets.load_digits()  # a second to import, not for every command
  return (found.images / 16).astype(np.float32), found.target


def draw_scene(rng: np.random.Generator, split: str) -> Scene:
  """Draws a scene with digits of this split's writers."""
  values = glyphs()[1]
  first, end = (len(values) * w // _WRITERS for w in SPLITS[split])
  count = rng.choice(NUM_DIGITS[0], p=NUM_DIGITS[1])
  digits = tuple(
      _draw_digit(rng, first + np.flatnonzero(values[first:end] == value),
                  int(value), int(place))
      for value, place in zip(rng.integers(10, size=count),
                              rng.permutation(len(PLACES))[:count]))
  return Scene(GROUNDS[rng.integers(len(GROUNDS))], digits)


def _draw_digit(rng, choices: np.ndarray, value: int, place: int) -> Digit:
  size = tuple(SIZES)[rng.integers(len(SIZES))]
  slack = (SIDE / GRID - SIZES[size]) / 2
  return Digit(
      value=value, glyph=int(rng.choice(choices)),
      colour=tuple(COLOURS)[rng.integers(len(COLOURS))], size=size, place=place,
      shift=tuple(rng.uniform(-slack, slack, 2)),
      degrees=float(rng.uniform(-_TURN_DEGREES, _TURN_DEGREES)))


def paint(
    rng: np.random.Generator, scene: Scene
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the picture [H, W, 3] uint8 and whose digit each pixel is.

  The latter is [H, W] uint8: k + 1 on the ink of digits[k], else 0.
  """
  canvas = _ground(rng, scene.ground)
  owner = np.zeros((SIDE, SIDE), np.uint8)
  for k, digit in enumerate(scene.digits):
    ink = _ink(digit)
    shadow = np.roll(ink, (_SHADOW_PIXELS,) * 2, (0, 1))
    canvas *= 1 - _SHADOW * shadow[..., None]
    canvas += ink[..., None] * (np.array(COLOURS[digit.colour]) - canvas)
    owner[ink > 0.5] = k + 1
  canvas += rng.normal(0, _NOISE, canvas.shape)
  return np.rint(canvas.clip(0, 255)).astype(np.uint8), owner


def _ink(digit: Digit) -> np.ndarray:  # [H, W] in [0, 1]
  """How much of each pixel the digit covers."""
  # A border of one pixel, for ink that reaches the edge of the glyph.
  glyph = Image.fromarray(np.pad(glyphs()[0][digit.glyph], 1))
  size = SIZES[digit.size] * _FINE * 10 // 8
  glyph = glyph.resize((size, size), Image.BICUBIC)
  glyph = np.asarray(glyph.rotate(digit.degrees, Image.BICUBIC))
  low, high = _INK
  solid = np.clip((glyph - low) / (high - low), 0, 1)
  fine = SIDE * _FINE
  out, cell = np.zeros((fine, fine), np.float32), fine / GRID
  at = [round((place + 0.5) * cell + shift * _FINE - size / 2)
        for place, shift in zip((digit.column, digit.row), digit.shift)]
  x, y = np.clip(at, 0, fine - size)
  out[y:y + size, x:x + size] = solid * solid * (3 - 2 * solid)
  return _shrunk(out)


def _ground(rng, kind: str) -> np.ndarray:  # [H, W, 3] float
  """A dark tint with clouds, and a pattern at a random angle."""
  fine = SIDE * _FINE
  clouds = Image.fromarray(rng.normal(0, 1, (8, 8)).astype(np.float32))
  light = _CLOUDS * np.asarray(clouds.resize((fine, fine), Image.BICUBIC))
  angle, period = rng.uniform(0, np.pi), rng.uniform(5.5, 8.5) * _FINE
  y, x = np.mgrid[:fine, :fine] * (2 * np.pi / period)
  u = np.sin(x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 6))
  v = np.sin(y * np.cos(angle) - x * np.sin(angle) + rng.uniform(0, 6))
  pattern = _PATTERNS[kind](u, v)
  tint = np.array(_TINTS[rng.integers(len(_TINTS))], float)
  return tint + _shrunk(light + _PATTERN * pattern)[..., None]


def _shrunk(x: np.ndarray) -> np.ndarray:
  """Means of squares of _FINE pixels, [H * _FINE, W * _FINE] -> [H, W]."""
  return x.reshape(SIDE, _FINE, SIDE, _FINE).mean((1, 3))
