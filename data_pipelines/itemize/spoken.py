"""Is a text in English? A count of the small words that each language has.

Telegraphic English ("mild cardiomegaly") has none, so a text is foreign only
where words of another language outnumber the English ones, or where most of its
letters are not Latin.
"""

import re

_WORD = re.compile(r"[^\W\d_]+")
_SAMPLE = 3000   # characters that are looked at, from the start

_ENGLISH = frozenset(
    "the of is are no and with without there in to a an for on was were not "
    "seen normal this that within has left right lung both by from or".split())
# Words that are frequent in their language and none in English reports.
_OTHERS = frozenset(
    # German
    "der die das und ist nicht mit ohne kein keine keinen im des dem ein eine "
    "einer einem zeigt auch bei beidseits rechts unauffällig sowie nach "
    "zum zur vom sind wird lunge herz nachweis hinweis normale "
    # French
    "le la les et est pas avec sans une du au aux dans sur sont pour par cette "
    "droit gauche poumon absence épanchement anomalie aucune aucun normaux "
    # Spanish, Portuguese, Italian
    "el los las con sin una del en y se observa derrame pulmonar derecho "
    "izquierdo por que lado derecha izquierda sem com uma não direito esquerdo "
    "il lo gli di non è senza della dello del nel nella alla sono polmone "
    "destro sinistro versamento delle dei "
    # Dutch, Scandinavian
    "het een geen zonder rechter linker longen hart og ikke uden och inte utan "
    "er ingen til "
    # Turkish
    "ve bir yok yoktur izlenmedi izlendi sağ sol akciğer saptanmadı her iki "
    "normaldir olarak mevcuttur kalp boyutu de da ile "
    # Polish, Czech
    "nie jest bez oraz się przy prawego lewego na w z płuco zmian není je "
    # Russian and Greek are told by their letters
    .split())
_SHARED = frozenset("de la das die a de da on in des est di no le lo il se en "
                    "her na je er bez del y w z".split())


def is_foreign(text: str) -> bool:
  """True where the text is in a language that is not English."""
  sample = text[:_SAMPLE]
  if not sample.isascii():
    letters = [c for c in sample if c.isalpha()]
    if letters and sum(c > "\u024f" for c in letters) > 0.3 * len(letters):
      return True
  words = sample.lower().split()
  if _OTHERS.isdisjoint(words):
    return False
  words = _WORD.findall(sample.lower())
  others = [w for w in words if w in _OTHERS]
  english = sum(w in _ENGLISH for w in words)
  sure = sum(w not in _SHARED for w in others)
  return len(others) > 1 and sure > 0 and len(others) > english + 1
