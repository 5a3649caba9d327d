"""Zero-shot AUC organ by organ: a prompt asks the organ that it is about.

An organ is seen in a window of its own, centred on its box as far as the volume
allows, of the size "roi" of the prompt set, or as large as the organ where that
is more. The score of a task is P(yes), the softmax over "no" and "yes" of the
cosine with the organ's vector times the logit scale. An organ that is not there
scores 0. Numbers and their names are those of `zeroshot_auc`, where

    tcsim     is the organ in its own window
    global    the organ in the middle of the volume, cut or padded to the
              model's size: one pass for all organs

Windows beyond the roi grow in steps of a quarter of it, so that few sizes
compile, and show more of the volume for it; the public code grows them voxel by
voxel and pads with zeros to whole patches.

Reference: Shui et al. 2025, https://arxiv.org/abs/2501.14548, section 4.2, and
its public code.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm

from itemclip_jax.data import organs
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators import zeroshot_auc
from itemclip_jax.evaluators.context import Context, Table
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.parallel import multihost

measure = zeroshot_auc.measure


class View(NamedTuple):
  """A window of a study.

  Attributes:
    row: number of the study.
    organ: the one that it was cut for; None: all, the middle.
    volume: [1, d, h, w].
    organ_mask: [d, h, w].
  """
  row: int
  organ: int | None
  volume: np.ndarray
  organ_mask: np.ndarray


class Evaluator(zeroshot_auc.Evaluator):
  """One row per study: its score and label in every task.

  Raises:
    UserError: there is no prompt set of pairs, or a task names an organ that
      the data set does not have.
  """
  REQUIRES = ("labels", "organ_mask")

  def __init__(self, context: Context):
    spec = context.spec
    if spec is None or spec.kind != "pair" or spec.combine != "mean":
      raise UserError(f"{context.name} wants a prompt set of kind "
                      "'pair' that combines by 'mean'; name fvlm_ct_rate, or a "
                      "file of your own.")
    super().__init__(context)
    self.prompts = ()   # none is compared with whole studies
    have = context.studies.split.organs
    for task, asked in self._tasks.items():
      if asked.organ not in have:
        raise UserError(f"Task {task!r} of {context.name} is about the organ "
                        f"{asked.organ!r}; the data set has {', '.join(have)}.")
    model = context.config.vision
    self._roi = tuple(spec.options.get("roi", model.volume_shape))
    if len(self._roi) != 3:
      raise UserError(f"'roi' of {context.name} is {list(self._roi)}; want D, "
                      "H, W in voxels.")
    self._patch = model.patch

  def meta(self) -> dict[str, Any]:
    """As of zeroshot_auc, and which organ answers."""
    return super().meta() | {
        "roi": list(self._roi),
        "organs": {task: asked.organ for task, asked in self._tasks.items()}}

  def _scores(self, studies: Studies) -> Table:
    scorer, names = self._context.scorer, studies.split.organs
    vector = {text: v / np.linalg.norm(v) for asked in self._tasks.values()
              for texts in (asked.prompts, asked.negatives)
              for text, v in zip(texts, scorer.texts(texts).astype(float))}
    out = {}
    for kind, seen in zip(("tcsim", "global"), self._seen(studies)):
      for task, asked in self._tasks.items():
        organ = seen[:, names.index(asked.organ)].astype(float)     # [n, E]
        yes, no = (np.stack([vector[t] for t in texts])
                   for texts in (asked.prompts, asked.negatives))
        each = 1 / (1 + np.exp(-scorer.logit_scale * organ @ (yes - no).T))
        out[f"{kind}/{task}"] = np.where(organ.any(1), each.mean(1), 0.0)
    return out

  def _seen(self, studies: Studies) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [n, R, E] by windows and by the middle; 0 = not there."""
    own = whole = None
    for views in _batches(self._views(studies), studies.batch):
      # What lies behind the last view repeats it; nobody reads the answers.
      filled = views + views[-1:] * (studies.batch - len(views))
      vectors = self._context.scorer.organs(
          np.stack([v.volume for v in filled]),
          np.stack([v.organ_mask for v in filled]))
      if own is None:
        own, whole = np.zeros((2, len(studies), *vectors.shape[1:]), np.float32)
      for view, found in zip(views, vectors):
        if view.organ is None:
          whole[view.row] = found
        else:
          own[view.row, view.organ] = found[view.organ]
    return own, whole

  def _views(self, studies: Studies) -> Iterator[View]:
    """All windows of all studies; every process reads them all."""
    air = studies.make_example.air
    names, shape = studies.split.organs, self._context.config.vision
    asked = {names.index(task.organ) for task in self._tasks.values()}
    rows = tqdm.tqdm(range(len(studies)), desc="organs", unit="study",
                     leave=False, disable=not multihost.is_main())
    for row in rows:
      study = studies.split.study(row)
      view = organs.crop(study, shape.volume_shape, None, air=air)
      yield View(row, None, view["volume"][:1], view["organ_mask"])
      for organ, box in organs.boxes(study["organ_mask"]).items():
        if organ in asked:
          view = organs.moved(study, *window(
              study["organ_mask"].shape, box, self._roi, self._patch), air=air)
          yield View(row, organ, view["volume"][:1], view["organ_mask"])


def window(
    have: tuple[int, int, int],    # D, H, W of the volume
    box: np.ndarray,               # [3, 2] of an organ, see organs.boxes
    roi: tuple[int, int, int],     # its least size
    patch: tuple[int, int, int],
) -> tuple[tuple[int, int, int], np.ndarray]:
  """Size and offset, as in volume.fit, of the window that shows an organ.

  It is moved off the organ's centre only where it would leave the volume.
  """
  least = -(-np.array(roi) // patch)                      # tokens
  more = np.maximum(-(-(box[:, 1] - box[:, 0]) // patch) - least, 0)
  step = -(-least // 4)
  size = (least + -(-more // step) * step) * patch
  slack = np.subtract(have, size)
  offset = np.clip(box.sum(1) // 2 - size // 2,
                   np.minimum(slack, 0), np.maximum(slack, 0))
  return tuple(size.tolist()), offset


def _batches(views: Iterator[View], size: int) -> Iterator[list[View]]:
  """Views of one shape together, at most `size`."""
  waiting: dict[tuple, list[View]] = {}
  for view in views:
    same = waiting.setdefault(view.volume.shape, [])
    same.append(view)
    if len(same) == size:
      yield waiting.pop(view.volume.shape)
  yield from waiting.values()
