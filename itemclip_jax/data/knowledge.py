"""What each disease category looks like on a frontal chest radiograph.

`knowledge.json` has an entry for each of MedFILIP's 61 categories, in the order
of its list, and for COVID-19, which its training has not:

    definition   what the category is
    text         an explanation of at most 40 words: appearance and cause; of
                 what a radiograph does not show directly, the indirect signs
    attributes   shape, density, location, border and cause, in words that the
                 text supports

The words are our own. Label and text together stay below the 77 tokens that
CLIP's text tower reads.

Reference: Liang et al., IEEE JBHI 2025 (MedFILIP; its dictionary of
image-specific knowledge).
"""

import functools
import json
import pathlib
import zlib

FILE = pathlib.Path(__file__).with_name("knowledge.json")

ATTRIBUTES = ("shape", "density", "location", "border", "cause")
UNSEEN = "covid-19"        # explained, but in no list of trained categories
NUM_EVALUATED = 16         # MIMIC-16: the commonest, last in the list


@functools.cache
def load() -> dict[str, dict]:
  """Category -> its entry, in the order of the file."""
  return json.loads(FILE.read_text("utf-8"))


def trained() -> tuple[str, ...]:
  """The 61 categories of the training constants, the commonest last."""
  return tuple(name for name in load() if name != UNSEEN)


def evaluated() -> tuple[str, ...]:
  """The 16 categories of the zero-shot evaluation."""
  return trained()[-NUM_EVALUATED:]


def explanation(category: str) -> str:
  """The text of a category in any case; "" where there is none."""
  entry = load().get(category.lower())
  return entry["text"] if entry else ""


def number(category: str) -> int:
  """A number >= 0, the same wherever the category is met.

  Its place in the dictionary; of other categories a hash behind those.
  """
  name = category.lower()
  known = _places().get(name)
  # 30 bits, so that the sum is an int32.
  return len(load()) + (zlib.crc32(name.encode()) >> 2) if known is None else (
      known)


@functools.cache
def _places() -> dict[str, int]:
  return {name: place for place, name in enumerate(load())}
