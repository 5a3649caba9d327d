"""Words of a text, folded so that spellings and numbers agree.

"Oedema", "edema" and "Edemas" become "edema"; "ground-glass" becomes "ground"
and "glass". Hyphens and underscores part words and are no words themselves;
other punctuation marks are. A folded word is for comparison, never for show.
"""

import re

_WORD = re.compile(r"[^\W\d_][^\W_]*(?:'t)?|\d+(?:[.,]\d+)?|[^\w\s-]")
_MAX_KNOWN = 200_000     # words remembered before the memory is emptied

_BRITISH = re.compile(
    r"haem|oede|oeso|aemi|tumour|colour|favour|neighbour|humour|behaviour|"
    r"(?:cent|fib|calib|lit)re(?=s?$|d$)|goitre|grey|paed|aetiolog|caec|coeli|"
    r"artefact|dyspnoea|apnoea|diarrhoea|leuc|sulph|foet|faec|anaes|gynae|"
    r"(?<=al|er|an|il|ar|ic|at|ol|in)is(?=e[ds]?$|ing$|ations?$)|"
    r"lling(?=s?$)|lled$")
_AMERICAN = {
    "oede": "ede", "oeso": "eso", "aemi": "emi", "goitre": "goiter",
    "grey": "gray", "paed": "ped", "aetiolog": "etiolog", "caec": "cec",
    "coeli": "celi", "leuc": "leuk", "sulph": "sulf", "foet": "fet",
    "faec": "fec", "anaes": "anes", "gynae": "gyne", "haem": "hem",
    "is": "iz", "artefact": "artifact", "dyspnoea": "dyspnea",
    "apnoea": "apnea",
    "diarrhoea": "diarrhea", "lling": "ling", "lled": "led",
}
# Plurals that the endings do not tell, and words that only look like one.
_IRREGULAR = {
    "metastases": "metastasis", "atelectases": "atelectasis",
    "diagnoses": "diagnosis", "stenoses": "stenosis", "ectases": "ectasis",
    "bronchiectases": "bronchiectasis", "thromboses": "thrombosis",
    "pneumothoraces": "pneumothorax", "hydrothoraces": "hydrothorax",
    "prostheses": "prosthesis", "vertebrae": "vertebra", "apices": "apex",
    "emboli": "embolus", "thrombi": "thrombus", "bronchi": "bronchus",
    "foci": "focus", "calculi": "calculus", "hila": "hilum", "lungs": "lung",
    "septa": "septum", "bullae": "bulla", "fistulae": "fistula",
    "diverticula": "diverticulum", "sequelae": "sequela", "nuclei": "nucleus",
    "sulci": "sulcus", "gyri": "gyrus", "thalami": "thalamus",
    "hippocampi": "hippocampus", "adenomata": "adenoma", "nevi": "nevus",
    "pleurae": "pleura", "atria": "atrium", "cortices": "cortex",
    "matrices": "matrix", "vertices": "vertex", "halves": "half",
    "calyces": "calyx", "uteri": "uterus", "villi": "villus", "rhonchi":
    "rhonchus", "criteria": "criterion", "ostia": "ostium", "lumina": "lumen",
    "foramina": "foramen", "ganglion": "ganglia", "fossae": "fossa",
    "has": "has", "was": "was", "is": "is", "its": "its", "this": "this",
    "as": "as", "us": "us", "pelvis": "pelvis", "less": "less", "pons": "pons",
    "does": "does", "series": "series", "always": "always", "gas": "gas",
    "lens": "lens", "versus": "versus", "vs": "vs", "pancreas": "pancreas",
    "ascites": "ascites", "diabetes": "diabetes", "plus": "plus",
    "shows": "shows", "atlas": "atlas", "yes": "yes", "obvious": "obvious",
    "iris": "iris", "caries": "caries", "biceps": "biceps", "limits": "limit",
}
_known: dict[str, str] = {}


def fold_word(word: str) -> str:
  """A lower-case word -> its American spelling in the singular."""
  folded = _known.get(word)
  if folded is None:
    if len(_known) > _MAX_KNOWN:
      _known.clear()
    folded = _known[word] = _fold(word)
  return folded


def lower(text: str) -> str:
  """Lower case without a change of length, so that offsets stay true."""
  low = text.lower()
  if len(low) == len(text):
    return low
  return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def words(text: str) -> tuple[list[str], list[str]]:
  """The words and punctuation marks of a text, folded and as they stand."""
  raw = _WORD.findall(lower(text))
  known = _known
  return [known.get(word) or fold_word(word) for word in raw], raw


def spans(text: str, raw: list[str]) -> list[tuple[int, int]]:
  """Where the words stand; `raw` as `words(text)` gives it."""
  text, out, end = lower(text), [], 0
  for word in raw:
    start = text.index(word, end)   # only what is no word lies between
    end = start + len(word)
    out.append((start, end))
  return out


def folded(text: str) -> tuple[str, ...]:
  """The folded words alone."""
  return tuple(fold_word(word) for word in _WORD.findall(lower(text)))


def _fold(word: str) -> str:
  if word in _IRREGULAR:
    return _IRREGULAR[word]
  if len(word) < 4 or not word.isalpha():
    return word
  word = _BRITISH.sub(_american, word)
  if word in _IRREGULAR:
    return _IRREGULAR[word]
  if word.endswith("ies") and len(word) > 4:
    return word[:-3] + "y"
  if word.endswith(("sses", "shes", "ches", "xes")):
    return word[:-2]
  if word.endswith("s") and not word.endswith(("ss", "us", "is")):
    return word[:-1]
  return word


def _american(match: re.Match) -> str:
  part = match[0]
  if part in _AMERICAN:
    return _AMERICAN[part]
  return part[:-2] + "er" if part.endswith("re") else part.replace("our", "or")
