"""Does a text find its study, and a study its texts, among all of a split?

Texts are all stored items of all studies (five captions of a picture), however
many the model was trained with. Studies without text are left out.

    <name>/text_to_image/r@1, mean_rank, median_rank     one query per text
    <name>/image_to_text/r@1, mean_rank, median_rank     one per study: the rank
                            of the best of its own texts
    <name>/image_to_text/complete@10    all own texts are among the first 10
    <name>/image_to_text/mean_worst_rank, median_worst_rank, mean_own_rank   of
                            the worst own text, and of all own texts; these and
                            complete@k only where the options ask for the latter
    <name>/global/...       the same by the cosine of the global vectors
    <name>/two_stage/...    by TCSim among the k best of those, the rest behind

Tokens and texts are not normalised before the attention: the published rule of
retrieval. `ranking` says what becomes of level scores, of what is behind the
first stage, and how little memory all that takes.

As published, a text that several studies share ("Study is unremarkable") is as
many answers, of which only the query's own is right: even a perfect model can
but guess. With the option "equal_texts": "match" every study that has the text
is right, and the text is one answer.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, its public code
(complete@k); two stages: Xiao et al. 2025, https://arxiv.org/abs/2412.03561.
"""

import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, ranking
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.parallel import multihost

# Without a prompt set.
_OPTIONS = {"ranks_at": [1, 5, 10], "complete_at": [10, 100, 1000],
            "two_stage": 128}

_SHOWN = 3   # texts that find their study first, and last, that are drawn

# Score -> where its numbers stand below the evaluator's name.
_PLACE = {"tcsim": "", "cosine": "global/", "two_stage": "two_stage/"}


class Evaluator:
  """One row per query: the studies with text, then their texts.

  Raises:
    UserError: "equal_texts" is none of "own" and "match".
  """
  REQUIRES = ()
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    options = _OPTIONS if context.spec is None else context.spec.options
    self._ranks_at = list(options["ranks_at"])
    self._complete_at = list(options.get("complete_at", []))
    self._two_stage = int(options.get("two_stage", 0))
    self._equal_texts = options.get("equal_texts", "own")
    if self._equal_texts not in ("own", "match"):
      raise UserError(f"{context.name}: equal_texts is {self._equal_texts!r}; "
                      "use 'own' or 'match'.")
    self._counts = {}

  def collect(self) -> Table:
    """Ranks every query; columns see `ranking.Ranks`.

    Raises:
      UserError: no study has text.
    """
    studies = self._context.studies
    record = np.array([r for r in range(len(studies)) if studies.items(r)], int)
    if not len(record):
      raise UserError(f"{self._context.name}: none of the {len(studies)} "
                      "studies has text, so nothing can be retrieved; choose "
                      "another split in config.data.test_split.")
    items = [studies.items(r) for r in record]
    texts = list(dict.fromkeys(t for one in items for t in one))
    self._report(len(record), sum(map(len, items)), len(texts))
    number = {t: u for u, t in enumerate(texts)}
    owner = np.repeat(np.arange(len(items)), [len(one) for one in items])
    text = np.array([number[t] for one in items for t in one])
    right, column = _right(owner, text, self._equal_texts == "match")
    ranks = ranking.ranks(
        lambda: self._blocks(texts, record), right, two_stage=self._two_stage)
    # Objects: an array of str gives every text the room of the longest.
    return self._table(record, record[owner],
                       np.array(texts, object)[text], ranks, column)

  def _report(self, num_images: int, num_texts: int, num_distinct: int):
    left_out = len(self._context.studies) - num_images
    self._counts = {"studies": num_images, "texts": num_texts,
                    "distinct_texts": num_distinct, "left_out": left_out}
    if multihost.is_main():
      print(f"{self._context.name}: {num_texts} texts, {num_distinct} of them "
            f"distinct, of {num_images} studies; left out for want of text: "
            f"{left_out}.", flush=True)

  def _blocks(self, texts: list[str], record: np.ndarray) -> ranking.Blocks:
    """Scores of the studies with text, which count from 0."""
    studies = self._context.studies
    image = np.full(len(studies), -1)
    image[record] = np.arange(len(record))
    for rows, *scores in self._context.scorer.blocks(
        studies, texts, normalise=False):
      keep = image[rows] >= 0
      yield image[rows][keep], *(s[keep] for s in scores)

  def _table(self, images, owners, texts, ranks, column) -> Table:
    """Records [n] of images and [P] of the texts' owners -> columns [n + P]."""
    studies, n, P = self._context.studies, len(images), len(owners)
    record = np.concatenate([images, owners])
    none = np.full(P, np.nan)
    table = {"study_id": studies.study_id[record],
             "patient_id": studies.patient_id[record], "record": record,
             "query": np.repeat(["image", "text"], [n, P]),
             "text": np.concatenate([np.full(n, "", object), texts])}
    for name, by in ranks.items():
      table[f"rank_{name}"] = np.concatenate([by.image, by.text[column]])
      if name != "two_stage":
        table[f"worst_{name}"] = np.concatenate([by.worst, none])
        table[f"mean_{name}"] = np.concatenate([by.mean, none])
    return table

  def meta(self) -> dict:
    """The protocol, and what took part."""
    return {"ranks_at": self._ranks_at, "complete_at": self._complete_at,
            "two_stage": self._two_stage, "equal_texts": self._equal_texts,
            **self._counts}

  def examples(self, table: Table) -> list[Example]:
    """The texts that find their study first, and last."""
    texts = np.flatnonzero(table["query"] == "text")
    order = texts[np.argsort(table["rank_tcsim"][texts], kind="stable")]
    total = len(table["query"]) - len(texts)
    return [Example(
        row=int(table["record"][n]), text=str(table["text"][n]), group=group,
        caption=f"This text finds its study ({table['study_id'][n]}) at rank "
                f"{table['rank_tcsim'][n]:g} of {total}.")
            for group, chosen in (
                ("Found first", order[:_SHOWN]),
                ("Found last", order[_SHOWN:][-_SHOWN:]))
            for n in chosen]


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Shares of queries and mean and median ranks, by every score."""
  ways = {"text_to_image": table["query"] == "text",
          "image_to_text": table["query"] == "image"}
  means, medians = {}, {}
  for score, place in _PLACE.items():
    if f"rank_{score}" not in table:
      continue
    for way, asked in ways.items():
      where = f"{name}/{place}{way}"
      rank = np.where(asked, table[f"rank_{score}"], np.nan)
      means |= _within(f"{where}/r@", rank, meta["ranks_at"])
      means[f"{where}/mean_rank"] = medians[f"{where}/median_rank"] = rank
    if meta["complete_at"] and f"worst_{score}" in table:
      # Undefined for texts already, and `where` is that of studies.
      worst = table[f"worst_{score}"]
      means |= _within(f"{where}/complete@", worst, meta["complete_at"])
      means[f"{where}/mean_worst_rank"] = worst
      medians[f"{where}/median_worst_rank"] = worst
      means[f"{where}/mean_own_rank"] = table[f"mean_{score}"]
  stack = lambda columns: np.stack(list(columns.values()), axis=1)
  return measures.join([measures.means(tuple(means), stack(means)),
                        ranking.medians(tuple(medians), stack(medians))])


def _within(start: str, rank: np.ndarray, at: list[int]) -> dict:
  """Name -> 1 where a rank is k at most, else 0; undefined stays so."""
  return {f"{start}{k}": np.where(np.isnan(rank), np.nan, rank <= k)
          for k in at}


def _right(
    owner: np.ndarray,   # [P] int, ascending; the image of every stored text
    text: np.ndarray,    # [P] int, which distinct text it is
    match: bool,
) -> tuple[ranking.Right, np.ndarray]:
  """What belongs together, and the answer [P] that a stored text is."""
  if not match:
    each = np.arange(len(text))
    return ranking.Right(image=owner, column=each, text=text), each
  image, column = np.unique(np.stack([owner, text]), axis=1)
  distinct = np.arange(text.max() + 1)
  return ranking.Right(image=image, column=column, text=distinct), text
