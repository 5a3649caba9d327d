"""Checks of what a back-end made of a record, whichever back-end it was.

A check takes (recipe, record, draft) and returns the draft without what it
refuses, which goes to `dropped`, and with `warnings` of what it misses. The
recipe tells which checks its drafts pass through. Refusals are counted by their
reason (tally.py); `unsupported` ones beyond a limit end a run.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

from data_pipelines.itemize import captions
from data_pipelines.itemize import evidence
from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon as lexicon_lib
from data_pipelines.itemize import similarity
from data_pipelines.itemize import statements
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Triplet

MAX_WORDS = 60
OVERLAP = 0.8      # Jaccard index of two items that are hardly two
# Whose triplets are read off the sentence that they would be held against.
_RULES = Draft().backend
SCRUBBED = "identifier"   # flag of an item that named somebody

# What would be left hanging before an identifier that was taken out.
_HANGING = re.compile(
    r"(?:[,;]?\s*\(?\b(?:compared (?:to|with)|comparison (?:to|with)|dated|"
    r"since|on|of|from|by|as of|at|to|with|and|the|in|per|mrn|id|number|no|"
    r"accession|tel|phone|fax|e-?mail)\b[\s:#.]*)+$", re.IGNORECASE)
_EMPTY_BRACKETS = re.compile(r"\s*[(\[][\s,;:]*[)\]]")


def check(recipe, record: Record, draft: Draft,
          lexicon: lexicon_lib.Lexicon | None = None) -> Draft:
  """The draft after all checks of the recipe, in their order.

  Args:
    recipe: a recipes.Recipe.
    record: with clean texts.
    draft: of any back-end.
    lexicon: with the user's own terms; None = the built-in one.
  """
  for name in recipe.checks:
    draft = CHECKS[name](recipe, record, draft, lexicon)
  return draft


def identifiers(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Takes dates, names, file numbers and addresses out of texts.

  An item of which no finding is left is dropped.
  """
  kept, dropped = [], []
  for item in draft.items:
    text = without_identifiers(item.text)
    if text == item.text:
      kept.append(item)
    elif _says_as_much(text, item.text):
      kept.append(dataclasses.replace(
          item, text=text, flags=(*item.flags, SCRUBBED)))
    else:
      dropped.append(Dropped(text, "identifier"))
  gone, anatomies = draft.dropped, draft.anatomies
  if recipe.reads == "captions" or any(
      s.analysis.identifiers for s in statements.read(record, lexicon)):
    gone = [Dropped(without_identifiers(d.text), d.reason) for d in gone]
    anatomies = {name: said | {"text": without_identifiers(said["text"])}
                 for name, said in anatomies.items()}
  return dataclasses.replace(draft, items=tuple(kept), anatomies=anatomies,
                             dropped=(*gone, *dropped))


def grounding(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Drops what names a finding, side, place or number that no source has."""
  said = statements.read(record, lexicon)

  def fine(item: Item) -> bool:
    return (_is_normal(recipe, item) or _is_quoted(item, record)
            or not evidence.unsupported(item.text, said, lexicon))

  def backed(triplet: Triplet) -> bool:
    return draft.backend == _RULES or not evidence.unsupported(
        " ".join(filter(None, (triplet.location, triplet.category))),
        _of_triplet(triplet, said), lexicon)

  return _without(draft, fine, backed)


def polarity(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Drops what asserts a finding that the source denies, or the reverse."""
  said = statements.read(record, lexicon)
  mentions = evidence.mentions(said)
  texts = {s.source: s.text for s in said}

  def fine(item: Item) -> bool:
    whole = any(texts.get(s) == item.text for s in item.sources)
    return (whole or _is_normal(recipe, item)
            or not evidence.contradicted(item.text, mentions, lexicon))

  def agrees(triplet: Triplet) -> bool:
    text = " ".join(filter(None, (
        "no" if triplet.negated else None, triplet.location, triplet.category)))
    return draft.backend == _RULES or not evidence.contradicted(
        text, evidence.mentions(_of_triplet(triplet, said)), lexicon)

  return _without(draft, fine, agrees)


def support(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Counts anew which captions say an item; fewer than two are too few."""
  del recipe, lexicon
  kept, dropped = [], []
  for item in draft.items:
    count = captions.support(item.text, record.captions)
    if count >= captions.MIN_SUPPORT:
      kept.append(dataclasses.replace(item, support=count))
    else:
      dropped.append(Dropped(item.text, "support"))
  return _with(draft, kept, dropped)


def length(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Drops items of more than 60 words, and of none."""
  del recipe, record, lexicon
  kept, dropped = [], []
  for item in draft.items:
    words = len(item.text.split())
    if 0 < words <= MAX_WORDS:
      kept.append(item)
    else:
      dropped.append(Dropped(item.text, "too_long" if words else "empty"))
  return _with(draft, kept, dropped)


def normal_consistency(
    recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Drops "nothing is abnormal" where the report or another item says what is.
  """
  if not any(_is_normal(recipe, item) for item in draft.items):
    return draft
  others = [i for i in draft.items if not _is_normal(recipe, i)]
  abnormal = any(s.abnormal for s in statements.read(record, lexicon))
  if not others and not abnormal:
    return draft
  reason = "normal" if others else "unsupported"
  return _with(draft, others, [
      Dropped(i.text, reason) for i in draft.items if _is_normal(recipe, i)])


def coverage(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Warns of abnormal sentences of which no item speaks, "missing:<number>"."""
  del recipe
  lost = missing(statements.read(record, lexicon), draft.items, lexicon)
  if not lost:
    return draft
  return dataclasses.replace(
      draft, warnings=(*draft.warnings, f"missing:{len(lost)}"))


def missing(
    said: Sequence[statements.Statement], items: Sequence[Item], lexicon=None
) -> list[statements.Statement]:
  """The abnormal statements that no item quotes and none represents."""
  quoted = {source for item in items for source in item.sources}
  lost = [s for s in said if s.shown and s.source not in quoted and not any(
      q.section == s.source.section and q.start < s.source.end
      and s.source.start < q.end for q in quoted)]
  told = [evidence.facts(item.text, lexicon) for item in items if lost]
  return [s for s in lost if not evidence.represented(s, told)]


def independence(recipe, record: Record, draft: Draft, lexicon=None) -> Draft:
  """Warns of items that share most of their words, "overlap"."""
  del recipe, record, lexicon
  if not overlapping([item.text for item in draft.items]):
    return draft
  return dataclasses.replace(draft, warnings=(*draft.warnings, "overlap"))


def overlapping(texts: Sequence[str]) -> list[tuple[int, int]]:
  """Pairs of texts with a Jaccard index of at least 0.8."""
  words = [similarity.content_words(text) for text in texts]
  size = [max(1, len(w)) for w in words]
  return [(i, j) for j in range(len(texts)) for i in range(j)
          if OVERLAP <= size[i] / size[j] <= 1 / OVERLAP
          and similarity.jaccard(words[i], words[j]) >= OVERLAP]


def without_identifiers(text: str) -> str:
  """The text without names, dates, numbers of files, telephone and mail."""
  spans = language.analyse(text).identifiers
  for start, end in sorted(spans, reverse=True):
    before = _HANGING.sub("", text[:start].rstrip())
    text = f"{before.rstrip()} {text[end:].lstrip()}".strip()
  if spans:
    text = _EMPTY_BRACKETS.sub("", text)
    text = re.sub(r"\s+([.,;:])", r"\1", text)
    text = re.sub(r"[,;:]+([.])", r"\1", text).strip(" ,;:")
    text = text[:1].upper() + text[1:]
  return text


def _says_as_much(text: str, before: str) -> bool:
  """True where the findings of a text are those that it had before."""
  name = lambda t: [m.canonical for m in language.analyse(t).findings]
  if not name(before):
    return len(similarity.content_words(text)) >= 2
  return name(text) == name(before)


def _is_normal(recipe, item: Item) -> bool:
  return (bool(recipe.normal) and len(item.text) < 2 * len(recipe.normal)
          and similarity.fold(item.text) == similarity.fold(recipe.normal))


def _is_quoted(item: Item, record: Record) -> bool:
  """True where the text stands, word by word, in one of its sources."""
  sources = [record.sections.get(s.section, "")[s.start:s.end]
             for s in item.sources]
  if item.text in sources:
    return True
  text = f" {similarity.fold(item.text)} "  # "5 mm" is no part of "15 mm"
  return any(text in f" {similarity.fold(source)} " for source in sources)


def _of_triplet(triplet: Triplet, said) -> list[statements.Statement]:
  """The statement that a triplet was read from, or all of them."""
  source = triplet.source
  return [s for s in said if source is None or s.source == source] or list(said)


def _without(draft: Draft, fine: Callable[[Item], bool],
             backed: Callable[[Triplet], bool]) -> Draft:
  """The draft without what is not fine."""
  kept = [i for i in draft.items if fine(i)]
  refused = [Dropped(i.text, "unsupported") for i in draft.items
             if i not in kept]
  triplets = tuple(t for t in draft.triplets if backed(t))
  refused += [Dropped(t.category, "unsupported") for t in draft.triplets
              if t not in triplets]
  return dataclasses.replace(_with(draft, kept, refused), triplets=triplets)


def _with(draft: Draft, kept: list[Item], dropped: list[Dropped]) -> Draft:
  return dataclasses.replace(draft, items=tuple(kept),
                             dropped=(*draft.dropped, *dropped))


CHECKS = {f.__name__: f for f in (
    identifiers, grounding, polarity, support, length, normal_consistency,
    coverage, independence)}
