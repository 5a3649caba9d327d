"""One model's answers about encoded studies: scores, ranks' blocks, attention.

Studies are read back batch by batch and spread over all devices; texts are
compared in blocks. Nothing here holds more than one batch of studies, the
texts' queries (8 E bytes a text) and one block of scores, but for `scores`,
which returns them all.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import tqdm

from itemclip_jax.data.tokens import Tokenizer
from itemclip_jax.errors import UserError
from itemclip_jax.evaluators.embed import Encoder, Features, Texts
from itemclip_jax.evaluators.features import Studies
from itemclip_jax.parallel import multihost, sharding

TEXT_BATCH = 64     # texts encoded at a time
TEXT_BLOCK = 1024   # texts compared at a time, between two looks at the host


class Scores(NamedTuple):
  """Of n studies and P texts."""
  tcsim: np.ndarray   # [n, P] float32
  cosine: np.ndarray  # [n, P] float32, with the global vector


class Scorer:
  """One model.

  Attributes:
    logit_scale: what the objective multiplies a cosine with.
    logit_bias: what it then adds.
  """

  def __init__(self, encoder: Encoder, params, tokenizer: Tokenizer, mesh, *,
               grid: tuple[int, int, int], quiet: bool = False):
    self._encoder, self._params, self._mesh = encoder, params, mesh
    self._tokenizer, self._grid = tokenizer, grid
    self._quiet = quiet or not multihost.is_main()
    self._known: dict[tuple[int, str], Scores] = {}
    self._embedded: dict[str, np.ndarray] = {}
    self.logit_scale = float(np.exp(params["logit_scale"]))
    self.logit_bias = float(params["logit_bias"])

  def texts(self, texts: Sequence[str]) -> np.ndarray:
    """[P, E] float32, not normalised; equal texts are encoded once."""
    new = [t for t in dict.fromkeys(texts) if t not in self._embedded]
    if any(not t.strip() for t in new):
      raise UserError("A text to be scored is empty; look at the prompts and "
                      "the items of the data set.")
    cut = 0
    for first in self._bar(range(0, len(new), TEXT_BATCH), "texts", "batch",
                           hide=len(new) <= TEXT_BATCH):
      some = new[first:first + TEXT_BATCH]
      ids = self._tokenizer(some + [some[-1]] * (TEXT_BATCH - len(some)))
      cut += int((ids[:len(some), -1] != 0).sum())
      with jax.set_mesh(self._mesh):
        rows = multihost.to_host(self._encoder.embed(self._params, ids))
      self._embedded |= zip(some, np.asarray(rows, np.float32))
    if cut:
      self._say(f"{cut} of {len(new)} texts fill all {ids.shape[1]} word "
                "pieces that the model reads; what is behind them is cut.")
    return np.stack([self._embedded[t] for t in texts])

  def organs(self, volume: np.ndarray, organ_mask: np.ndarray) -> np.ndarray:
    """Unit vectors [b, R, E] of the organs in b windows, float32.

    Args:
      volume: [b, 1, D, H, W] stored voxels; b is a whole batch, and every
        process gives the same one.
      organ_mask: [b, D, H, W] uint8, r + 1 on organ r.

    Raises:
      UserError: the model has no queries of organs.
    """
    if not self._encoder.model.config.joint.organs:
      raise UserError("The model looks at no organs; train one with "
                      "joint.organs=R, or leave organ_zeroshot out of "
                      "config.eval.evaluators.")
    share = len(volume) // jax.process_count()
    rows = slice(jax.process_index() * share, None)
    local = {"volume": volume, "mask": np.ones(volume.shape[:2], bool),
             "organs": organ_mask}
    inputs = multihost.to_global(
        {k: v[rows][:share] for k, v in local.items()}, self._mesh)
    with jax.set_mesh(self._mesh):
      out = self._encoder.organs(self._params, inputs["volume"],
                                 inputs["mask"], inputs["organs"])
    return np.asarray(multihost.to_host(out), np.float32)

  def prefetch(self, studies: Studies, texts: Iterable[str]):
    """Scores texts in one pass, so that `scores` has them at hand."""
    texts = [t for t in dict.fromkeys(texts)
             if (id(studies), t) not in self._known]
    if not texts:
      return
    both = self._all(studies, self.texts(texts), normalise=True)
    self._known |= {(id(studies), t): Scores(both.tcsim[:, i],
                                             both.cosine[:, i])
                    for i, t in enumerate(texts)}

  def scores(self, studies: Studies, texts: Sequence[str] | np.ndarray
             ) -> Scores:
    """All studies with texts, or text vectors [P, E], by the zero-shot rule."""
    if isinstance(texts, np.ndarray):
      return self._all(studies, texts, normalise=True)
    self.prefetch(studies, texts)
    rows = [self._known[id(studies), t] for t in texts]
    return Scores(*(np.stack(x, 1) for x in zip(*rows)))

  def _all(self, studies, embedded, *, normalise) -> Scores:
    parts = list(self.blocks(studies, embedded, normalise=normalise))
    return Scores(np.concatenate([p[1] for p in parts]),
                  np.concatenate([p[2] for p in parts]))

  def blocks(self, studies: Studies, texts: Sequence[str] | np.ndarray, *,
             normalise: bool, text_block: int = TEXT_BLOCK
             ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields studies [b], TCSim [b, P] and cosine [b, P], batch by batch.

    `normalise` is that of tokens and texts before the attention: True is the
    published zero-shot rule, False that of retrieval and training.
    """
    embedded = self._embed(texts)
    blocks = self._ask(embedded, normalise, text_block)
    for step in self._bar(range(studies.steps), f"{len(embedded)} texts",
                          "batch"):
      rows = studies.rows(step)
      with jax.set_mesh(self._mesh):
        encoded = self._prepare(studies.local(step), normalise)
        parts = [multihost.to_host(
            self._encoder.scores(self._params, encoded, block))
                 for block in blocks]
      tcsim, cosine = (
          np.concatenate(x, 1)[:len(rows), :len(embedded)].astype(np.float32)
          for x in zip(*parts))
      yield rows, tcsim, cosine

  def pairs(self, studies: Studies, texts: Sequence[str] | np.ndarray,
            which: Sequence[np.ndarray], *, normalise: bool
            ) -> list[np.ndarray]:
    """TCSim of each study with its own choice of texts.

    Args:
      studies: n of them.
      texts: P texts or their vectors [P, E].
      which: for each study the numbers of its texts; any count, even none.
      normalise: as in `blocks`.
    """
    asked = self._ask_all(self._embed(texts), normalise)
    out = []
    for step in self._bar(range(studies.steps), "chosen pairs", "batch"):
      mine = [np.asarray(which[row], int) for row in studies.rows(step)]
      size = _rounded(max(map(len, mine)), 64)
      if not size:
        out += [np.zeros(0, np.float32) for _ in mine]
        continue
      table = np.zeros((studies.batch, size), np.int32)
      for i, one in enumerate(mine):
        table[i, :len(one)] = one
      with jax.set_mesh(self._mesh):
        encoded = self._prepare(studies.local(step), normalise)
        got = multihost.to_host(self._encoder.chosen(
            self._params, encoded, asked, self._share(table)))
      out += [got[i, :len(one)].astype(np.float32)
              for i, one in enumerate(mine)]
    return out

  def attention(self, studies: Studies, which: dict[int, Sequence[str]]
                ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields study and attention [n, S, d, h, w] of its n texts, float32.

    The mean over heads, by the zero-shot rule, without the zero slot; padded
    series have none. Studies come in record order; others are not read.
    """
    which = {row: texts for row, texts in which.items() if len(texts)}
    if not which:
      return
    names = list(dict.fromkeys(t for texts in which.values() for t in texts))
    number = {t: i for i, t in enumerate(names)}
    asked = self._ask_all(self._embed(names), True)
    most = max(map(len, which.values()))
    steps = sorted({row // studies.batch for row in which})
    for step in self._bar(steps, "attention", "batch"):
      rows = studies.rows(step)
      table = np.zeros((studies.batch, most), np.int32)
      for i, row in enumerate(rows):
        texts = which.get(int(row), ())
        table[i, :len(texts)] = [number[t] for t in texts]
      with jax.set_mesh(self._mesh):
        encoded = self._prepare(studies.local(step), True)
        weights = multihost.to_host(self._encoder.attention(
            encoded, asked, self._share(table)))
      for i, row in enumerate(rows):
        if int(row) in which:
          one = weights[i, :len(which[int(row)])].astype(np.float32)
          yield int(row), one.reshape(len(one), -1, *self._grid)

  def region(self, studies: Studies, row: int, token_mask: np.ndarray,
             texts: Sequence[str] | np.ndarray, *, normalise: bool = True,
             text_block: int = TEXT_BLOCK) -> np.ndarray:
    """TCSim [P] of one study whose attention sees some tokens only.

    Args:
      studies: of which it is one.
      row: which.
      token_mask: [S, d, h, w] bool, the tokens that are seen.
      texts: P texts or their vectors [P, E].
      normalise: as in `blocks`.
      text_block: texts that each device compares at a time.

    Raises:
      UserError: the mask shows no token of the study.
    """
    embedded = self._embed(texts)
    one = studies.features(np.array([row]))
    seen = one["mask"] & token_mask.reshape(1, -1)
    if not seen.any():
      raise UserError(f"The box shows no token of study "
                      f"{studies.study_id[row]!r}; choose a larger one.")
    asked = self._ask_all(embedded, normalise)
    # Every device holds the study and compares it with other texts.
    copies = self._mesh.size
    one = {k: np.repeat(v, copies // jax.process_count(), 0)
           for k, v in (one | {"mask": seen}).items()}
    size = min(text_block, _rounded(len(embedded), 64))
    out = []
    with jax.set_mesh(self._mesh):
      encoded = self._prepare(one, normalise)
      for first in range(0, len(embedded), copies * size):
        table = np.arange(first, first + copies * size).reshape(copies, size)
        table = np.minimum(table, len(embedded) - 1).astype(np.int32)
        out.append(multihost.to_host(self._encoder.chosen(
            self._params, encoded, asked, self._share(table))).ravel())
    return np.concatenate(out)[:len(embedded)].astype(np.float32)

  def _embed(self, texts) -> np.ndarray:
    return texts if isinstance(texts, np.ndarray) else self.texts(texts)

  def _prepare(self, local: dict[str, np.ndarray], normalise: bool):
    features = Features(**multihost.to_global(local, self._mesh))
    return self._encoder.prepare(self._params, features, normalise=normalise)

  def _ask(self, embedded, normalise, text_block) -> list[Texts]:
    """Queries in blocks of one size, the last filled with its first row."""
    size = min(text_block, _rounded(len(embedded), 16))
    blocks = []
    for first in range(0, len(embedded), size):
      block = embedded[first:first + size]
      block = _filled(block, size)
      with jax.set_mesh(self._mesh):
        blocks.append(self._encoder.ask(self._params, block,
                                        normalise=normalise))
    return blocks

  def _ask_all(self, embedded, normalise) -> Texts:
    """All queries in one array, of one of a few sizes, so that few compile."""
    filled = _filled(embedded, _rounded(len(embedded), 64))
    with jax.set_mesh(self._mesh):
      return self._encoder.ask(self._params, filled, normalise=normalise)

  def _share(self, table: np.ndarray) -> jax.Array:
    layout = sharding.batch_sharding(self._mesh)
    return jax.make_array_from_callback(table.shape, layout,
                                        lambda index: table[index])

  def _bar(self, steps, what: str, unit: str, hide: bool = False):
    return tqdm.tqdm(steps, desc=what, unit=unit, leave=False,
                     disable=hide or self._quiet)

  def _say(self, sentence: str):
    if not self._quiet:
      print(sentence, flush=True)


def _rounded(n: int, multiple: int) -> int:
  return -(-n // multiple) * multiple


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
  """[n, E] -> [size, E], the first row repeated behind the others."""
  return np.concatenate([rows, np.repeat(rows[:1], size - len(rows), 0)])
