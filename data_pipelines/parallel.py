"""Maps a function over jobs in several processes, in order, with a bar.

Order is kept and at most a few jobs per worker are under way, so that the
result does not depend on the number of workers and memory stays bounded.
"""

import collections
import concurrent.futures
import multiprocessing
import pathlib
from collections.abc import Callable, Iterator, Sequence

import tqdm

from data_pipelines import beam_runner
from data_pipelines.kept import Kept
from data_pipelines.result import Result

LOCAL = "local"

# Enough that no worker waits for the reader; each may hold a whole study.
_JOBS_PER_WORKER = 4


class Workers:
  """`with Workers(2) as workers: for y in workers.map(f, jobs, title=...)`."""

  def __init__(self, num_workers: int, *, keep: pathlib.Path | None = None,
               runner: str = LOCAL, runner_options: Sequence[str] = ()):
    """Processes on this machine, and those of `runner` for records.

    Args:
      num_workers: processes here.
      keep: where finished records wait for their shard; None: nowhere.
      runner: "local", or the name of an Apache Beam runner; wants `keep`.
      runner_options: "name=value" of that runner.
    """
    self._num, self._keep = num_workers, keep
    self._runner, self._runner_options = runner, tuple(runner_options)
    self._pool = None

  def __enter__(self) -> "Workers":
    if self._num > 1:
      # Spawned, not forked: the parent holds threads of its libraries.
      self._pool = concurrent.futures.ProcessPoolExecutor(
          self._num, mp_context=multiprocessing.get_context("spawn"))
    return self

  def __exit__(self, *_):
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)

  def map(self, fn: Callable, jobs: Sequence, *, title: str) -> Iterator:
    """Yields `fn(job)` in the order of `jobs`; shows the time left."""
    results = map(fn, jobs) if self._pool is None else self._windowed(fn, jobs)
    yield from tqdm.tqdm(
        results, desc=title, total=len(jobs), unit="study", mininterval=0.5)

  def records(self, fn: Callable[..., Result], jobs: Sequence, *,
              title: str) -> Iterator[Result]:
    """`map` of the costly kind: what is done is kept until the set is built.

    A job is named by its `repr`, which must tell all that the result depends on
    (but for the content of raw files) and be the same in every process.
    """
    if self._keep is None:
      yield from self.map(fn, jobs, title=title)
      return
    kept = Kept(fn, self._keep)
    if self._runner != LOCAL:
      beam_runner.run(kept, jobs, runner=self._runner,
                      options=self._runner_options, folder=self._keep)
    for outcome, job in zip(self.map(kept, jobs, title=title), jobs):
      yield kept.load(outcome, job)

  def _windowed(self, fn: Callable, jobs: Sequence) -> Iterator:
    under_way = collections.deque()
    for job in jobs:
      under_way.append(self._pool.submit(fn, job))
      if len(under_way) >= _JOBS_PER_WORKER * self._num:
        yield under_way.popleft().result()
    while under_way:
      yield under_way.popleft().result()
