"""What is in this box? Texts ranked for a part of one series.

The user boxes tokens of one series; every text's attention is restricted to
them, and texts are put in order of TCSim, the highest first (`rank_items`).
Tokens and texts are normalised before the attention, as for zero-shot scores.

As an evaluator, on sets that outline their findings: the box is the smallest
around the lesion of an item, in the series that shows most of it; the texts are
all distinct items of the split, and the rank is that of the item's own text. A
text that says the same in other words counts as wrong, so no number here can
be perfect.

    region_text/r@1, r@10, median_rank   of the item's text; a level one counts
                                         one half
    region_text/r@1_chance, ...          the same for texts in random order
    region_text/whole_study/r@1, ...     the same without a box
    region_text/region_helps             share of lesions whose rank is better
                                         with the box; an equal one counts half

At most `MOST_LESIONS` are measured: those of studies drawn in a random order
that the config's seed decides.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement (there
100 000 texts and no number; "argmin" there is a misprint).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tqdm

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, metrics, ranking
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.parallel import multihost

MOST_LESIONS = 500
RANKS_AT = (1, 10)
_SHOWN = 3   # boxes with the best, and worst, rank that are drawn

# First token and the one behind the last, along d, h and w.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

_COLUMNS = ("study_id", "patient_id", "record", "slot", "item", "finding",
            "series", "tokens", "text", "rank", "rank_whole")


def rank_items(context: Context, studies: Studies, row: int, series: int,
               box: Box, texts: Sequence[str] | np.ndarray
               ) -> tuple[np.ndarray, np.ndarray]:
  """Puts texts in the order in which they speak of a box.

  Beside the scorer's blocks this holds 8 bytes a text.

  Args:
    context: of the model.
    studies: of which it is one.
    row: which.
    series: its number in the study, from 0.
    box: of tokens, within `context.grid`.
    texts: P of them, or their vectors [P, E].

  Returns:
    Numbers of the texts [P], best first, of level ones the first given; and
    the scores [P] in the order of `texts`.

  Raises:
    UserError: the study has no such series, or the box no token.
  """
  count = int(studies.num_series[row])
  if not 0 <= series < count:
    raise UserError(f"Study {studies.study_id[row]!r} has no series number "
                    f"{series}; want 0 to {count - 1}.")
  for axis, (first, end), size in zip("dhw", box, context.grid, strict=True):
    if not 0 <= first < end <= size:
      raise UserError(f"The box runs from token {first} to before {end} along "
                      f"{axis}; want a part of 0 to {size} that is not empty.")
  scores = context.scorer.region(
      studies, row, _seen(context, studies, series, box), texts)
  return np.argsort(-scores, kind="stable"), scores


def token_box(
    lesion: np.ndarray,      # [D, H, W] bool, not empty
    grid: tuple[int, int, int],
) -> Box:
  """The smallest box of tokens with all that is outlined."""
  tokens = np.argwhere(metrics.token_share(lesion, grid) > 0)
  return tuple(zip(tokens.min(0).tolist(), (tokens.max(0) + 1).tolist()))


class Evaluator:
  """One row per outlined item."""
  REQUIRES = ("series_mask", "lesion_mask", "item_finding", "item_visible")
  prompts: tuple[str, ...] = ()

  def __init__(self, context: Context):
    self._context = context
    self._number: dict[str, int] = {}   # of every text
    self._left_out = 0

  def collect(self) -> Table:
    """Boxes every lesion, and ranks all texts for it.

    A true finding without an outline is left out and counted.
    """
    studies = self._context.studies
    texts = list(dict.fromkeys(
        t for row in range(len(studies)) for t in studies.items(row)))
    self._number = {t: i for i, t in enumerate(texts)}
    embedded = self._context.scorer.texts(texts) if texts else None
    bar = tqdm.tqdm(total=MOST_LESIONS, desc="boxes", unit="lesion",
                    leave=False, disable=not multihost.is_main())
    order = np.random.default_rng(
        self._context.config.seed).permutation(len(studies))
    rows = []
    for row in order.tolist():
      if len(rows) == MOST_LESIONS:
        break
      new = list(self._measured(row, texts, embedded))
      rows += new[:MOST_LESIONS - len(rows)]
      bar.update(len(rows) - bar.n)
    bar.close()
    if multihost.is_main():
      print(f"{self._context.name}: {len(rows)} lesions boxed, of at most "
            f"{MOST_LESIONS}; {self._left_out} findings on the way have no "
            "outline in a series that shows them, and are left out.")
    return {c: np.array([r[c] for r in rows]) for c in _COLUMNS}

  def _measured(self, row: int, texts: list[str], embedded: np.ndarray
                ) -> Iterator[dict]:
    """The rows of one study, by slot."""
    context, studies = self._context, self._context.studies
    example, items = studies.example(row), studies.items(row)
    places = {}
    for k in range(min(len(items), len(example["item_finding"]))):
      place = _place(example, k, context.grid)
      if place is not None:
        places[k] = place
      elif example["item_finding"][k] >= 0:
        self._left_out += 1
    if not places:
      return
    everywhere = context.scorer.region(
        studies, row, _seen(context, studies), embedded)
    for k, (series, box) in places.items():
      order, scores = rank_items(context, studies, row, series, box, embedded)
      own, finding = self._number[items[k]], example["item_finding"][k]
      yield {
          "study_id": studies.study_id[row], "record": row, "slot": k,
          "patient_id": studies.patient_id[row], "item": items[k],
          "finding": studies.findings[finding] if finding >= 0 else "",
          "series": str(example["names"][series]),
          "tokens": int(np.prod([end - first for first, end in box])),
          "text": texts[order[0]],
          "rank": ranking.rank_of(scores, own),
          "rank_whole": ranking.rank_of(everywhere, own)}

  def meta(self) -> dict:
    """What took part."""
    return {"texts": len(self._number), "most_lesions": MOST_LESIONS,
            "seed": self._context.config.seed, "left_out": self._left_out}

  def examples(self, table: Table) -> list[Example]:
    """The boxes that call up their item first, and last."""
    order = np.argsort(table["rank"], kind="stable")
    return [self._example(table, n, group)
            for group, chosen in (
                ("Boxes that call up their finding", order[:_SHOWN]),
                ("Boxes that do not", order[_SHOWN:][-_SHOWN:]))
            for n in chosen]

  def _example(self, table: Table, n: int, group: str) -> Example:
    row, k = int(table["record"][n]), int(table["slot"][n])
    example = self._context.studies.example(row)
    return Example(
        row=row, text=str(table["item"][n]), group=group,
        caption=f"A box on this finding in {table['series'][n]} calls it up "
                f"at rank {table['rank'][n]:g} of {len(self._number)}, and "
                f"{str(table['text'][n])!r} first; the whole study, at rank "
                f"{table['rank_whole'][n]:g} (study {table['study_id'][n]}).",
        lesion_mask=example["lesion_mask"] == k + 1,
        visible=example["item_visible"][k])


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Shares of lesions and median ranks, with the box and without."""
  P = meta["texts"]
  rank, whole = (np.asarray(table[c], float) for c in ("rank", "rank_whole"))
  ranks = {name: rank, f"{name}/whole_study": whole}
  means = {f"{where}/r@{k}": (column <= k).astype(float)
           for where, column in ranks.items() for k in RANKS_AT}
  means[f"{name}/region_helps"] = (rank < whole) + 0.5 * (rank == whole)
  chance = {f"{name}/r@{k}_chance": min(k, P) / P if P else np.nan
            for k in RANKS_AT} | {f"{name}/median_rank_chance": (P + 1) / 2}
  return measures.join([
      measures.means(tuple(means), np.stack(list(means.values()), axis=1)),
      ranking.medians(tuple(f"{where}/median_rank" for where in ranks),
                      np.stack(list(ranks.values()), axis=1)),
      measures.Measures(names=(), support=(), fixed=chance,
                        statistic=lambda counts: np.zeros((len(counts), 0)))])


def _place(example: dict, k: int, grid) -> tuple[int, Box] | None:
  """The series that shows most of a slot's lesion, and the box around it."""
  # Slot k holds item k of the record, whose voxels are marked k + 1.
  lesion = example["lesion_mask"] == k + 1
  size = lesion.sum((1, 2, 3)) * (
      example["item_visible"][k] & example["series_mask"])
  series = int(np.argmax(size))
  if not size[series]:
    return None
  return series, token_box(lesion[series], grid)


def _seen(context: Context, studies: Studies, series: int | None = None,
          box: Box | None = None) -> np.ndarray:
  """[S, d, h, w] bool: a box in one series, or everything."""
  shape = (int(studies.num_series.max()), *context.grid)
  if box is None:
    return np.ones(shape, bool)
  seen = np.zeros(shape, bool)
  seen[(series, *(slice(*ends) for ends in box))] = True
  return seen
