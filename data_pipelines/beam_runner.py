"""Apache Beam as the workers of a build: one archive, many machines.

Only the costly part runs there, raw files -> files of `kept.Kept`; shards are
written by the process that was started, from those files, whatever the runner.
So every runner gives the same bytes, and --source and --out must lie on a disk
that all machines share.
"""

import pathlib
import pickle
from collections.abc import Callable, Sequence

from data_pipelines.errors import PrepareError

_JOBS_PER_FILE = 256  # runners limit the size of a pipeline, so jobs are files


def run(fn: Callable, jobs: Sequence, *, runner: str, options: Sequence[str],
        folder: pathlib.Path):
  """Calls `fn` once for every job, anywhere; its results are its files.

  Args:
    fn: can be pickled.
    jobs: can be pickled.
    runner: of Beam, e.g. "direct" or "FlinkRunner".
    options: of that runner, "name=value" or "name".
    folder: shared; holds the lists of jobs.

  Raises:
    PrepareError: Beam is not installed, or knows no such runner or option.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise PrepareError(f"--runner={runner} wants Apache Beam; install it with "
                       "`pip install 'itemclip_jax[beam]'` or use "
                       "--runner=local.") from error
  lists = _write_lists(jobs, folder)
  try:
    pipeline = beam.Pipeline(
        runner=runner, options=PipelineOptions([f"--{o}" for o in options]))
  except (ValueError, AttributeError, ImportError, SystemExit) as error:
    raise PrepareError(f"Apache Beam cannot start --runner={runner} with "
                       f"{list(options)} ({error}); use one of its runners "
                       "such as direct, or --runner=local.") from error
  with pipeline:
    (pipeline | beam.Create([str(path) for path in lists])
     | beam.FlatMap(_read_list)
     | beam.Reshuffle()     # or one machine would do a whole list
     | beam.Map(_call, fn))


def _write_lists(
    jobs: Sequence, folder: pathlib.Path) -> list[pathlib.Path]:
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for start in range(0, len(jobs), _JOBS_PER_FILE):
    path = folder / f"jobs-{start:08d}.pickle"
    path.write_bytes(pickle.dumps(jobs[start:start + _JOBS_PER_FILE]))
    paths.append(path)
  return paths


def _read_list(path: str) -> list:
  return pickle.loads(pathlib.Path(path).read_bytes())


def _call(job, fn: Callable):
  fn(job)  # the result is a file; what it returns stays where it was made
