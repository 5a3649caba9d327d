"""How much two texts say the same, by their words."""

from collections.abc import Set

from data_pipelines.itemize import tokens

# Words that carry no content; negations and sides do carry some.
_FUNCTION_WORDS = frozenset(tokens.folded(
    "a an the this that these those there here it its he she they them his her "
    "their our your my we you i is are was were be been being am has have had "
    "do does did will would can could should shall may might must of in on at "
    "by for from to into onto with within as and or but if then than so such "
    "which who whose what when where while some any all each both very also "
    "just about over under up down out off again too s t"))


def fold(text: str) -> str:
  """The same for texts that differ in case, punctuation or spelling only.

  "Mild oedema." and "mild edema" are the same; "1.5 cm" is not "15 cm".
  """
  return " ".join(w for w in tokens.folded(text) if w[0].isalnum())


def content_words(text: str) -> frozenset[str]:
  """Folded words that say something."""
  return frozenset(w for w in tokens.folded(text)
                   if w[0].isalnum() and w not in _FUNCTION_WORDS)


def jaccard(a: str | Set[str], b: str | Set[str]) -> float:
  """Shared share of the words of two texts, or of two sets, 0 to 1.

  Of texts, content words count. Two that have none are the same.
  """
  a = content_words(a) if isinstance(a, str) else a
  b = content_words(b) if isinstance(b, str) else b
  union = len(a | b)
  return len(a & b) / union if union else 1.0
