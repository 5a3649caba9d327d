"""Does the attention of a text land on what the text names?

A text's head-averaged attention over all tokens of all series of a study is
compared with an outline. What is asked depends on the evaluator's name.

By itself, `segmentation`: every true finding of the studies that outline it,
one row each; the text is the finding's prompts, their attention averaged.

    pointing/top1      the most attended token's own box overlaps the lesion, in
                       a series that shows it
    pointing/chance    the same for a token drawn uniformly
    pointing/series_top1, series_chance    the series with the largest summed
                       attention shows the lesion; the share of series that do
    segmentation/iou, dice    of the `eval.top_tokens` most attended tokens, in
                       the best-attended series that shows the lesion

As a prompt set <name> with a text, a pattern and a number of tokens (BraTS):
one row per study, and the lesion is all that is outlined. The text attends to
the whole study, of which one series is judged: the first in stored order in
whose name the pattern, a regular expression, is found (in any case).

    <name>/iou, dice        of that series' most attended tokens
    <name>/pointing         its most attended token overlaps the lesion
    <name>/study_pointing   the study's does, in any series

"..._chance" is the same for tokens drawn uniformly: exact, but for the IoU,
which is a mean over draws.

Reference: Lyu et al. 2025, https://arxiv.org/abs/2512.11141, supplement (tokens
as a segmentation); the pointing game goes back to Zhang et al. 2016.
"""

from collections.abc import Iterator
import re

import numpy as np

from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import measures, metrics
from itemclip_jax.evaluators.context import Context, Example, Table
from itemclip_jax.parallel import multihost

_DRAWS = 50  # random token sets behind the chance of each IoU
_SHOWN = 3   # best, and worst, studies of a prompt set that are drawn

_ABOUT = ("study_id", "patient_id", "record")
_FINDING = (*_ABOUT, "finding", "item", "slot")
_TEXT = (*_ABOUT, "series", "series_number")

# Column of the table -> number of the results.
_FINDING_NUMBERS = {
    "top1": "pointing/top1", "chance": "pointing/chance",
    "series_top1": "pointing/series_top1",
    "series_chance": "pointing/series_chance",
    "iou": "segmentation/iou", "iou_chance": "segmentation/iou_chance",
    "dice": "segmentation/dice", "dice_chance": "segmentation/dice_chance",
}
_TEXT_NUMBERS = ("iou", "iou_chance", "dice", "dice_chance", "pointing",
                 "pointing_chance", "study_pointing", "study_pointing_chance")


class Evaluator:
  """One row per outlined finding or, for a prompt set, per study.

  Attributes:
    prompts: the texts of the pictures.

  Raises:
    UserError: the prompt set's pattern is none, or it counts more tokens than
      a series has.
  """
  REQUIRES = ("series_mask", "lesion_mask", "item_finding", "item_visible")

  def __init__(self, context: Context):
    self._context = context
    self._rng = np.random.default_rng(context.config.seed)
    self._left_out = 0
    findings = context.studies.split.findings
    self._asked = [tuple(f["prompts"]) for f in findings.values()]
    if context.spec is None:
      self.prompts = tuple(prompts[0] for prompts in self._asked)
      self._top_tokens = context.config.eval.top_tokens
    else:
      options = context.spec.options
      self.prompts = (options["text"],)
      self._top_tokens = options["top_tokens"]
      self._series = _pattern(context.name, options["series"])
    size = int(np.prod(context.grid))
    if self._top_tokens > size:
      raise UserError(
          f"{context.name!r} counts the {self._top_tokens} most attended "
          f"tokens of a series, and this model has {size}; count fewer, or "
          "take it out of config.eval.evaluators.")

  def collect(self) -> Table:
    """Shows every study its texts.

    What has no outline, or no series to judge, is left out and counted.
    """
    if self._context.spec is None:
      rows, columns = self._findings(), (*_FINDING, *_FINDING_NUMBERS)
    else:
      rows, columns = self._text(), (*_TEXT, *_TEXT_NUMBERS)
    rows = list(rows)
    if self._left_out and multihost.is_main():
      print(f"{self._context.name}: {len(rows)} measured; {self._left_out} "
            "have no outline in a series that can be judged, and are left out.")
    return {c: np.array([row[c] for row in rows]) for c in columns}

  def meta(self) -> dict:
    """The protocol, and how many findings or studies were left out."""
    spec = self._context.spec
    return {"text": None if spec is None else self.prompts[0],
            "series": None if spec is None else self._series.pattern,
            "top_tokens": self._top_tokens, "left_out": self._left_out}

  def _about(self, row: int) -> dict:
    studies = self._context.studies
    return {"study_id": studies.study_id[row], "record": row,
            "patient_id": studies.patient_id[row]}

  def _findings(self) -> Iterator[dict]:
    """Rows of the findings that have an outline, by study, then by slot."""
    studies = self._context.studies
    found = {}                              # study -> {slot: finding}
    for row in range(len(studies)):
      finding = studies.example(row)["item_finding"]
      slots = np.flatnonzero(finding >= 0).tolist()
      if slots:
        found[row] = {k: int(finding[k]) for k in slots}
    texts = {row: [text for f in of.values() for text in self._asked[f]]
             for row, of in found.items()}
    for row, weights in self._context.scorer.attention(studies, texts):
      example, start = studies.example(row), 0
      for k, f in found[row].items():
        end = start + len(self._asked[f])
        judged = self._judge_finding(weights[start:end].mean(0), example, k)
        start = end
        if judged is None:
          self._left_out += 1
          continue
        yield judged | self._about(row) | {
            "finding": studies.findings[f], "item": studies.items(row)[k],
            "slot": k}

  def _judge_finding(self, weights, example, k: int) -> dict | None:
    """Measures of [S, d, h, w] weights; None where no series can show it."""
    # Slot k holds item k of the record, whose voxels are marked k + 1.
    lesion = example["lesion_mask"] == k + 1
    visible, real = example["item_visible"][k], example["series_mask"]
    target = metrics.token_share(
        lesion & visible[:, None, None, None], self._context.grid) > 0
    real_tokens = np.broadcast_to(real[:, None, None, None], target.shape)
    if not (target & real_tokens).any():
      return None
    rank = metrics.series_rank(weights, visible, real)
    best = int(np.argmax(np.where(visible & real,
                                  weights.sum((1, 2, 3)), -1.0)))
    return {
        "top1": metrics.top_token_hit(weights, target, real_tokens),
        "chance": metrics.expected_hit(target, real_tokens),
        "series_top1": float(rank == 1) if rank == rank else float("nan"),
        "series_chance": (visible & real).sum() / real.sum()
                         if rank == rank else float("nan"),
    } | self._overlap(weights[best], lesion[best])

  def _text(self) -> Iterator[dict]:
    """Rows of the studies with an outline in the series that is judged."""
    studies = self._context.studies
    texts = {row: self.prompts for row in range(len(studies))}
    for row, weights in self._context.scorer.attention(studies, texts):
      example = studies.example(row)
      s = next((i for i, name in enumerate(example["names"])
                if self._series.search(name)), None)
      if s is None or not example["lesion_mask"][s].any():
        self._left_out += 1
        continue
      yield self._judge_text(weights[0], example, s) | self._about(row) | {
          "series": str(example["names"][s]), "series_number": s}

  def _judge_text(self, weights, example, s: int) -> dict:
    """Measures of [S, d, h, w] weights, where series s is judged."""
    lesion = example["lesion_mask"] > 0
    target = metrics.token_share(lesion, self._context.grid) > 0
    real = np.broadcast_to(
        example["series_mask"][:, None, None, None], target.shape)
    return self._overlap(weights[s], lesion[s]) | {
        "pointing": metrics.top_token_hit(weights[s], target[s], real[s]),
        "pointing_chance": metrics.expected_hit(target[s], real[s]),
        "study_pointing": metrics.top_token_hit(weights, target, real),
        "study_pointing_chance": metrics.expected_hit(target, real),
    }

  def _overlap(self, weights, lesion) -> dict:
    """Of one series: weights [d, h, w], lesion [D, H, W] bool."""
    grid, k = self._context.grid, self._top_tokens
    return {
        "iou": metrics.token_iou(weights, lesion, k),
        "iou_chance": metrics.expected_token_iou(
            lesion, grid, k, rng=self._rng, num_draws=_DRAWS),
        "dice": metrics.token_dice(weights, lesion, k),
        "dice_chance": expected_token_dice(lesion, grid, k),
    }

  def examples(self, table: Table) -> list[Example]:
    """The first finding of each kind, hit or miss; of a prompt set, extremes.

    A kind is what stands before the first comma of a finding's name.
    """
    if not len(table["record"]):
      return []
    scores = self._context.scorer.scores(
        self._context.studies, self.prompts).tcsim
    if self._context.spec is not None:
      order = np.argsort(-table["dice"], kind="stable")
      best, worst = order[:_SHOWN], order[_SHOWN:][::-1][:_SHOWN]
      return [self._text_example(table, n, group, scores)
              for group, chosen in (("Best overlap", best),
                                    ("Worst overlap", worst))
              for n in chosen]
    first = {}
    for n, name in enumerate(table["finding"]):
      first.setdefault(name.split(",")[0], n)
    return [self._finding_example(table, n, scores) for n in first.values()]

  def _finding_example(self, table, n: int, scores) -> Example:
    row, k = int(table["record"][n]), int(table["slot"][n])
    name = str(table["finding"][n])
    example = self._context.studies.example(row)
    f = int(example["item_finding"][k])
    hit = "lies on" if table["top1"][n] >= 0.5 else "misses"
    return Example(
        row=row, text=self.prompts[f], group="Where it looks",
        caption=f"{name}: the most attended token {hit} the lesion (study "
                f"{table['study_id'][n]}).",
        score=float(scores[row, f]),
        lesion_mask=example["lesion_mask"] == k + 1,
        visible=example["item_visible"][k])

  def _text_example(self, table, n: int, group: str, scores) -> Example:
    row, s = int(table["record"][n]), int(table["series_number"][n])
    example = self._context.studies.example(row)
    return Example(
        row=row, text=self.prompts[0], group=group,
        caption=f"IoU {table['iou'][n]:.2f}, Dice {table['dice'][n]:.2f} in "
                f"{table['series'][n]} (study {table['study_id'][n]}).",
        score=float(scores[row, 0]), lesion_mask=example["lesion_mask"] > 0,
        visible=np.arange(len(example["names"])) == s)


def measure(name: str, table: Table, meta: dict) -> measures.Measures:
  """Means over the rows that define a number."""
  numbers = (_FINDING_NUMBERS if meta["text"] is None
             else {c: f"{name}/{c}" for c in _TEXT_NUMBERS})
  return measures.means(
      tuple(numbers.values()),
      np.stack([np.asarray(table[c], float) for c in numbers], axis=1))


def expected_token_dice(
    mask: np.ndarray,       # [..., D, H, W] bool
    grid: tuple[int, ...],  # (d, h, w)
    k: int,
) -> float:
  """Dice that k distinct random tokens have on average.

  Exact: Dice is linear in the lesion's part that the tokens cover. NaN when
  the mask is empty.
  """
  share = metrics.token_share(mask, grid)
  if not share.any():
    return float("nan")
  return float(2 * k * share.mean() / (share.sum() + k))


def _pattern(name: str, pattern: str) -> re.Pattern:
  try:
    return re.compile(pattern, re.IGNORECASE)
  except re.error as error:
    raise UserError(f"Prompt set {name!r} looks for the series {pattern!r}, "
                    f"which is no regular expression ({error}); mend "
                    "options/series.") from error
