"""How near a text is to a study's own report.

    bleu2      BLEU of words and pairs of words, 0 .. 1, lower case, the mean
               over the studies (not that of one corpus)
    chrf       F-score of character n-grams, the same
    cosine     of both texts' vectors by a sentence encoder, where one is given
    finding_precision, finding_recall, finding_f1
               of the findings that the rules of data_pipelines.itemize read in
               both texts as present, over all studies together: names alone,
               without side, place and size

A study without a report, or without a draft, is left out; an empty draft counts
as 0. BERTScore and CheXbert, which the paper reports, need models of torch and
are not here.

Reference: Papineni et al. 2002, https://aclanthology.org/P02-1040 and Popović
2015, https://aclanthology.org/W15-3049, as sacrebleu counts them (Post 2018,
https://aclanthology.org/W18-6319).
"""

from collections.abc import Sequence
import pathlib

import numpy as np

from data_pipelines.itemize import lexicon, statements
from data_pipelines.itemize.contract import Record
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures
from itemclip_jax.interop.sentence_encoder import Vectors

_MEANS = ("bleu2", "chrf", "cosine")
_COUNTS = ("both", "draft_only", "report_only")

Table = dict[str, np.ndarray]  # column -> [n] float, NaN = left out


def require():
  """Raises UserError unless the library of the scores is there."""
  _scorers()


def signatures() -> list[str]:
  """What the library says of versions and settings."""
  said = []
  for scorer in _scorers().values():
    scorer.sentence_score("one", ["one"])   # it knows no settings before
    said.append(scorer.get_signature().format())
  return said


def columns(drafts: Sequence[str | None], reports: Sequence[str], *,
            vectors: Vectors | None = None) -> Table:
  """What is measured of n studies, one row each.

  Args:
    drafts: None = there is none.
    reports: "" = there is none.
    vectors: of all these texts; None = no cosine.
  """
  scorers, rows = _scorers(), []
  for draft, report in zip(drafts, reports, strict=True):
    row = {}
    if draft is not None and report:
      row = {name: scorer.sentence_score(draft, [report]).score / 100
             for name, scorer in scorers.items()}
      said, true = findings(draft), findings(report)
      row |= {"both": len(said & true), "draft_only": len(said - true),
              "report_only": len(true - said)}
      if vectors is not None:
        row["cosine"] = (float(vectors(draft) @ vectors(report)) if draft
                         else 0.0)
    rows.append(row)
  names = [n for n in (*_MEANS, *_COUNTS)
           if n != "cosine" or vectors is not None]
  return {name: np.array([row.get(name, np.nan) for row in rows], float)
          for name in names}


def measure(name: str, table: Table) -> measures.Measures:
  """The numbers of the header, "<name>/<number>", of a table of `columns`."""
  means = [n for n in _MEANS if n in table]
  counted = np.nan_to_num(np.stack([table[n] for n in _COUNTS], axis=1))

  def statistic(counts):
    both, draft_only, report_only = np.moveaxis(counts @ counted, -1, 0)
    with np.errstate(invalid="ignore"):                # 0 / 0 is undefined
      return np.stack([
          both / (both + draft_only), both / (both + report_only),
          2 * both / (2 * both + draft_only + report_only)], axis=1)

  both, draft_only, report_only = map(int, counted.sum(0))
  return measures.join([
      measures.means(tuple(f"{name}/{n}" for n in means),
                     np.stack([table[n] for n in means], axis=1)),
      measures.Measures(
          names=tuple(f"{name}/finding_{n}"
                      for n in ("precision", "recall", "f1")),
          statistic=statistic,
          support=(both + draft_only, both + report_only,
                   both + draft_only + report_only))])


def findings(text: str) -> frozenset[str]:
  """Names of the findings that a text says are to be seen.

  What only says that there is something, or how it looks, is none.
  """
  known = lexicon.load().findings
  said = statements.read(Record("draft", {"text": text}))
  names = {m.canonical for statement in said for m in statement.shown}
  return frozenset(n for n in names
                   if not (known[n].generic or known[n].attribute))


def sentence_vectors(texts: Sequence[str | None], encoder: str,
                     cache: pathlib.Path) -> Vectors | None:
  """Vectors of all texts that are not empty; None without an encoder."""
  return Vectors.build(filter(None, texts), encoder, cache) if encoder else None


def _scorers() -> dict:
  try:
    import sacrebleu
  except ImportError as error:
    raise UserError(
        "Comparing drafts with reports wants the package sacrebleu; install "
        "the extra 'text-metrics', e.g. pip install "
        "'itemclip_jax[text-metrics]'.") from error
  # A report may be shorter than two words: then there are no pairs to count.
  return {"bleu2": sacrebleu.BLEU(max_ngram_order=2, effective_order=True,
                                  lowercase=True),
          "chrf": sacrebleu.CHRF(lowercase=True)}
