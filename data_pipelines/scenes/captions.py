"""What is said of a scene, and the prompts that ask for what is there.

One item a digit, which may name its colour, size and place, and at times one
each for how two digits lie, for the ground, and for how many digits there are.
The prompts use templates that no item uses, but words that items use: zero-shot
questions are about meaning, not about a known sentence.
"""

from typing import Any, NamedTuple

import numpy as np

from data_pipelines.scenes import picture

COLOUR_RATE, SIZE_RATE, PLACE_RATE = 0.7, 0.4, 0.85   # of the items of digits
RELATION_RATE, GROUND_RATE, COUNT_RATE = 0.5, 0.5, 0.25   # of the scenes

_NOUNS = ("{name}", "{name}", "{value}", "digit {name}", "handwritten {name}")
_COLOURS = {"red": ("red", "scarlet"), "yellow": ("yellow", "golden"),
            "green": ("green", "emerald"), "blue": ("blue", "azure"),
            "purple": ("purple", "violet"), "white": ("white", "pale")}
_SIZES = {"small": ("small", "little"), "large": ("large", "big")}
_WHERE = {
    "upper left": ("in the upper left", "in the upper left corner",
                   "at the top left"),
    "top": ("at the top", "in the middle of the top", "at the upper edge"),
    "upper right": ("in the upper right", "in the upper right corner",
                    "at the top right"),
    "left": ("on the left", "at the left edge", "in the middle of the left"),
    "centre": ("in the centre", "in the very middle", "at the centre"),
    "right": ("on the right", "at the right edge",
              "in the middle of the right"),
    "lower left": ("in the lower left", "in the lower left corner",
                   "at the bottom left"),
    "bottom": ("at the bottom", "in the middle of the bottom",
               "at the lower edge"),
    "lower right": ("in the lower right", "in the lower right corner",
                    "at the bottom right"),
}
_PLACED = ("{thing} {where}.", "There is {thing} {where}.", "{where}, {thing}.",
           "{thing} is written {where}.", "The picture shows {thing} {where}.")
_UNPLACED = ("There is {thing}.", "{thing} can be seen.",
             "The picture has {thing}.")
_RELATIONS = {  # of the first to the second: columns, rows
    (-1, 0): ("to the left of", "left of"), (1, 0): ("to the right of",
                                                     "right of"),
    (0, -1): ("above", "higher than"), (0, 1): ("below", "lower than")}
_RELATED = ("The {first} is {relation} the {second}.",
            "The {first} is placed {relation} the {second}.",
            "{a_first} {relation} {a_second}.")
_GROUNDS = ("The ground is {ground}.", "{a_ground} background.",
            "Everything is written on {a_ground} ground.")
_COUNTED = ("There are {count} digits.", "A picture with {count} digits.")
_SINGLE = ("There is only one digit.", "A picture with a single digit.")

PROMPTS = {
    "digit": ("picture with {a_name}", "{name} is there"),
    "place": ("picture with {a_name} {where}", "{name} placed {where}"),
    "colour": ("picture with {a_colour_name}", "{name} in {colour}"),
    "ground": ("picture with {a_ground} ground", "the background is {ground}"),
}


class Item(NamedTuple):
  """One caption and the number of the digit that it describes, or None."""
  text: str
  digit: int | None = None


def write(rng: np.random.Generator, scene: picture.Scene) -> list[Item]:
  """The items of a scene, in random order."""
  items = [Item(_of_digit(rng, digit), k)
           for k, digit in enumerate(scene.digits)]
  if rng.random() < RELATION_RATE and (text := _of_pair(rng, scene.digits)):
    items.append(Item(text))
  if rng.random() < GROUND_RATE:
    items.append(Item(_sentence(_pick(rng, _GROUNDS).format(
        ground=scene.ground, a_ground=_a(scene.ground)))))
  if rng.random() < COUNT_RATE:
    count = len(scene.digits)
    templates = _COUNTED if count > 1 else _SINGLE
    items.append(Item(_sentence(
        _pick(rng, templates).format(count=picture.NAMES[count]))))
  return [items[i] for i in rng.permutation(len(items))]


def place_finding(digit: picture.Digit) -> str:
  """The finding that only this digit of its scene can be."""
  return f"{digit.name}, {picture.PLACES[digit.place]}"


def present(scene: picture.Scene) -> list[str]:
  """Every finding that a scene shows, sorted."""
  found = {f"{scene.ground} ground"}
  for digit in scene.digits:
    found |= {digit.name, place_finding(digit), f"{digit.colour} {digit.name}"}
  return sorted(found)


def findings() -> dict[str, dict[str, Any]]:
  """All findings in column order, each with its prompts."""
  out = {}
  for name in picture.NAMES:
    out[name] = _prompts("digit", name, name=name, a_name=_a(name))
  for name in picture.NAMES:
    for place in picture.PLACES:
      column = f"{name}, {place}"
      out[column] = _prompts("place", column, name=name, a_name=_a(name),
                             where=_WHERE[place][0])
  for colour in picture.COLOURS:
    for name in picture.NAMES:
      column = f"{colour} {name}"
      out[column] = _prompts("colour", column, name=name, colour=colour,
                             a_colour_name=_a(column))
  for ground in picture.GROUNDS:
    column = f"{ground} ground"
    out[column] = _prompts("ground", column, ground=ground,
                           a_ground=_a(ground))
  return out


def _prompts(kind: str, column: str, **words) -> dict[str, Any]:
  return {"prompts": [p.format(**words) for p in PROMPTS[kind]],
          "label": column}


def _of_digit(rng, digit: picture.Digit) -> str:
  words = []
  if rng.random() < SIZE_RATE:
    words.append(_pick(rng, _SIZES[digit.size]))
  if rng.random() < COLOUR_RATE:
    words.append(_pick(rng, _COLOURS[digit.colour]))
  words.append(_pick(rng, _NOUNS).format(name=digit.name, value=digit.value))
  placed = rng.random() < PLACE_RATE
  return _sentence(_pick(rng, _PLACED if placed else _UNPLACED).format(
      thing=_a(" ".join(words)),
      where=_pick(rng, _WHERE[picture.PLACES[digit.place]])))


def _of_pair(rng, digits: tuple[picture.Digit, ...]) -> str | None:
  """How two digits lie to one another; None where a name would mean two."""
  if len(digits) < 2 or len({d.value for d in digits}) < len(digits):
    return None
  first, second = (digits[i] for i in rng.permutation(len(digits))[:2])
  right = int(np.sign(first.column - second.column))
  down = int(np.sign(first.row - second.row))
  choices = [d for d in ((right, 0), (0, down)) if any(d)]
  relation = _pick(rng, _RELATIONS[choices[rng.integers(len(choices))]])
  return _sentence(_pick(rng, _RELATED).format(
      first=first.name, second=second.name, relation=relation,
      a_first=_a(first.name), a_second=_a(second.name)))


def _a(words: str) -> str:
  """The words behind their indefinite article."""
  # "one" begins with a consonant; nothing else here begins with o or u.
  return f"{'an' if words[0] in 'aei8' else 'a'} {words}"


def _sentence(text: str) -> str:
  return text[0].upper() + text[1:]


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
  return options[rng.integers(len(options))]
