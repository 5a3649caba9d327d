"""Maps a function over jobs in several processes, in order, with a bar.

Order is kept and at most a few jobs per worker are under way, so that the
result does not depend on the number of workers and memory stays bounded.
"""

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence

import tqdm

# Enough that no worker waits for the reader; each may hold a whole study.
_JOBS_PER_WORKER = 4


class Workers:
  """`with Workers(2) as workers: for y in workers.map(f, jobs, title=...)`."""

  def __init__(self, num_workers: int):
    self._num = num_workers
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

  def _windowed(self, fn: Callable, jobs: Sequence) -> Iterator:
    under_way = collections.deque()
    for job in jobs:
      under_way.append(self._pool.submit(fn, job))
      if len(under_way) >= _JOBS_PER_WORKER * self._num:
        yield under_way.popleft().result()
    while under_way:
      yield under_way.popleft().result()
