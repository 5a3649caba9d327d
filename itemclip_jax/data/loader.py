"""ArrayRecord -> this process's rows of a batch, a pure function of the step.

Which records form batch n follows from (seed, n) alone: in every epoch records
are permuted within their bucket of series counts, cut into whole batches (what
is left over waits for another epoch), and the batches are permuted. Shuffling
inside a record draws from (seed, epoch, record). So the number of hosts,
threads and restarts change nothing, and the position in the data is the step.

`data.expert_batch` further rows end every batch: studies with a heatmap, which
are permuted and cut in the same way by themselves. Where there are fewer of
them than rows they are repeated, and each row draws for itself. Or
(eclip.expert_rows = "own") they are those among the batch's own studies, with
the same draws, and what is left over is no real example.
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import itertools
import threading
from typing import Literal, NamedTuple

import grain
import numpy as np

from itemclip_jax.config import schema
from itemclip_jax.data.example import MakeExample
from itemclip_jax.data.record import Split
from itemclip_jax.errors import UserError

ITEM_SEPARATOR = "\x1f"
_EXPERTS = 1 << 32  # added to the seed: expert rows are drawn independently


# eq=False: hashed by identity, `lru_cache` asks for the hash of every row.
@dataclasses.dataclass(frozen=True, eq=False)
class Order:
  """The record numbers of every batch of a run.

  Attributes:
    num_series: series of each record, in record order.
    global_batch: B.
    buckets: largest series counts, increasing; records with more than the
      last one belong to it and are cut.
    seed: of the run.
  """
  num_series: tuple[int, ...]
  global_batch: int
  buckets: tuple[int, ...]
  seed: int

  def __post_init__(self):
    if not self.batches_per_epoch:
      raise UserError(
          f"The training split has {len(self.num_series)} studies, in buckets "
          f"of {[len(m) for m in self._members]}; train.global_batch = "
          f"{self.global_batch} needs that many in one bucket. Lower it.")

  @functools.cached_property
  def _members(self) -> list[np.ndarray]:
    counts = np.minimum(self.num_series, self.buckets[-1])
    bucket = np.searchsorted(self.buckets, counts)
    return [np.flatnonzero(bucket == i) for i in range(len(self.buckets))]

  @functools.cached_property
  def batches_per_epoch(self) -> int:
    return sum(len(m) // self.global_batch for m in self._members)

  @functools.lru_cache(maxsize=4)
  def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Records [batches, B] and series counts [batches] of one epoch."""
    rng = np.random.default_rng([self.seed, number])
    batches, series = [], []
    for members, size in zip(self._members, self.buckets):
      whole = len(members) // self.global_batch
      shuffled = rng.permutation(members)[:whole * self.global_batch]
      batches.append(shuffled.reshape(whole, self.global_batch))
      series += [size] * whole
    order = rng.permutation(len(series))
    return np.concatenate(batches)[order], np.array(series)[order]

  def batch(self, step: int) -> tuple[np.ndarray, int, int]:
    """Records [B], series count and epoch of one step's global batch."""
    epoch, place = divmod(step, self.batches_per_epoch)
    records, series = self.epoch(epoch)
    return records[place], int(series[place]), epoch


class Row(NamedTuple):
  """One row of a batch.

  record: its number; series: S of the batch; draw: seeds its random
  generator; expert: it is there for its heatmap; real: False = nothing of it
  counts.
  """
  record: int
  series: int
  draw: tuple[int, ...]
  expert: bool = False
  real: bool = True


# eq=False: as for `Order`.
@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
  """The rows of every batch of a run.

  Attributes:
    order: of the ordinary rows.
    experts: numbers of the records with a heatmap.
    expert_batch: rows added from them.
    expert_rows: see `config.systems.Eclip`.
  """
  order: Order
  experts: np.ndarray
  expert_batch: int
  expert_rows: Literal["drawn", "own"]

  @property
  def size(self) -> int:
    """Rows of a batch."""
    return self.order.global_batch + self.expert_batch

  @functools.cached_property
  def _expert_order(self) -> Order:
    count = len(self.experts)
    return Order((1,) * count, min(self.expert_batch, count), (1,),
                 self.order.seed + _EXPERTS)

  # Every row of a batch asks for the whole of it.
  @functools.lru_cache(maxsize=4)
  def rows(self, step: int) -> list[Row]:
    """Of one step's global batch, expert rows last."""
    records, series, epoch = self.order.batch(step)
    rows = [Row(int(r), series, (self.order.seed, epoch, int(r)))
            for r in records]
    if not self.expert_batch:
      return rows
    return rows + (self._own(rows) if self.expert_rows == "own"
                   else self._drawn(step, series))

  def _own(self, rows: list[Row]) -> list[Row]:
    looked_at = np.isin([r.record for r in rows], self.experts)
    chosen = [row._replace(expert=True)
              for row, is_one in zip(rows, looked_at) if is_one]
    filling = rows[-1]._replace(expert=True, real=False)
    return (chosen + [filling] * self.expert_batch)[:self.expert_batch]

  def _drawn(self, step: int, series: int) -> list[Row]:
    records = self.experts[self._expert_order.batch(step)[0]]
    # By their place, too, for one record may stand in several rows.
    return [
        Row(int(record), series,
            (self.order.seed, step, int(record), self.order.global_batch + i),
            expert=True)
        for i, record in enumerate(np.resize(records, self.expert_batch))]


def order_of(split: Split, config: schema.Config) -> Order:
  """The batch order of a run over `split`."""
  return Order(
      num_series=tuple(int(n) for n in split.index["num_series"]),
      global_batch=config.train.global_batch,
      buckets=config.data.series_buckets or (config.data.max_series,),
      seed=config.seed)


def batches_of(split: Split, config: schema.Config) -> Batches:
  """The batches of a run over `split`.

  Raises:
    UserError: expert rows are wanted and no study has a heatmap.
  """
  experts, wanted = np.flatnonzero(split.index["expert"]), (
      config.data.expert_batch)
  if wanted and not len(experts):
    raise UserError(
        f"data.expert_batch={wanted}, but no study of split "
        f"{config.data.train_split!r} in {config.data.root} has a heatmap; set "
        "it to 0 or build a set with heatmaps.")
  return Batches(order_of(split, config), experts, wanted,
                 config.eclip.expert_rows)


def train_loader(
    split: Split,
    make_example: MakeExample,
    *,
    steps: int,
    process: int = 0,
    num_processes: int = 1,
    first_step: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
  """Returns the iterator over this process's batches from `first_step` on."""
  config = make_example.config
  batches = batches_of(split, config)
  size = batches.size // num_processes

  def load(place: int, room) -> dict[str, np.ndarray]:
    step, number = divmod(place, size)
    row = batches.rows(step)[process * size + number]
    rng = np.random.default_rng(row.draw)
    example = make_example(split.study(row.record), row.series, rng,
                           expert=row.expert, room=room)
    return example | {"example_mask": np.bool_(row.real)}

  return _batched(load, range(first_step, steps), size, config)


def eval_batches(
    split: Split,
    make_example: MakeExample,
    *,
    batch: int,                  # of all processes together
    process: int = 0,
    num_processes: int = 1,
    first: int = 0,
):
  """Yields this process's rows of a split in record order, from batch `first`.

  Batch n holds the records n * batch and on, whatever the number of processes.
  What lies beyond the end repeats the last study under a False `example_mask`,
  so that all processes take the same number of steps. All series of a study
  are used, up to data.max_series. Adds `record` [batch], and `items` [batch]
  str: the stored items of a study, joined by `ITEM_SEPARATOR`.
  """
  config = make_example.config
  largest = int(split.index["num_series"].max())
  series = min(largest, config.data.max_series)
  total = len(split.source)
  rows = batch // num_processes

  def load(place: int, room) -> dict[str, np.ndarray]:
    step, row = divmod(place, rows)
    record = step * batch + process * rows + row
    study = split.study(min(record, total - 1))
    return make_example(study, series, room=room) | {
        "example_mask": np.bool_(record < total),
        "record": np.int64(min(record, total - 1)),
        "items": np.str_(ITEM_SEPARATOR.join(study["items"]))}

  yield from _batched(load, range(first, -(-total // batch)), rows, config)


class _Volumes:
  """The volumes of the batches that threads are filling."""

  def __init__(self, size: int):
    self._size, self._lock = size, threading.Lock()
    self._batches: dict[int, np.ndarray] = {}

  def row(self, place: int, shape: tuple[int, ...], dtype) -> np.ndarray:
    """Room for one example; raises ValueError where it is unlike others."""
    number, row = divmod(place, self._size)
    with self._lock:
      if number not in self._batches:
        self._batches[number] = np.empty((self._size, *shape), dtype)
      batch = self._batches[number]
    if batch.shape[1:] != shape or batch.dtype != dtype:
      raise ValueError(f"A volume of {shape} {dtype} in a batch of "
                       f"{batch.shape[1:]} {batch.dtype}.")
    return batch[row]

  def pop(self, number: int) -> np.ndarray:
    return self._batches.pop(number)


def _batched(
    load: Callable[..., dict[str, np.ndarray]],
    batches: range,              # their numbers
    size: int,
    config: schema.Config,
) -> Iterator[dict[str, np.ndarray]]:
  """Threads make examples, `data.prefetch` of them ahead.

  Each volume is written to its row of its batch right away: in memory are the
  batch that was given away, the one that comes, and those that the examples
  ahead belong to.

  Args:
    load: (place, room) -> example; row r of batch n has place n * size + r, and
      `room` is `MakeExample`'s.
  """
  volumes = _Volumes(size)

  def made(place: int) -> dict[str, np.ndarray]:
    example = load(place, functools.partial(volumes.row, place))
    return {k: v for k, v in example.items() if k != "volume"}

  places = grain.MapDataset.range(batches.start * size, batches.stop * size)
  ahead = iter(places.map(made).to_iter_dataset(grain.ReadOptions(
      num_threads=config.data.num_threads,
      prefetch_buffer_size=config.data.prefetch)))
  for number in batches:
    rest = _joined(itertools.islice(ahead, size), size)
    yield rest | {"volume": volumes.pop(number)}


def _joined(examples: Iterator[dict[str, np.ndarray]], size: int
            ) -> dict[str, np.ndarray]:
  """Stacks `size` examples, holding one of them at a time.

  Raises:
    UserError: they do not hold the same arrays.
  """
  batch, scalars = {}, {}
  for row, example in enumerate(examples):
    if not row:
      scalars = {k: [] for k, v in example.items() if not np.ndim(v)}
      batch = {k: np.empty((size, *v.shape), v.dtype)
               for k, v in example.items() if k not in scalars}
    if odd := example.keys() ^ (batch.keys() | scalars.keys()):
      raise UserError(f"Some studies of a batch have {', '.join(sorted(odd))} "
                      "and some have not; build the set again with all or "
                      "none of it.")
    for name, value in example.items():
      if name in scalars:     # texts among them: the longest one says the type
        scalars[name].append(value)
      else:                   # not an assignment: shapes and types must agree
        np.stack([value], out=batch[name][row:row + 1], casting="no")
  return batch | {k: np.stack(v) for k, v in scalars.items()}
