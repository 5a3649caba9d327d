"""Captions of one picture: which repeat another, and what two of them agree on.

`verify2` counts support phrase by phrase. A caption supports a phrase where it
has at least 0.6 of the phrase's content words, denies none that the phrase
asserts nor the other way round, has its numbers, and names no other colours and
sides. Of phrases that say the same, the one whose words are best supported
stays, so that a detail of one caption does not come along where another wording
does without it.
"""

import dataclasses
import re

from data_pipelines.itemize import similarity
from data_pipelines.itemize import sentences
from data_pipelines.itemize.contract import CAPTION
from data_pipelines.itemize.contract import Draft
from data_pipelines.itemize.contract import Dropped
from data_pipelines.itemize.contract import Item
from data_pipelines.itemize.contract import Record
from data_pipelines.itemize.contract import Source

OVERLAP = 0.6      # of a phrase's content words, in a caption that supports it
DUPLICATE = 0.9    # Jaccard index of the content words
MIN_SUPPORT = 2

# Words that say nothing of a picture.
_NEUTRAL = frozenset(
    "picture image photo photograph scene show depict display contain featur "
    "includ visibl present seen see there appear".split())

_BREAK = re.compile(
    r"\s*[,;:]\s*(?:and\s+|while\s+|with\s+)?|\s+(?:and|while|with|as)\s+|"
    r"\s+[-–—]\s+", re.IGNORECASE)
# How far a denial reaches.
_REACH = re.compile(
    r"[,;:.]|\b(?:and|but|while)\b|\b(?=(?:without|with|on|in|at|near|by|under|"
    r"over|along|around|behind|beside|next)\b)", re.IGNORECASE)
_MARKS = ".,;:!? \t\n\"'"
_ARTICLE = re.compile(r"(?:(?:and|with|while|as)\s+)+", re.IGNORECASE)
_TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+(?:n't)?")
_DENIAL = frozenset("no not without never none nobody neither nor".split())
_COUNTS = {word: str(n) for n, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve"
    .split())}
# Words of which a phrase and a caption may not name different ones.
_COLOURS = frozenset(
    "red green blue yellow orange purple pink brown black white gray golden "
    "silver beige".split())
_SIDES = frozenset("left right top bottom upper lower".split())


@dataclasses.dataclass(frozen=True)
class Facts:
  """What counts of a caption or a phrase.

  words: stems of the content; denied: of them, those behind a "no".
  """
  words: frozenset[str]
  denied: frozenset[str]
  numbers: frozenset[str]
  colours: frozenset[str]
  sides: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Phrase:
  """A piece of a caption.

  support: how many captions say it; worth: words that two captions have, less
  those that only one has.
  """
  text: str
  source: Source
  facts: Facts
  support: int
  worth: int


def facts(text: str) -> Facts:
  """What counts of a text."""
  tokens = [_COUNTS.get(t, t) for t in _TOKEN.findall(text.lower())]
  tokens = ["gray" if t == "grey" else t for t in tokens]
  named = frozenset(tokens)
  words, denied = set(), set()
  for part in _REACH.split(text):
    own = {_stem(w) for w in similarity.content_words(part) if w not in _DENIAL}
    words |= own
    if any(t in _DENIAL or t.endswith("n't")
           for t in _TOKEN.findall(part.lower())):
      denied |= own
  return Facts(
      words=frozenset(words), denied=frozenset(denied),
      numbers=frozenset(t for t in tokens if t[0].isdigit() and t != "1"),
      colours=frozenset(map(_stem, named & _COLOURS)), sides=named & _SIDES)


def supports(caption: Facts, phrase: Facts) -> bool:
  """True where the caption says what the phrase says."""
  return (bool(phrase.words)
          and len(phrase.words & caption.words) >= OVERLAP * len(phrase.words)
          and phrase.denied & caption.words == caption.denied & phrase.words
          and phrase.numbers <= caption.numbers
          and (phrase.colours <= caption.colours or not caption.colours)
          and (phrase.sides <= caption.sides or not caption.sides))


def support(text: str, captions: tuple[str, ...]) -> int:
  """How many of the captions say what the text says.

  None does where the text has a word that is in none of them.
  """
  wanted, said = facts(text), [facts(caption) for caption in captions]
  known = _NEUTRAL.union(*(one.words for one in said))
  return sum(supports(one, wanted) for one in said) * (wanted.words <= known)


def dedup(record: Record) -> Draft:
  """Every caption once, as it is."""
  kept, dropped, said = [], [], []
  for n, caption in enumerate(record.captions):
    text = caption.strip()
    if not text:
      dropped.append(Dropped(text, "empty"))
      continue
    own = (similarity.fold(text), facts(text))
    twin = next((k for k, other in enumerate(said) if _repeats(own, other)),
                None)
    source = Source(f"{CAPTION}{n}", 0, len(caption))
    if twin is None:
      said.append(own)
      kept.append(Item(text, (source,)))
    else:
      dropped.append(Dropped(text, "duplicate"))
      first = kept[twin]
      kept[twin] = dataclasses.replace(
          first, sources=(*first.sources, source), support=first.support + 1)
  return Draft(items=tuple(kept), dropped=tuple(dropped))


def verify2(record: Record) -> Draft:
  """What at least two captions say, each once."""
  all_facts = [facts(caption) for caption in record.captions]
  phrases = [p for n, caption in enumerate(record.captions)
             for p in _phrases(n, caption, all_facts)]
  strong = [p for p in phrases if p.support >= MIN_SUPPORT]
  dropped = [Dropped(p.text, "support") for p in phrases
             if p.support < MIN_SUPPORT]
  kept = []
  for phrase in sorted(strong, key=_rank):
    twin = next((k for k, other in enumerate(kept)
                 if _same(phrase.facts, other[0].facts)), None)
    if twin is None:
      kept.append((phrase, [phrase.source]))
    else:
      kept[twin][1].append(phrase.source)
      dropped.append(Dropped(phrase.text, "duplicate"))
  kept.sort(key=lambda pair: _order(pair[0].source))
  return Draft(
      items=tuple(Item(_sentence(p.text), tuple(sources), p.support)
                  for p, sources in kept),
      dropped=tuple(dropped))


def _phrases(n: int, caption: str, all_facts: list[Facts]) -> list[Phrase]:
  """The sentences of a caption, and the pieces of long ones."""
  found = []
  for sentence in sentences.split(caption, section=f"{CAPTION}{n}"):
    whole = _phrase(sentence.text, sentence, 0, all_facts)
    pieces = [_phrase(sentence.text[a:b], sentence, a, all_facts)
              for a, b in _pieces(sentence.text)]
    found += [p for p in (whole, *(pieces if len(pieces) > 1 else ())) if p]
  return found


def _pieces(text: str) -> list[tuple[int, int]]:
  cuts = [m.span() for m in _BREAK.finditer(text)]
  return list(zip([0, *(b for _, b in cuts)],
                  [*(a for a, _ in cuts), len(text)]))


def _phrase(text: str, sentence, offset: int, all_facts) -> Phrase | None:
  """None where the text has no content."""
  stripped = text.strip(_MARKS)
  start = sentence.start + offset + text.find(stripped)
  own = facts(stripped)
  if not own.words:
    return None
  backing = [f for f in all_facts if supports(f, own)]
  alone = {word for word in own.words
           if sum(word in f.words for f in backing) < MIN_SUPPORT}
  # A colour of one caption is worse than a verb of one.
  worth = len(own.words) - 2 * len(alone) - len(alone & own.colours)
  source = Source(sentence.section, start, start + len(stripped))
  return Phrase(stripped, source, own, len(backing), worth)


def _rank(phrase: Phrase):
  """Best supported wording first, of equals the one that says most."""
  return (-phrase.worth, -len(phrase.facts.words), -phrase.support,
          _order(phrase.source))


def _order(source: Source):
  return int(source.section.partition(":")[2]), source.start


def _same(a: Facts, b: Facts) -> bool:
  """True where the shorter of two phrases says nothing that the other lacks."""
  few, many = sorted((a, b), key=lambda f: len(f.words))
  return supports(many, few) or few.words <= many.words


def _repeats(a, b) -> bool:
  """a, b: folded text and facts of two captions."""
  if a[0] == b[0]:
    return True
  x, y = a[1], b[1]
  either = len(x.words | y.words)
  return (either > 0 and len(x.words & y.words) >= DUPLICATE * either
          and (x.numbers, x.denied) == (y.numbers, y.denied))


def _stem(word: str) -> str:
  """"running", "runs" and "run" are one word."""
  for ending in ("ing", "ed"):
    if word.endswith(ending) and len(word) > len(ending) + 3:
      word = word[:-len(ending)]
      if word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
      break
  return word.rstrip("e")


def _sentence(text: str) -> str:
  text = _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text
  if text.count('"') % 2:   # its partner was cut off
    text = text.replace('"', "")
  return f"{text[0].upper()}{text[1:]}."
