"""Compares objectives, losses and systems at equal cost, and publishes it.

    python -m itemclip_jax.tools.study --name=objectives --budget=small
    python -m itemclip_jax.tools.study --name=objectives --budget=full --seeds=3
    python -m itemclip_jax.tools.study --table_only

What is compared stands in configs/study/<name>.py: rows of settings that share
data, steps, tower and optimiser. Each row with each seed is one run, and each
finished run one file docs/study/<name>/<row>-<budget>-seed<k>.json. A run that
has its file is not done again, and one that was interrupted goes on, so the
same command finishes a study; files of other seeds, or from other machines, are
counted in. docs/study.md and the figures follow from these files alone.
"""

import concurrent.futures
import pathlib
import signal
import sys
import threading

from absl import flags
from absl import logging
import tqdm

from itemclip_jax.config.comparison import Study
from itemclip_jax.errors import UserError
from itemclip_jax.tools import command
from itemclip_jax.tools.comparison import definition, figure, page
from itemclip_jax.tools.comparison import record as record_lib
from itemclip_jax.tools.comparison import work
from itemclip_jax.train import interruption

FLAGS = flags.FLAGS


def jobs_of(study: Study, file: pathlib.Path, *, work_dir: pathlib.Path,
            budget: str, seeds: tuple[int, ...] = (),
            rows: tuple[str, ...] = ()) -> list[work.Job]:
  """Every run that was asked for, seed by seed, rows that start others first.

  Args:
    seeds: () = those of the budget.
    rows: () = all.

  Raises:
    UserError: the study has no such budget or row.
  """
  if budget not in study.budgets:
    raise UserError(f"The study {file.stem} has no budget {budget!r}; have "
                    f"{', '.join(study.budgets)}.")
  if unknown := [r for r in rows if r not in study.rows]:
    raise UserError(f"The study {file.stem} has no row {unknown[0]!r}; have "
                    f"{', '.join(study.rows)}.")
  chosen = sorted(rows or study.rows_of(budget),
                  key=lambda r: bool(study.rows[r].start))
  return [work.Job(study=study, file=file, work=work_dir, row=row,
                   budget=budget, seed=seed)
          for seed in seeds or study.budgets[budget].seeds for row in chosen]


def run_all(jobs: list[work.Job], out: pathlib.Path, run: work.Runner, *,
            parallel: int = 1) -> list[str]:
  """Runs the jobs that have no record in `out`; returns what failed.

  Raises:
    UserError: a record is of other settings than its row now has.
  """
  left = [job for job in jobs if not _is_done(job, out)]
  print(f"{len(jobs)} runs, {len(jobs) - len(left)} of them done.")
  failed, bar = [], _Bar(left)
  try:
    for job in {job.data: job for job in left}.values():
      bar.say(f"data {job.data.name}")
      work.prepare(job, run)
  except work.RunFailed as error:
    bar.close()
    return [f"{job.data.name}: {error}"]
  with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
    waiting = {pool.submit(_run_one, job, out, run, bar): job for job in left}
    try:
      for done in concurrent.futures.as_completed(waiting):
        job = waiting[done]
        try:
          done.result()
        except (work.RunFailed, UserError) as error:
          failed.append(f"{job.folder.name}: {error}")
    except BaseException:   # Ctrl-C: nothing new begins, what runs is ended
      pool.shutdown(wait=False, cancel_futures=True)
      if isinstance(run, work.Processes):
        run.end()
      raise
    finally:
      bar.close()
  return failed


def _is_done(job: work.Job, out: pathlib.Path) -> bool:
  path = out / job.file.stem / record_lib.file_name(
      job.row, job.budget, job.seed)
  if not path.exists():
    return False
  record_lib.require_settings(path, record_lib.read(path), job.settings(),
                              job.file)
  return True


def _run_one(job: work.Job, out: pathlib.Path, run: work.Runner, bar: "_Bar"):
  bar.say(f"{job.file.stem} {job.row}, seed {job.seed}")
  found = work.finish(job, run, lambda: bar.at(job))
  record_lib.write(out / job.file.stem, found)
  bar.at(job)


class _Bar:
  """One bar over the steps of all runs that are left."""

  def __init__(self, jobs: list[work.Job]):
    self._lock = threading.Lock()
    self._seen = {job.folder: 0 for job in jobs}
    # The mean over everything so far: an evaluation is time, but no step.
    self._bar = tqdm.tqdm(total=sum(job.steps for job in jobs), unit="step",
                          smoothing=0, disable=not jobs)

  def say(self, text: str):
    with self._lock:
      self._bar.set_description(text)

  def at(self, job: work.Job):
    """Reads how far a run is."""
    with self._lock:
      step = job.steps if job.trained else min(job.step(), job.steps)
      self._bar.update(max(0, step - self._seen[job.folder]))
      self._seen[job.folder] = max(step, self._seen[job.folder])

  def close(self):
    self._bar.close()


def publish(studies: dict[str, Study], out: pathlib.Path) -> pathlib.Path:
  """Writes the page and the figures from the records; returns the page."""
  records = {name: record_lib.read_all(out / name) for name in studies}
  path = out.with_suffix(".md")
  page.write(path, studies, records)
  for name, study in studies.items():
    if records[name]:
      figure.draw(study, records[name]).savefig(out / f"{name}.png", dpi=130)
  return path


def main(argv):
  del argv
  logging.set_verbosity(logging.ERROR)
  folder, out = pathlib.Path(FLAGS.studies), pathlib.Path(FLAGS.out)
  failed = []
  if not FLAGS.table_only:
    if not FLAGS.name:
      raise UserError("Name a study with --name, one of "
                      f"{', '.join(definition.names(folder))}; or write the "
                      "tables of what is there with --table_only.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    study = definition.load(folder, FLAGS.name)
    jobs = jobs_of(
        study, folder / f"{FLAGS.name}.py", work_dir=pathlib.Path(FLAGS.work),
        budget=FLAGS.budget, seeds=_seeds(), rows=tuple(FLAGS.rows))
    try:
      failed = run_all(jobs, out, work.Processes(), parallel=FLAGS.parallel)
    except KeyboardInterrupt:
      print("itemclip_jax: Ended as asked; start the same command again to go "
            "on.", file=sys.stderr)
      sys.exit(interruption.EXIT_CODE)
  print(publish(definition.load_all(folder), out))
  if failed:
    print("itemclip_jax: not all runs ended well; the same command tries them "
          "again.\n" + "\n".join(failed), file=sys.stderr)
    sys.exit(1)


def _seeds() -> tuple[int, ...]:
  try:
    return tuple(dict.fromkeys(int(s) for s in FLAGS.seeds))
  except ValueError as error:
    raise UserError(f"--seeds={','.join(FLAGS.seeds)} are no numbers such as "
                    "0,1.") from error


if __name__ == "__main__":
  flags.DEFINE_string("name", "", "The study: a file of --studies.")
  flags.DEFINE_string("budget", "small", "small (under 20 minutes on two cores)"
                      " or full.")
  flags.DEFINE_list("seeds", [], "Seeds, 0,1,...; those of the budget unless "
                    "given.")
  flags.DEFINE_list("rows", [], "Only these rows of the study.")
  flags.DEFINE_string("out", "docs/study", "Folder of the records; the page is "
                      "beside it.")
  flags.DEFINE_string("work", "runs/study", "Folder of data sets and runs.")
  flags.DEFINE_string("studies", "configs/study", "Folder of the definitions.")
  flags.DEFINE_integer("parallel", 1, "Runs at a time.", lower_bound=1)
  flags.DEFINE_bool("table_only", False, "Run nothing; write page and figures "
                    "from the records.")
  command.run(main)
