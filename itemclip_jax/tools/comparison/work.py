"""One run of a study: its data, its training, its evaluation, its record.

Each step is a process of its own, so that a crash costs one run and memory is
given back. What is done is not done again: a built set is used as it is, a
training goes on from its newest checkpoint, a finished one is not begun.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from itemclip_jax.config import comparison, schema
from itemclip_jax.errors import read_json
from itemclip_jax.tools.comparison import record as record_lib
from itemclip_jax.train.writer import write_json

# As tune_for_cpu of run.sh, which gives the reasons.
TUNING = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"
                      ":glibc.malloc.mmap_threshold=4294967296"
                      ":glibc.malloc.trim_threshold=8589934592",
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}

_AGAIN = "Delete its folder and start again."


class RunFailed(Exception):
  """A process of one run ended badly; the text names its log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """One row with one seed.

  Attributes:
    study: the definition.
    file: where it stands, configs/study/<name>.py.
    work: folder of all work directories of all studies.
  """
  study: comparison.Study
  file: pathlib.Path
  work: pathlib.Path
  row: str
  budget: str
  seed: int

  @property
  def steps(self) -> int:
    return self.study.steps(self.row, self.budget)

  @property
  def folder(self) -> pathlib.Path:
    """Work directory of the run."""
    return (self.work / self.file.stem /
            f"{self.row}-{self.budget}-seed{self.seed}")

  @property
  def data(self) -> pathlib.Path:
    """The built data set, shared by all studies."""
    return self.work / "data" / self.study.part(self.row).folder

  @property
  def start(self) -> "Job | None":
    """The run that this one goes on from."""
    start = self.study.rows[self.row].start
    return dataclasses.replace(self, row=start) if start else None

  @property
  def trained(self) -> bool:
    path = self.folder / "final.json"
    return path.exists() and read_json(path, _AGAIN)["step"] == self.steps

  @property
  def evaluated(self) -> bool:
    path, final = (self.folder / f"{n}.json" for n in ("results", "final"))
    return self.trained and path.exists() and (
        read_json(path, _AGAIN)["about"]["checkpoint"]["params_sha256"]
        == read_json(final, _AGAIN)["params_sha256"])

  def step(self) -> int:
    """The newest step in the log of a training, for a bar."""
    path = self.folder / "metrics.jsonl"
    with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
      return json.loads(path.read_text().splitlines()[-1])["step"]
    return 0

  def settings(self) -> dict:
    """What the record of this run will hold as its settings."""
    config = self.study.config(self.row)
    config.train.steps = self.steps
    return record_lib.settings_of(
        dataclasses.asdict(schema.from_config_dict(config)))

  def prepare_command(self) -> list[str]:
    part = self.study.part(self.row)
    return [sys.executable, "-m", "data_pipelines.prepare",
            f"--dataset={part.dataset}", f"--out={self.data}",
            *(f"--{k}={v}" for k, v in part.options.items())]

  def main_command(self, mode: str) -> list[str]:
    """Trains or evaluates it; people may start the same by hand."""
    start = self.start
    return [sys.executable, "-m", "itemclip_jax.main",
            f"--config={self.file}:{self.row}", f"--workdir={self.folder}",
            f"--mode={mode}", f"--config.seed={self.seed}",
            f"--config.train.steps={self.steps}",
            f"--config.data.root={self.data}",
            *([f"--config.train.start_from={start.folder}"] if start else [])]


# (command, log, tick, lock): runs it, calls `tick` now and then, keeps the
# file number `lock` open in it, raises RunFailed.
Runner = Callable[[list[str], pathlib.Path, Callable[[], None], int], None]


class Processes:
  """The `Runner` that starts processes; `end` ends all of them."""

  def __init__(self):
    self._ending = threading.Event()

  def __call__(self, command, log, tick, lock):
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as out:
      process = subprocess.Popen(
          command, stdout=out, stderr=subprocess.STDOUT, pass_fds=(lock,),
          env=TUNING | os.environ)
      try:
        while process.poll() is None and not self._ending.is_set():
          with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
          tick()
      finally:
        process.terminate()   # a training saves before it ends
        process.wait()
    if process.returncode:
      lines = log.read_text(errors="replace").strip().splitlines() or [""]
      raise RunFailed(f"{command[2]} ended with code {process.returncode}; "
                      f"see {log}. Its last line: {lines[-1][-300:]}")

  def end(self):
    """Ends what runs, and whatever is started later."""
    self._ending.set()


def prepare(job: Job, run: Runner):
  """Builds the data set of a job unless it is there."""
  with _held(job.data.with_name(f"{job.data.name}.lock")) as lock:
    run(job.prepare_command(), job.data.with_name(f"{job.data.name}.log"),
        lambda: None, lock)


def finish(job: Job, run: Runner, tick: Callable[[], None]
           ) -> record_lib.Record:
  """Does what is left of a run; returns its record.

  Raises:
    RunFailed: a process did.
    UserError: the evaluation lacks a number of the study.
  """
  _train(job, run, tick)
  with _held(job.folder / "lock") as lock:
    if not job.evaluated:
      with _timed(job.folder, "evaluate"):
        run(job.main_command("eval"), job.folder / "log.txt", tick, lock)
  return _record(job)


def _train(job: Job, run: Runner, tick: Callable[[], None]):
  if job.start:
    _train(job.start, run, lambda: None)
  with _held(job.folder / "lock") as lock:
    if not job.trained:
      with _timed(job.folder, "train"):
        run(job.main_command("train"), job.folder / "log.txt", tick, lock)


@contextlib.contextmanager
def _held(path: pathlib.Path):
  """Waits until nobody else works there; yields the number of the lock.

  A process that outlives a killed study has inherited the lock and keeps it.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "w", encoding="utf-8") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f"Another process is at work in {path.parent}; waiting for it.",
            file=sys.stderr)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield file.fileno()


@contextlib.contextmanager
def _timed(folder: pathlib.Path, what: str):
  """Adds the time within it to that of earlier tries."""
  path, began = folder / "seconds.json", time.perf_counter()
  try:
    yield
  finally:
    took = read_json(path, "Delete it.") if path.exists() else {}
    took[what] = took.get(what, 0.0) + time.perf_counter() - began
    write_json(path, took)


def _record(job: Job) -> record_lib.Record:
  results = read_json(job.folder / "results.json", _AGAIN)
  about = results.pop("about")
  settings = record_lib.settings_of(about["config"])
  headline = {n.name(job.study.rows[job.row])
              for n in job.study.part(job.row).numbers}
  seconds = read_json(job.folder / "seconds.json", _AGAIN)
  return record_lib.Record(
      row=job.row, budget=job.budget, seed=job.seed,
      steps=about["checkpoint"]["step"], settings=settings,
      settings_sha256=record_lib.digest(settings),
      params_sha256=about["checkpoint"]["params_sha256"],
      data={k: v for k, v in about["data"].items() if k != "root"},
      seconds={k: round(v, 1) for k, v in seconds.items()},
      machine={"cores": os.cpu_count()}, software=about["software"],
      numbers=results, resamples=record_lib.resamples(job.folder, headline))
