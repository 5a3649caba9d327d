"""Triplets of severity, location and category -> K label texts with knowledge.

    code    "{severity} {location} {category}. {explanation}"
    paper   "{severity} {location} {category}, where {category} is
            {explanation}"
    none    "{severity} {location} {category}"

and, with label "category", without severity and location. A triplet without a
category is no label, equal labels of a study are one, and a category that the
dictionary does not explain has no suffix. A study without labels has padding in
every slot; the objective leaves it out.

Since labels are partial, training replaces fields at random by the word "mask".
The draws hide words from the text tower only: what labels have in common is
told by their full text (`item_vector`, `item_label`).

Reference: Liang et al., IEEE JBHI 2025 (MedFILIP).
"""

import dataclasses
import pathlib
from typing import NamedTuple, Protocol
import zlib

import numpy as np
import tqdm

from itemclip_jax.config import schema
from itemclip_jax.data import knowledge, record
from itemclip_jax.data.items import Slots
from itemclip_jax.errors import UserError

DENIED = "no"     # severity of what is absent
MASK = "mask"     # stands for what is hidden or, by a setting, not known

FIELDS = ("severity", "location", "category")


class Label(NamedTuple):
  """One label of a study; `source` is its item's number in the record."""
  severity: str
  location: str
  category: str
  source: int


class Vectors(Protocol):
  """What a similarity encoder says of texts; `width` is V."""
  width: int

  def __call__(self, text: str) -> np.ndarray:  # [V] float32, unit norm
    ...


def read(study: dict, settings: schema.Medfilip) -> list[Label]:
  """The labels of a record, in its order, each once.

  Raises:
    UserError: the data set has no triplets.
  """
  if not study.keys() >= set(FIELDS):
    raise UserError("text.form='triplets' needs severity, location and "
                    "category of every finding, which the data set does not "
                    "hold; build one with triplets, or choose another form.")
  found = {}
  for source, fields in enumerate(zip(*(study[f] for f in FIELDS),
                                      strict=True)):
    severity, location, category = (field.strip() for field in fields)
    denied = severity.lower() == DENIED
    # The bare category of what is denied would say the opposite.
    left_out = settings.denied == "left_out" or settings.label == "category"
    if not category or (denied and left_out):
      continue
    if settings.label == "category":
      severity = location = ""
    found.setdefault((severity, location, category), source)
  return [Label(*fields, source) for fields, source in found.items()]


def text(label: Label, settings: schema.Medfilip,
         explained: str | None = None) -> str:
  """The text of a label by the template of the settings.

  Args:
    label: its fields, or what is shown of them.
    settings: the template.
    explained: category whose explanation follows; None: the label's.
  """
  shown = label[:3]
  if settings.missing == "mask" and settings.label == "triplet":
    shown = [field or MASK for field in shown]
  named = " ".join(field for field in shown if field)
  suffix = knowledge.explanation(explained or label.category)
  if settings.knowledge == "none" or not suffix:
    return named
  if settings.knowledge == "code":
    return f"{named}. {suffix}"
  suffix = suffix[0].lower() + suffix[1:]   # none begins with a name
  return f"{named}, where {label.category} is {suffix}"


def masked(label: Label, settings: schema.Medfilip,
           rng: np.random.Generator) -> Label:
  """Hides each field with its own chance; always draws as many numbers.

  A denial stays: without its "no" it would assert what it denies.
  """
  hide = rng.random(3) < (settings.mask_severity, settings.mask_location,
                          settings.mask_category)
  if label.severity.lower() == DENIED:
    hide[0] = False
  # What is not there cannot be hidden.
  return Label(*(MASK if h and field else field
                 for h, field in zip(hide, label[:3])), label.source)


@dataclasses.dataclass(frozen=True)
class MakeSlots:
  """The text form "triplets".

  Attributes:
    settings: templates, chances of masking.
    vectors: of all label texts; None where targets are hard.
  """
  settings: schema.Medfilip
  vectors: Vectors | None = None

  def __call__(self, study: dict, text_settings: schema.Text,
               rng: np.random.Generator | None) -> Slots:
    """Shuffled, cut and masked in training (`rng`), in order without.

    `extra` holds `item_category` [K] int32 and `item_label` [K] int32, a hash
    of the unmasked text, both -1 for padding; and with vectors `item_vector`
    [K, V] float32 of the unmasked text, 0 for padding.
    """
    K, s = text_settings.max_items, self.settings
    labels = read(study, s)
    order = range(len(labels)) if rng is None else rng.permutation(len(labels))
    labels = [labels[i] for i in order][:K]
    shown = labels if rng is None else [masked(x, s, rng) for x in labels]
    texts = [text(x, s, full.category) for x, full in zip(shown, labels)]
    full = [text(x, s) for x in labels]
    extra = {
        "item_category": _filled(K, [knowledge.number(x.category)
                                     for x in labels]),
        "item_label": _filled(K, [zlib.crc32(t.encode()) >> 1 for t in full])}
    if self.vectors is not None:
      extra["item_vector"] = np.zeros((K, self.vectors.width), np.float32)
      for k, one in enumerate(full):
        extra["item_vector"][k] = self.vectors(one)
    return Slots(texts + [text_settings.padding] * (K - len(texts)),
                 np.arange(K) < len(texts),
                 _filled(K, [x.source for x in labels]), extra)


def _filled(size: int, numbers: list[int]) -> np.ndarray:
  """[size] int32, -1 behind the numbers."""
  return np.array(numbers + [-1] * (size - len(numbers)), np.int32)


def read_texts(root: pathlib.Path | str, splits: tuple[str, ...],
               settings: schema.Medfilip) -> list[str]:
  """All distinct label texts of some splits, unmasked, sorted.

  They are what a similarity encoder is asked for, and what a vocabulary is
  learnt from.

  Raises:
    UserError: the data set has no triplets.
  """
  root, found = pathlib.Path(root), set()
  for split in splits:
    source = record.Source(root / record.read_contract(root).records, split,
                           only=FIELDS)
    for study in tqdm.tqdm(source, desc=f"{split}: labels", unit="study"):
      found |= {text(label, settings) for label in read(study, settings)}
  return sorted(found)
