"""Runs a recipe: on one record from Python, or on a file of any length.

    from data_pipelines.itemize import itemize
    itemize({"id": "a", "sections": {"text": "..."}}, "ctrate_abnormal").items

What is decided here and not by a back-end:

    empty text            no items, not normal, warning "empty"
    another language      no items, not normal, warning "language"; of captions
                          only the foreign ones are left out
    > 50 000 characters   no items, not normal, warning "too_long"
    duplicates            equal but for case and punctuation, or Jaccard >= 0.9
                          of the words; never where a number, a side or a
                          negation differs; the first stays, with all sources
    more than 20 items    the first 20 stay, warning "capped"
    nothing abnormal      the recipe's canonical item alone, and `normal`
"""

import dataclasses
import functools
import re

from data_pipelines.errors import PrepareError
from data_pipelines.itemize import checks
from data_pipelines.itemize import clean
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import recipes
from data_pipelines.itemize import rules
from data_pipelines.itemize import similarity
from data_pipelines.itemize.contract import CAPTION
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Result

MAX_ITEMS = 20
SAME = 0.9                 # Jaccard index of two items that are one

_MARKER = re.compile(r"^(?:\s*(?:[-*•·▪◦–]|\(?\d{1,2}[.)])\s+)+")
# Items that differ in one of these are two, however many words they share.
_TELLING = frozenset(similarity.fold(
    "left right bilateral bilaterally unilateral both upper middle lower "
    "anterior posterior lateral medial proximal distal no not without never "
    "new old acute chronic mild moderate severe small large increased "
    "decreased stable resolved").split())


def itemize(record: Record | dict, recipe, backend="rules", *,
            max_items: int = MAX_ITEMS,
            lexicon: lexicon_lib.Lexicon | None = None) -> Result:
  """Items, anatomies or triplets of one record.

  Args:
    record: or what a line of the input holds, see contract.py.
    recipe: its name, or a recipes.Recipe.
    backend: "rules", or what has a `name` and `items(recipe, record) -> Draft`.
    max_items: what is beyond is dropped.
    lexicon: of the checks; None: the back-end's, or the built-in one.

  Raises:
    PrepareError: there is no such recipe or back-end, or it is no record.
  """
  if isinstance(record, dict):
    record = Record.from_json(record, "the record")
  if isinstance(recipe, str):
    recipe = recipes.get(recipe)
  if backend == "rules":
    backend = default_rules()
  elif isinstance(backend, str):
    raise PrepareError(f"There is no back-end {backend!r} without settings; "
                       "use 'rules', or give a chat.backend.Chat.")
  cleaned, warnings = prepared(record, recipe)
  if is_unreadable(warnings):
    return _result(record, recipe, Draft(backend=backend.name), warnings)
  draft = _tidied(backend.items(recipe, cleaned))
  texts = {item.text for item in draft.items}
  draft = checks.check(recipe, cleaned, draft,
                       lexicon or getattr(backend, "lexicon", None))
  if not texts.issuperset(item.text for item in draft.items):
    draft = _tidied(draft)  # a check may have cut what told two apart
  return _result(record, recipe, _finished(recipe, draft, max_items), warnings)


@functools.cache
def default_rules() -> rules.Rules:
  return rules.Rules()


def prepared(record: Record, recipe) -> tuple[Record, tuple[str, ...]]:
  """The clean texts that the recipe reads, and warnings.

  Sections that hold nothing are left out; captions stay, numbered as they were.
  """
  is_picture = recipe.reads == "captions"
  texts = record.captions if is_picture else tuple(record.sections.values())
  if any(len(text) > clean.MAX_CHARACTERS for text in texts):
    return record, ("too_long",)
  texts = [clean.clean(text) for text in texts]
  warnings = tuple(dict.fromkeys(f for t in texts for f in t.flags))
  if is_picture:
    # One foreign caption says nothing against the others; of a report, what
    # one section does not say the other may.
    said = tuple("" if "language" in t.flags else t.text for t in texts)
    if any(said):
      warnings = tuple(w for w in warnings if w != "language")
    cleaned = Record(record.id, {}, said)
  else:
    cleaned = Record(record.id, {
        name: t.text for name, t in zip(record.sections, texts) if t.text})
  if not any(t.text for t in texts):
    warnings = (*warnings, "empty")
  return cleaned, warnings


def is_unreadable(warnings: tuple[str, ...]) -> bool:
  """True where no back-end is asked."""
  return not {"empty", "language", "too_long"}.isdisjoint(warnings)


def _result(record: Record, recipe, draft: Draft, warnings) -> Result:
  normal = bool(recipe.normal) and [i.text for i in draft.items] == [
      recipe.normal]
  return Result(
      id=record.id, recipe=recipe.name, recipe_version=recipe.version,
      backend=draft.backend, raw_hash=record.raw_hash(), items=draft.items,
      normal=normal, anatomies=draft.anatomies, triplets=draft.triplets,
      dropped=draft.dropped,
      warnings=tuple(dict.fromkeys((*warnings, *draft.warnings))),
      tokens=draft.tokens)


def _tidied(draft: Draft) -> Draft:
  """The items as plain statements, each once."""
  items, dropped = [], []
  for item in draft.items:
    text = _MARKER.sub("", item.text).strip()
    if not text:
      dropped.append(Dropped(item.text, "empty"))
      continue
    items.append(item if text == item.text
                 else dataclasses.replace(item, text=text))
  kept, repeats = _distinct(items)
  dropped += [Dropped(text, "duplicate") for text in repeats]
  return dataclasses.replace(
      draft, items=tuple(kept), dropped=(*draft.dropped, *dropped))


def _finished(recipe, draft: Draft, max_items: int) -> Draft:
  """Distinct and at most `max_items` items, or the canonical one alone."""
  warnings = list(draft.warnings)
  items, others = _without_normal(recipe, draft)
  if len(items) > max_items:
    warnings.append(f"capped:{len(items) - max_items}")
  if recipe.gives == "items" and not items:
    warnings.append("nothing_left")
  return dataclasses.replace(
      draft, items=tuple(items[:max_items]), warnings=tuple(warnings),
      dropped=(*draft.dropped, *others, *(
          Dropped(item.text, "cap") for item in items[max_items:])))


def _without_normal(recipe, draft: Draft) -> tuple[list[Item], list[Dropped]]:
  """Items that are the canonical one alone or not at all; what was dropped."""
  if not recipe.normal:
    return list(draft.items), []
  canonical = [i for i in draft.items if _is_canonical(recipe, i)]
  rest = [i for i in draft.items if i not in canonical]
  if rest:
    return rest, [Dropped(i.text, "normal") for i in canonical]
  lost = any(w.partition(":")[0] == "missing" for w in draft.warnings)
  if canonical or (
      not lost and any(d.reason == "normal" for d in draft.dropped)):
    return [Item(recipe.normal, flags=i.flags) for i in canonical[:1]] or [
        Item(recipe.normal)], []
  return [], []


def _is_canonical(recipe, item: Item) -> bool:
  # Folding is slow, and most items are much longer.
  return (len(item.text) < 2 * len(recipe.normal)
          and similarity.fold(item.text) == similarity.fold(recipe.normal))


def _distinct(items: list[Item]) -> tuple[list[Item], list[str]]:
  """Each of the items once, and the texts of those that were said before."""
  groups, all_words, repeats = [], [], []
  for item in items:
    words = similarity.fold(item.text).split()
    own = words, frozenset(words)
    twin = next((n for n, other in enumerate(all_words) if _same(own, other)),
                None)
    if twin is None:
      groups.append([item])
      all_words.append(own)
    else:
      groups[twin].append(item)
      repeats.append(item.text)
  return [_joined(group) if len(group) > 1 else group[0]
          for group in groups], repeats


def _same(a, b) -> bool:
  """a, b: folded words of two items, in order and as a set."""
  shared = a[1] & b[1]
  # Of two sets, |a or b| = |a| + |b| - |a and b|.
  if len(shared) * (1 + SAME) < SAME * (len(a[1]) + len(b[1])):
    return False
  if a[0] == b[0]:
    return True
  telling = _telling(a[0])
  # "Mass left, cyst right" has the words of "cyst left, mass right".
  return telling == _telling(b[0]) and (len(telling) < 2 or (
      [w for w in a[0] if w in shared] == [w for w in b[0] if w in shared]))


def _telling(words: list[str]) -> list[str]:
  return [word for word in words
          if word in _TELLING or any(c.isdigit() for c in word)]


def _joined(group: list[Item]) -> Item:
  """The first of equal items, with the sources of all."""
  sources = tuple(dict.fromkeys(s for item in group for s in item.sources))
  captions = {s.section for s in sources if s.section.startswith(CAPTION)}
  return dataclasses.replace(
      group[0], sources=sources,
      support=max(len(captions), *(item.support for item in group)),
      flags=tuple(dict.fromkeys(f for item in group for f in item.flags)))
