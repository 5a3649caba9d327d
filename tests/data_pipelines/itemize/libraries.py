"""Well-kept libraries in the place of the rules, see measure.py.

Each function gives (read, split) as measure.by_rules and split_by_rules are.
The findings are given to the library as entities. A sentence is kept where an
entity is asserted, or where there is none that the library could deny and the
sentence has no word of normality.
"""

from data_pipelines.itemize import language
from data_pipelines.itemize import lexicon


def negspacy():
  """NegEx in spaCy; splitting by spaCy's own rules."""
  import negspacy.negation  # pylint: disable=unused-import
  import spacy
  pipeline = spacy.blank("en")
  pipeline.add_pipe("sentencizer")
  pipeline.add_pipe("negex")
  return (lambda text: _read(pipeline, text, lambda e: e._.negex),
          _sentencizer(spacy))


def medspacy():
  """ConText in medspaCy; splitting by pySBD."""
  import pysbd
  import spacy
  from medspacy.context import ConText  # pylint: disable=unused-import
  pipeline = spacy.blank("en")
  pipeline.add_pipe("sentencizer")
  pipeline.add_pipe("medspacy_context")
  elsewhere = lambda e: (e._.is_historical or e._.is_family
                         or e._.is_hypothetical)
  return (lambda text: _read(pipeline, text, lambda e: e._.is_negated,
                             elsewhere),
          pysbd.Segmenter(language="en", clean=False).segment)


def _sentencizer(spacy):
  pipeline = spacy.blank("en")
  pipeline.add_pipe("sentencizer")
  return lambda text: [s.text for s in pipeline(text).sents]


def _read(pipeline, text: str, is_negated, elsewhere=lambda e: False):
  known = lexicon.load().findings
  mentions = language.analyse(text).findings
  doc = pipeline.make_doc(text)
  spans = {}
  for mention in mentions:
    span = doc.char_span(mention.start, mention.end, label="FINDING",
                         alignment_mode="expand")
    spans[span.start, span.end] = span
  doc.ents = _apart(list(spans.values()))
  for _, pipe in pipeline.pipeline:
    doc = pipe(doc)
  found, asserted = set(), False
  for entity in doc.ents:
    if elsewhere(entity):
      continue
    asserted |= not is_negated(entity)
    found |= {(m.canonical, bool(is_negated(entity))) for m in mentions
              if entity.start_char <= m.start < entity.end_char
              and not known[m.canonical].generic}
  keep = asserted or not doc.ents and not _is_normal(text)
  return keep, found


def _apart(spans: list) -> list:
  """Entities of a document must not overlap."""
  out = []
  for span in sorted(spans, key=lambda s: s.start):
    if not out or span.start >= out[-1].end:
      out.append(span)
  return out


def _is_normal(text: str) -> bool:
  """A word of normality, of negation or of what is no finding at all."""
  return language.analyse(text).kind not in ("abnormal", "unknown")
